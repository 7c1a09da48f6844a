"""Checks of paths. A wrong output folder is found before anything is written to it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from emulator.core.errors import EmulatorError, ScenarioError

_DEEPEST = len("/.partial/experts/device-0000/") + 255 + len("/adapter_model.safetensors")
"""Length of the longest path of a file in a run's folder [bytes]; 255 is the longest name of a task."""


def check_place(out: Path) -> None:
    """Refuse an output folder that cannot be made or written to. This check makes nothing.

    Raises ScenarioError for a file, a broken link, a name or path that is too long for the file system,
    and a folder that this process may not write to.
    """
    try:
        _check_kind(out)
        there = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise _make_refusal(out, f"{there} is not one to write to")
        _check_lengths(out, there)
    except OSError as error:
        raise _make_refusal(out, error.strerror or str(error)) from None


def check_drawings_folder(out: Path) -> None:
    """Refuse an output folder with files that do not belong to an experiment. Raises ScenarioError."""
    entries = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
    if entries - {"runs"} and "table.md" not in entries:
        raise ScenarioError(
            [f"--out: got {out}, which holds no experiment, wanted its folder or an empty one"]
        )


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn every OSError in this context into an EmulatorError that names the folder."""
    try:
        yield
    except OSError as error:
        raise EmulatorError(f"--out: {out} cannot be written: {error}") from None


def _check_kind(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ScenarioError([f"--out: got {out}, which is a file, wanted a folder"])
    for place in (out, *out.parents):
        if place.is_symlink() and not place.exists():
            raise _make_refusal(out, f"{place} is a link to {place.readlink()}, which is not there")


def _check_lengths(out: Path, there: Path) -> None:
    """Raise ScenarioError for names or paths that are too long. there: the nearest existing folder."""
    missing = out.absolute().relative_to(there).parts
    longest_name = os.pathconf(there, "PC_NAME_MAX")
    for name in missing:
        if (length := len(os.fsencode(name))) > longest_name:
            raise _make_refusal(
                out, f"a name of {length} bytes; here they have at most {longest_name}"
            )
    longest_path = os.pathconf(there, "PC_PATH_MAX")
    if (length := len(os.fsencode(out.absolute())) + _DEEPEST) > longest_path:
        raise _make_refusal(
            out, f"paths in it may have {length} bytes; here they have at most {longest_path}"
        )


def _make_refusal(out: Path, why: str) -> ScenarioError:
    return ScenarioError([f"--out: got {out}, wanted a folder that can be made ({why})"])


def is_file(path: Path) -> bool:
    """Whether a file exists; False if the system denies access or the path is not valid."""
    return _ask_system(path.is_file)


def is_folder(path: Path) -> bool:
    """Whether a folder exists; False if the system denies access or the path is not valid."""
    return _ask_system(path.is_dir)


def resolved(path: Path) -> Path:
    """The absolute path without links, or only the absolute path if the links cannot be resolved."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # no permission, a name that is too long, a loop of links
        return path.absolute()


def _ask_system(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except (OSError, ValueError):  # no permission, a name that is too long or has a null byte
        return False
