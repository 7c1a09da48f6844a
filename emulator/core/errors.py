"""The exceptions of the emulator. Every error that a user can cause is an `EmulatorError` with a message."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


MOST_ROWS = 10
"""How many wrong rows of data files a message shows."""


class EmulatorError(Exception):
    """An error that ends a run with a message instead of a traceback."""


@dataclass(frozen=True)
class WrongRows:
    """Wrong rows of one data file: the problems of the first MOST_ROWS rows, and the number of rows."""

    file: str
    first: tuple[tuple[str, ...], ...]
    count: int


class ScenarioError(EmulatorError):
    """Wrong input: one line for each problem, without repetitions. Exit code 2.

    A line names the place, the value found and the value wanted:
    `quickstart.yaml: method.density: got 1.7, wanted a number in (0, 1]`.
    The first MOST_ROWS wrong rows of all files are shown; the others are counted.
    """

    def __init__(self, problems: Sequence[str], rows: Sequence[WrongRows] = ()) -> None:
        self.others, self.rows = tuple(dict.fromkeys(problems)), tuple(dict.fromkeys(rows))
        self.problems = (*self.others, *_lines_of(self.rows))
        super().__init__("\n".join(self.problems))


class OutOfReachError(ScenarioError):
    """The data or the model is on another machine, which cannot be reached."""


class WireError(EmulatorError):
    """The bytes are not a packet of the emulator: wrong magic, checksum, counts or layout."""


class ProtocolError(EmulatorError):
    """Two devices disagree about the links of an exchange: a bug in a method or a topology."""


class DeviceFailedError(EmulatorError):
    """A device failed; the message names the device, the round and the cause. Exit code 1."""


class LifeFailedError(DeviceFailedError):
    """The code of a device raised an exception; the text already names the device and the round."""


@contextmanager
def all_problems() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Run several checks and raise one ScenarioError with the problems of all of them.

    Yields a function; each check runs inside the context manager that this function returns.
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
    """Raise one ScenarioError with the problems of all errors; do nothing if there are no errors."""
    if errors:
        problems = [problem for error in errors for problem in error.others]
        raise ScenarioError(problems, [rows for error in errors for rows in error.rows])


def _lines_of(files: Sequence[WrongRows]) -> Iterator[str]:
    """The problems of the first rows, then one line that counts the other wrong rows by file."""
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
"""Most characters of a wrong value in a message."""


def shown(value: object) -> str:
    """A wrong value as text for a message; the middle of a long one is left out."""
    text = repr(value)
    if len(text) <= MOST_SHOWN:
        return text
    half = MOST_SHOWN // 4
    return f"{text[:half]}...{text[-half:]} ({len(text)} characters)"


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' with the closest known word; empty if no known word is close."""
    close = closest(got, known)
    return f"; did you mean {close!r}?" if close else ""


def closest(got: str, known: Iterable[str]) -> str:
    """The closest known word, or empty if none is close. A word with the same letters is the closest."""
    words = list(known)
    swapped = [word for word in words if sorted(word) == sorted(got)]
    return next(iter(swapped or difflib.get_close_matches(got, words, n=1, cutoff=0.6)), "")


def drop_consequences(problems: "Sequence[ErrorDetails]") -> "list[ErrorDetails]":
    """Drop problems of lists that are too short only because pydantic does not count their wrong items."""
    outside = {p["loc"][:depth] for p in problems for depth in range(len(p["loc"]))}
    return [p for p in problems if p["type"] != "too_short" or p["loc"] not in outside]


def wanted_by(problem: "ErrorDetails") -> str:
    """The value that was wanted where pydantic found a problem, in words."""
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
