"""The output folder of a run is its own from its first moment: claimed, then filled, then left.

While a run lasts, `running.json` in its folder says which process runs there. The file is made
exclusively, so of two runs one has it. A process that is killed leaves it behind; the next run sees that
the process is gone and takes the folder over. What others put into the folder meanwhile stays there.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.core.places import check_place
from emulator.runtime.claim_holder import Holder, read_holder
from emulator.runtime.kept_files import format_names, is_written, write_elsewhere, write_files

RUNNING = "running.json"
"""The name of the claim in a run's folder."""

PARTIAL = ".partial"
"""Where, in a run's folder, its files are written before they are put in place."""

_FIRST, _LAST = "scenario.yaml", "summary.json"
"""What makes a folder a run's, and what makes that run whole: put in place first and last."""

PrintLine = Callable[[str], None]
"""Takes one line for the user."""

Stamp = tuple[int, int, int]
"""Of a file: inode, bytes, time of its last change [ns]; zeros for a folder."""

FOLDER: Stamp = (0, 0, 0)


class Claim:
    """A folder that is this run's until it is released."""

    def __init__(
        self,
        out: Path,
        own: Holder,
        before: Mapping[str, Stamp],
        made: tuple[Path, ...],
        print_line: PrintLine,
    ) -> None:
        """before: what was there when the run began and may be replaced. made: folders it made."""
        self._out = out
        self._place = out.resolve()
        self._own = own
        self._before = before
        self._made = made
        self._print_line = print_line

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write all files (path in the folder -> bytes) and give the folder back.

        Of what is there, only that which was there when the run began and which runs write is replaced;
        a note names what else was there. Raises EmulatorError where the files cannot be put there; it
        names the folder in which they are kept instead.
        """
        try:
            changed = self._put(files)
        except (OSError, _LostError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            where = write_elsewhere(self._place, files)
            raise EmulatorError(f"--out: {self._out}: {why}; {where}") from None
        status = {"put there meanwhile": changed, "not written by a run": self._find_foreign(files)}
        for what, names in status.items():
            if names:
                self._print_line(
                    f"note: --out: {self._out}: {what} and left as it is: {format_names(names)}"
                )

    def release(self) -> None:
        """Give the folder back; what this run made there goes, if it is empty or unfinished."""
        marker = self._place / RUNNING
        if self._own.pid == os.getpid() and read_holder(marker) == self._own:
            _remove_claim(self._place)
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()

    def _put(self, files: Mapping[str, bytes]) -> set[str]:
        """Raises OSError or _LostError; returns the names of what others have put there."""
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
        """Make sure that the folder is there and still this run's."""
        marker = self._place / RUNNING
        if not marker.exists():  # somebody has removed it, or all of the folder
            self._place.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                _write_marker(marker, self._own)
        if (holder := read_holder(marker)) != self._own:
            raise _LostError(f"taken over by {holder or 'nobody knows whom'}")

    def _find_changed(self) -> set[str]:
        """Names in the folder that hold what others put there, or changed, since the run began."""
        now = _list_contents(self._place)
        return {
            path.split("/")[0] for path, stamp in now.items() if self._before.get(path) != stamp
        }

    def _find_foreign(self, files: Mapping[str, bytes]) -> list[str]:
        """Files that were there when the run began and that no run writes."""
        return [
            path
            for path, stamp in self._before.items()
            if stamp != FOLDER and path not in files and not is_written(path)
        ]

    def _carry_over(self, foreign: Sequence[str], partial: Path) -> None:
        """Put files of others into the new folders in which they lay. Raises _LostError for no place."""
        for path in foreign:
            target = partial / path
            if not (partial / path.split("/")[0]).exists():
                continue  # nothing new is put in its place
            if any(place.is_file() for place in target.parents) or target.exists():
                raise _LostError(f"{path}, which is not written by a run, is in the way")
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # somebody has removed it meanwhile
                shutil.copy2(self._place / path, target, follow_symlinks=False)

    def _replace(self, partial: Path, foreign: Set[str]) -> None:
        """Remove what was there before and is replaced or carried over; put the new in its place."""
        new = {entry.name for entry in partial.iterdir()}
        replaced = new | {path.split("/")[0] for path in self._before if is_written(path)}
        for path in sorted(self._before, key=lambda path: (path == _FIRST, -path.count("/"))):
            top = path.split("/")[0]
            if top not in replaced or (path in foreign and top not in new):
                continue
            old = self._place / path
            with suppress(FileNotFoundError):
                if old.is_dir() and not old.is_symlink():
                    with suppress(OSError):  # something strange is in it
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
    """The folder is not this run's any more."""


