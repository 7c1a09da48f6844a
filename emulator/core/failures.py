"""What somebody else's code raised, in one line: the exception, and where in that code."""

import sysconfig
import traceback
from pathlib import Path

from emulator.core.errors import EmulatorError, LifeFailedError

_PACKAGE = f"{Path(__file__).parents[1]}/"


def cause_of(error: BaseException) -> str:
    """`ValueError: what it says, mine.py:12 in exchange`, in one line.

    An `EmulatorError` says where by itself, so its text is all.
    """
    if isinstance(error, EmulatorError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError) and error.filename:  # its text would name the file, too
        text = error.msg
    named = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return named + _place_of(error)


def life_failure(device: int, last_round: int | None, cause: str) -> LifeFailedError:
    """The failure of a device, in one line; last_round: the last one that it finished, if any."""
    when = "no round done" if last_round is None else f"after round {last_round}"
    told = " ".join(cause.split()).removeprefix(f"device {device}: ")
    return LifeFailedError(f"device {device} failed ({when}): {told}")


def is_from_outside(error: BaseException) -> bool:
    """Whether it passed through code that is neither the emulator's nor a library's."""
    return bool(_frames_outside(error))


def _place_of(error: BaseException) -> str:
    """`, mine.py:12 in exchange`: the innermost line outside libraries and, where there is one, outside
    the emulator.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f", {Path(error.filename).name}:{error.lineno}"
    frames = list(traceback.extract_tb(error.__traceback__))
    emulator = [frame for frame in frames if frame.filename.startswith(_PACKAGE)]
    chosen = (_frames_outside(error) or emulator or frames)[-1:]
    return "".join(f", {Path(f.filename).name}:{f.lineno} in {f.name}" for f in chosen)


def _frames_outside(error: BaseException) -> list[traceback.FrameSummary]:
    """Those of neither a library nor the emulator, outermost first."""
    libraries = map(sysconfig.get_path, ("stdlib", "purelib", "platlib"))
    known = (_PACKAGE, *libraries, "<frozen ")
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if not frame.filename.startswith(known)]
