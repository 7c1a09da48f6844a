"""The exceptions of the house. Everything a user can cause is an `EmulatorError` of one clear text."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


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


@contextmanager
def all_problems() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Look at several things and raise one ScenarioError with what was wrong with any of them.

    Gives what each look is made under.
    """
    problems: list[str] = []

    @contextmanager
    def look() -> Iterator[None]:
        try:
            yield
        except ScenarioError as error:
            problems.extend(error.problems)

    yield look
    if problems:
        raise ScenarioError(problems)


MOST_SHOWN = 200
"""Characters of a wrong value that a message has room for."""


def shown(value: object) -> str:
    """A wrong value as it stands in a message: its middle left out where it is long."""
    text = repr(value)
    if len(text) <= MOST_SHOWN:
        return text
    half = MOST_SHOWN // 4
    return f"{text[:half]}...{text[-half:]} ({len(text)} characters)"


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' when something known is close; swapped letters are closest."""
    words = list(known)
    swapped = [word for word in words if sorted(word) == sorted(got)]
    close = swapped or difflib.get_close_matches(got, words, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def drop_consequences(problems: "Sequence[ErrorDetails]") -> "list[ErrorDetails]":
    """Drop problems of lists that are too short only because pydantic does not count their wrong items."""
    outside = {p["loc"][:depth] for p in problems for depth in range(len(p["loc"]))}
    return [p for p in problems if p["type"] != "too_short" or p["loc"] not in outside]


def wanted_by(problem: "ErrorDetails") -> str:
    """What should stand where pydantic found a problem, in words."""
    kind = problem["type"]
    words = {"missing": "this key", "union_tag_not_found": "a mapping with a kind"}
    words |= dict.fromkeys(("tuple_type", "list_type"), "a list")
    words |= dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping")
    words |= dict.fromkeys(("float_parsing", "float_type"), "a number")
    words |= dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "a whole number")
    words |= {"string_type": "text"}
    if kind == "too_short":
        return f"at least {problem['ctx']['min_length']} of them"
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    for long, short in (("greater than", "at least"), ("less than", "at most")):
        message = message.replace(f"{long} or equal to", short)
    return words.get(kind, message.removeprefix("input should be "))
