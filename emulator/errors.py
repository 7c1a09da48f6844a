"""The exceptions of the house. Everything a user can cause is an `EmulatorError` of one clear text."""

import difflib
from collections.abc import Iterable, Sequence


class EmulatorError(Exception):
    """Anything that ends a run with a message instead of a traceback."""


class ScenarioError(EmulatorError):
    """Wrong input: every problem found, one line each. Exit code 2.

    A line says where, what was got and what was wanted:
    `quickstart.yaml: method.density: got 1.7, wanted a number in (0, 1]`.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class WireError(EmulatorError):
    """Bytes that are not a packet of ours: bad magic, checksum, counts or layout."""


class ProtocolError(EmulatorError):
    """Two devices disagree about who sends to whom: a bug in a method or a topology."""


class DeviceFailedError(EmulatorError):
    """A device died: which one, in which round, and why. Exit code 1."""


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' when something known is close; swapped letters are closest."""
    words = list(known)
    swapped = [word for word in words if sorted(word) == sorted(got)]
    close = swapped or difflib.get_close_matches(got, words, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
