"""The output folder of a run: the run claims it at its start, fills it, and releases it at its end.

During a run `running.json` in its folder names the process that runs there. The file is created
exclusively, so only one of two runs gets it. A killed process leaves its claim behind; the next run
finds that the process has ended and takes the folder over. Files that others put into the folder during
the run stay there.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.core.places import check_place
from emulator.runtime.checkpoint_files import FOLDER as CHECKPOINTS
from emulator.runtime.checkpoint_files import SCENARIO, is_resumable
from emulator.runtime.claim_holder import Holder, read_holder
from emulator.runtime.kept_files import format_names, is_written, write_elsewhere, write_files

RUNNING = "running.json"
"""Name of the claim file in a run's folder."""

PARTIAL = ".partial"
"""Folder inside a run's folder in which all files are written before they are moved into place."""

_FIRST, _LAST = "scenario.yaml", "summary.json"
"""The first file marks a folder as a run's, the last one marks the run as complete."""

PrintLine = Callable[[str], None]
"""Prints one line for the user."""

Stamp = tuple[int, int, int]
"""Inode, size [bytes] and time of the last change [ns] of a file; zeros for a folder."""

FOLDER: Stamp = (0, 0, 0)


class Claim:
    """A folder that this run holds until it releases it."""

    def __init__(
        self,
        out: Path,
        own: Holder,
        before: Mapping[str, Stamp],
        made: tuple[Path, ...],
        print_line: PrintLine,
    ) -> None:
        """before: the replaceable content at the start. made: folders that the claim has created."""
        self._out = out
        self._place = out.resolve()
        self._own = own
        self._before = before
        self._made = made
        self._print_line = print_line

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write all files (path in the folder -> bytes) and remove the claim.

        Only files that were there at the start and that a run writes are replaced; a note names the
        others. Raises EmulatorError where the files cannot be written; it names the folder in which they
        are kept instead.
        """
        try:
            changed = self._put(files)
        except (OSError, _LostError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            where = write_elsewhere(self._place, files)
            raise EmulatorError(f"--out: {self._out}: {why}; {where}") from None
        kept = {"put there meanwhile": changed, "not written by a run": self._find_foreign(files)}
        for what, names in kept.items():
            if names:
                self._print_line(
                    f"note: --out: {self._out}: {what} and left as it is: {format_names(names)}"
                )

    def release(self) -> None:
        """Remove the claim, unfinished files, and the folders that the claim created if they are empty."""
        marker = self._place / RUNNING
        if self._own.pid == os.getpid() and read_holder(marker) == self._own:
            if not is_resumable(self._place):
                shutil.rmtree(self._place / CHECKPOINTS, ignore_errors=True)
            _remove_claim(self._place)
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()

    def _put(self, files: Mapping[str, bytes]) -> set[str]:
        """Write the files; return the names that others have put there. Raises OSError or _LostError."""
        self._check_held()
        partial = self._place / PARTIAL
        shutil.rmtree(partial, ignore_errors=True)
        write_files(partial, files)
        changed = self._find_changed()
        if clash := sorted(changed & {name.split("/")[0] for name in files}):
            raise _LostError(f"{', '.join(clash)} was put there meanwhile")
        self._carry_over(self._find_foreign(files), partial)
        self._replace(partial, set(self._find_foreign(files)))
        return changed

    def _check_held(self) -> None:
        """Create the folder again where it was removed. Raises _LostError where another run holds it."""
        marker = self._place / RUNNING
        if not marker.exists():  # it was removed, alone or with the folder
            self._place.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                _write_marker(marker, self._own)
        if (holder := read_holder(marker)) != self._own:
            raise _LostError(f"taken over by {holder or 'an unknown process'}")

    def _find_changed(self) -> set[str]:
        """Return the top names of what others have added or changed since the start."""
        now = _list_contents(self._place)
        return {
            path.split("/")[0] for path, stamp in now.items() if self._before.get(path) != stamp
        }

    def _find_foreign(self, files: Mapping[str, bytes]) -> list[str]:
        """Return the files that were there at the start and that no run writes."""
        return [
            path
            for path, stamp in self._before.items()
            if stamp != FOLDER and path not in files and not is_written(path)
        ]

    def _carry_over(self, foreign: Sequence[str], partial: Path) -> None:
        """Copy files that no run writes into the new folders. Raises _LostError where one is in the way."""
        for path in foreign:
            target = partial / path
            if not (partial / path.split("/")[0]).exists():
                continue  # its folder is not replaced
            if any(place.is_file() for place in target.parents) or target.exists():
                raise _LostError(f"{path}, which is not written by a run, is in the way")
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # it was removed during the run
                shutil.copy2(self._place / path, target, follow_symlinks=False)

    def _replace(self, partial: Path, foreign: Set[str]) -> None:
        """Remove the old files that are replaced or carried over, and move the new ones into place."""
        new = {entry.name for entry in partial.iterdir()}
        replaced = new | {path.split("/")[0] for path in self._before if is_written(path)}
        for path in sorted(self._before, key=lambda path: (path == _FIRST, -path.count("/"))):
            top = path.split("/")[0]
            if top not in replaced or (path in foreign and top not in new):
                continue
            old = self._place / path
            with suppress(FileNotFoundError):
                if old.is_dir() and not old.is_symlink():
                    with suppress(OSError):  # it holds a file of others
                        old.rmdir()
                else:
                    old.unlink()
        entries = sorted(
            partial.iterdir(), key=lambda each: (each.name == _LAST, each.name != _FIRST)
        )
        for entry in entries:
            entry.replace(self._place / entry.name)
        partial.rmdir()
        (self._place / RUNNING).unlink()


class _LostError(Exception):
    """This run does not hold the folder any more."""


@contextmanager
def claim_folder(out: Path, *, force: bool, print_line: PrintLine) -> Iterator[Claim]:
    """Claim a folder inside the context and release it at its end.

    print_line: gets a note where the claim of an ended process is taken over. Raises ScenarioError as
    `check_folder` does.
    """
    claim = _make_claim(out, force, print_line)
    try:
        yield claim
    finally:
        claim.release()


def check_folder(out: Path, *, force: bool) -> None:
    """Check whether a run may write to a folder; nothing is created.

    Raises ScenarioError where a run is under way, where the folder holds more than the remains of a
    killed run (with `force`: anything but an earlier run), and what `check_place` raises.
    """
    check_place(out)
    marker = out / RUNNING
    if os.path.lexists(marker) and (marker.is_symlink() or not marker.is_file()):
        raise ScenarioError(
            [f"--out: got {out}, whose {RUNNING} is no regular file, wanted another folder"]
        )
    if marker.exists():
        _check_holder(out, read_holder(marker), force)
    found = {entry.name for entry in out.iterdir()} - {RUNNING, PARTIAL} if out.is_dir() else set()
    if not found or (found == {CHECKPOINTS} and not is_resumable(out)):
        return
    if not force and found == {CHECKPOINTS}:
        raise ScenarioError(
            [
                f"--out: got {out}, which holds a run that has not ended, wanted `emulator resume {out}`, "
                "another folder, or --force to begin it again"
            ]
        )
    if not force:
        raise ScenarioError(
            [f"--out: got {out}, which is not empty, wanted another folder or --force"]
        )
    if not (out / _FIRST).is_file() and not (out / CHECKPOINTS / SCENARIO).is_file():
        raise ScenarioError(
            [f"--out: got {out}, which holds no run, wanted a run's folder to replace"]
        )


def check_figures_folder(out: Path, *, force: bool) -> None:
    """Check a folder for figures as `check_folder` does; even `force` never replaces a run."""
    if force and (out / _LAST).exists():
        raise ScenarioError(
            [f"--out: got {out}, which holds a run, wanted a folder of figures to replace"]
        )
    check_folder(out, force=force)


def clear_remains(out: Path) -> None:
    """Remove the claim and the partial files of a killed run, and its folder if it is then empty."""
    holder = read_holder(out / RUNNING)
    if holder is not None and holder.is_here and not holder.is_running:
        _remove_claim(out)
        with suppress(OSError):
            out.rmdir()


def _make_claim(out: Path, force: bool, print_line: PrintLine) -> Claim:
    check_folder(out, force=force)
    made = tuple(place for place in (out, *out.parents) if not place.exists())
    own = Holder.own()
    try:
        out.mkdir(parents=True, exist_ok=True)
        earlier = _acquire(out, own, force)
        shutil.rmtree(out / PARTIAL, ignore_errors=True)
        before = _list_contents(out) if force else {}
    except OSError as error:
        if read_holder(out / RUNNING) == own:
            _remove_claim(out)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        why = error.strerror or str(error)
        raise ScenarioError(
            [f"--out: got {out}, wanted a folder that can be made ({why})"]
        ) from None
    if earlier is not None:
        made = made or (out,)  # the run that did not end has made it
        print_line(f"note: --out: {out}: left by a run that did not end ({earlier})")
    return Claim(out, own, before, made, print_line)


def _acquire(out: Path, own: Holder, force: bool) -> Holder | str | None:
    """Write the claim, or take over that of an ended process; return its holder, None without one."""
    marker = out / RUNNING
    while True:
        with suppress(FileExistsError):
            _write_marker(marker, own)
            return None
        with suppress(FileNotFoundError), marker.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # only one of several runs takes it over
            if os.fstat(file.fileno()).st_nlink:
                holder = Holder.from_bytes(file.read())
                _check_holder(out, holder, force)
                file.seek(0)
                file.truncate()
                file.write(own.to_bytes())
                return holder or "of an unknown process"


def _write_marker(marker: Path, own: Holder) -> None:
    """Create the claim file. Raises FileExistsError where there is one."""
    with marker.open("xb") as file:
        try:
            file.write(own.to_bytes())
            file.flush()
        except BaseException:
            marker.unlink()
            raise


def _check_holder(out: Path, holder: Holder | None, force: bool) -> None:
    """Raise ScenarioError where the holder of a claim is running, or may be running."""
    if holder is not None and holder.is_here:
        if holder.is_running:
            raise ScenarioError(
                [f"--out: got {out}, where a run is under way ({holder}), wanted another folder"]
            )
        return
    if not force:
        whose = "an unreadable claim" if holder is None else f"the claim of a run ({holder})"
        raise ScenarioError(
            [
                f"--out: got {out}, with {whose} whose end cannot be seen from here, wanted another "
                f"folder, or {RUNNING} removed (or --force) if it has ended"
            ]
        )


def _list_contents(folder: Path) -> dict[str, Stamp]:
    """Return all paths in a folder, the run's own claim and checkpoints aside, with their stamps."""
    found: dict[str, Stamp] = {}
    for entry in folder.iterdir():
        if entry.name not in (RUNNING, PARTIAL, CHECKPOINTS):
            _scan(entry, entry.name, found)
    return found


def _scan(path: Path, name: str, found: dict[str, Stamp]) -> None:
    if path.is_dir() and not path.is_symlink():
        found[name] = FOLDER
        for entry in path.iterdir():
            _scan(entry, f"{name}/{entry.name}", found)
    else:
        status = path.lstat()
        found[name] = (status.st_ino, status.st_size, status.st_mtime_ns)


def _remove_claim(folder: Path) -> None:
    """Remove a claim and its partial files."""
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    with suppress(OSError):
        (folder / RUNNING).unlink()