@contextmanager
def claim_folder(out: Path, *, force: bool, print_line: PrintLine) -> Iterator[Claim]:
    """The folder is this run's from here on; what is not put into it leaves no trace.

    say: gets a note where the claim of a process that is gone is taken over. Raises ScenarioError as
    `check_folder` does.
    """
    claim = _make_claim(out, force, print_line)
    try:
        yield claim
    finally:
        claim.release()


def check_folder(out: Path, *, force: bool) -> None:
    """Refuse a folder that is no place for a run, or not for this one. Makes nothing.

    Raises ScenarioError where a run is under way there, where anything but remains of a killed run is
    there, with `force` anything but an earlier run, and what `check_place` raises.
    """
    check_place(out)
    marker = out / RUNNING
    if os.path.lexists(marker) and (marker.is_symlink() or not marker.is_file()):
        raise ScenarioError(
            [f"--out: got {out}, whose {RUNNING} is no regular file, wanted another folder"]
        )
    if marker.exists():
        _check_holder(out, read_holder(marker), force)
    if not out.is_dir() or not any(entry.name not in (RUNNING, PARTIAL) for entry in out.iterdir()):
        return
    if not force:
        raise ScenarioError(
            [f"--out: got {out}, which is not empty, wanted another folder or --force"]
        )
    if not (out / _FIRST).is_file():
        raise ScenarioError(
            [f"--out: got {out}, which holds no run, wanted a run's folder to replace"]
        )


def check_figures_folder(out: Path, *, force: bool) -> None:
    """As `check_folder`; with `force` over earlier figures, but never over a run."""
    if force and (out / _LAST).exists():
        raise ScenarioError(
            [f"--out: got {out}, which holds a run, wanted a folder of figures to replace"]
        )
    check_folder(out, force=force)


def clear_remains(out: Path) -> None:
    """Remove what a killed run has left in its folder, and the folder if nothing else is in it."""
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
        made = made or (out,)  # by the run that did not end
        print_line(f"note: --out: {out}: takes the place of a run that did not end ({earlier})")
    return Claim(out, own, before, made, print_line)


def _acquire(out: Path, own: Holder, force: bool) -> Holder | str | None:
    """Make the claim, or take over that of a process which is gone; returns whose, if any."""
    marker = out / RUNNING
    while True:
        with suppress(FileExistsError):
            _write_marker(marker, own)
            return None
        with suppress(FileNotFoundError), marker.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # of several who find it, one
            if os.fstat(file.fileno()).st_nlink:
                holder = Holder.from_bytes(file.read())
                _check_holder(out, holder, force)
                file.seek(0)
                file.truncate()
                file.write(own.to_bytes())
                return holder or "nobody knows whose"


def _write_marker(marker: Path, own: Holder) -> None:
    """Raises FileExistsError where there is a claim."""
    with marker.open("xb") as file:
        try:
            file.write(own.to_bytes())
            file.flush()
        except BaseException:
            marker.unlink()
            raise


def _check_holder(out: Path, holder: Holder | None, force: bool) -> None:
    """Refuse a folder in which a run is under way, or may be."""
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
    """All paths in a folder but the claim's own, with what shows that one was changed."""
    found: dict[str, Stamp] = {}
    for entry in folder.iterdir():
        if entry.name not in (RUNNING, PARTIAL):
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
    """Remove a claim, and what was not put in place."""
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    with suppress(OSError):
        (folder / RUNNING).unlink()
