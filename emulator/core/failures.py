"""An exception as one line: its type, its text, and the line of code that raised it."""

import sysconfig
import traceback
from pathlib import Path

from emulator.core.errors import EmulatorError, LifeFailedError

_PACKAGE = f"{Path(__file__).parents[1]}/"


def cause_of(error: BaseException) -> str:
    """The cause of an error in one line: `ValueError: the text, mine.py:12 in exchange`.

    The text of an `EmulatorError` already names the place, so nothing is added to it.
    """
    if isinstance(error, EmulatorError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError) and error.filename:  # its text would name the file, too
        text = error.msg
    named = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return named + _describe_place(error)


def life_failure(device: int, last_round: int | None, cause: str) -> LifeFailedError:
    """The failure of a device as an error of one line. last_round: the last finished round, if any."""
    when = "no round done" if last_round is None else f"after round {last_round}"
    text = " ".join(cause.split()).removeprefix(f"device {device}: ")
    return LifeFailedError(f"device {device} failed ({when}): {text}")


def is_from_outside(error: BaseException) -> bool:
    """Whether the error passed through code that belongs neither to the emulator nor to a library."""
    return bool(_find_user_frames(error))


def _describe_place(error: BaseException) -> str:
    """The place of an error as `, mine.py:12 in exchange`.

    It is the innermost line of a user's own code; without such a line, the innermost of the emulator.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f", {Path(error.filename).name}:{error.lineno}"
    frames = list(traceback.extract_tb(error.__traceback__))
    emulator = [frame for frame in frames if frame.filename.startswith(_PACKAGE)]
    chosen = (_find_user_frames(error) or emulator or frames)[-1:]
    return "".join(f", {Path(f.filename).name}:{f.lineno} in {f.name}" for f in chosen)


def _find_user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames that belong neither to a library nor to the emulator, outermost first."""
    libraries = map(sysconfig.get_path, ("stdlib", "purelib", "platlib"))
    known = (_PACKAGE, *libraries, "<frozen ")
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if not frame.filename.startswith(known)]
