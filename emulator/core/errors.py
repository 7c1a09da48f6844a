"""The exceptions of the house. Everything a user can cause is an `EmulatorError` of one clear text."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


MOST_ROWS = 10
"""Wrong rows of data files that are shown."""


class EmulatorError(Exception):
    """Anything that ends a run with a message instead of a traceback."""


@dataclass(frozen=True)
class WrongRows:
    """Wrong rows of one data file: the problems of the first MOST_ROWS of them, and how many there are."""

    file: str
    first: tuple[tuple[str, ...], ...]
    count: int


class ScenarioError(EmulatorError):
    """Wrong input: every problem found, one line each, each once. Exit code 2.

    A line says where, what was got and what was wanted:
    `quickstart.yaml: method.density: got 1.7, wanted a number in (0, 1]`.
    Of the wrong rows of all files the first MOST_ROWS are shown and the others counted.
    """

    def __init__(self, problems: Sequence[str], rows: Sequence[WrongRows] = ()) -> None:
        self.others, self.rows = tuple(dict.fromkeys(problems)), tuple(dict.fromkeys(rows))
        self.problems = (*self.others, *_lines_of(self.rows))
        super().__init__("\n".join(self.problems))


class OutOfReachError(ScenarioError):
    """What lies on another machine, which is not reached."""


class WireError(EmulatorError):
    """Bytes that are not a packet of ours: bad magic, checksum, counts or layout."""


class ProtocolError(EmulatorError):
    """Two devices disagree about who sends to whom: a bug in a method or a topology."""


class DeviceFailedError(EmulatorError):
    """A device died: which one, in which round, and why. Exit code 1."""


class LifeFailedError(DeviceFailedError):
    """The code of a device raised something; the text names device and round already."""


@contextmanager
def all_problems() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Look at several things and raise one ScenarioError with what was wrong with any of them.

    Gives what each look is made under.
    """
    errors: list[ScenarioError] = []

    @contextmanager
    def look() -> Iterator[None]:
        try:
            yield
        except ScenarioError as error:
            errors.append(error)

    yield look
    raise_together(errors)


def raise_together(errors: Sequence[ScenarioError]) -> None:
    """Raise one ScenarioError with the problems of all; nothing where there are none."""
    if errors:
        problems = [problem for error in errors for problem in error.others]
        raise ScenarioError(problems, [rows for error in errors for rows in error.rows])


def _lines_of(files: Sequence[WrongRows]) -> Iterator[str]:
    """The problems of the first rows, and in which files there are how many more."""
    room, more = MOST_ROWS, dict[str, int]()
    for rows in files:
        taken = rows.first[:room]
        room -= len(taken)
        yield from (problem for problems in taken for problem in problems)
        if left := rows.count - len(taken):
            more[rows.file] = left
    if more:
        each = [f"{file} ({left})" for file, left in more.items()]
        named = ", ".join(each[:MOST_ROWS]) + (" and others" if len(each) > MOST_ROWS else "")
        total = sum(more.values())
        yield f"and {total} more wrong {'row' if total == 1 else 'rows'}: {named}"


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
    """'; did you mean ...?' when something known is close."""
    close = closest(got, known)
    return f"; did you mean {close!r}?" if close else ""


def closest(got: str, known: Iterable[str]) -> str:
    """The known word that is closest, where one is close; swapped letters are closest."""
    words = list(known)
    swapped = [word for word in words if sorted(word) == sorted(got)]
    return next(iter(swapped or difflib.get_close_matches(got, words, n=1, cutoff=0.6)), "")


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
