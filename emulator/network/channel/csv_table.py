"""Numbers from a CSV file, with one line for every problem.

The first line names the columns; empty lines are skipped.
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.core.errors import MOST_SHOWN, ScenarioError, shown
from emulator.core.plain_numbers import FLOAT, MOST

MOST_PROBLEMS = 20
"""Most problems that are shown; further ones are only counted."""

MOST_DIGITS = 15
"""Most digits of a whole number: floats represent all such numbers exactly, and sums of a few of them."""

INFINITE = ("inf", "+inf", "-inf", "infinity", "+infinity", "-infinity")
"""Spellings of infinity in tables."""


@dataclass(frozen=True)
class CsvRow:
    """One line of a table: its number in the file, and its values by column."""

    number: int
    values: tuple[float, ...]


def read_table(
    path: Path, where: str, columns: Mapping[str, Callable[[str], float]]
) -> list[CsvRow]:
    """Read all rows of a file whose header is exactly `columns`; each column has a function that reads it.

    where: the field of the scenario that names the file. Raises ScenarioError.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
    except FileNotFoundError:
        raise ScenarioError([f"{where}: got no file {path}, wanted {','.join(columns)}"]) from None
    except UnicodeDecodeError as error:
        raise ScenarioError(
            [f"{where}: {path} cannot be read: no UTF-8 ({error.reason})"]
        ) from None
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ScenarioError([f"{where}: {path} cannot be read: {reason}"]) from None
    header = [cell.strip() for cell in lines[0]] if lines else []
    if header != list(columns):
        first = ",".join(header)
        got = first if len(first) <= MOST_SHOWN else shown(first)
        raise ScenarioError(
            [f"{path.name}:1: got {got or 'nothing'}, wanted the header {','.join(columns)}"]
        )
    rows, problems = [], []
    for number, cells in enumerate(lines[1:], start=2):
        if cells:
            try:
                rows.append(CsvRow(number, _values(cells, columns)))
            except ValueError as error:
                problems.append(f"{path.name}:{number}: {error}")
    refuse(problems)
    return rows


def refuse(problems: Sequence[str]) -> None:
    """Raise problems as one ScenarioError, if there are any; at most MOST_PROBLEMS are shown."""
    if problems:
        rest = len(problems) - MOST_PROBLEMS
        more = [f"... and {rest} more problems"] if rest > 0 else []
        raise ScenarioError([*problems[:MOST_PROBLEMS], *more])


def read_whole(text: str) -> float:
    """Read an integer of at most MOST_DIGITS digits. Raises ValueError."""
    got, digits = text.strip(), text.strip().lstrip("+-")
    if not (got.isascii() and digits.isdecimal() and len(got) - len(digits) < 2):
        raise ValueError(f"got {shown(got)}, wanted a whole number")
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"got {shown(got)}, wanted at most {MOST_DIGITS} digits")
    return int(got)


def read_finite(text: str) -> float:
    """Read a number that is finite and not too large to calculate with. Raises ValueError."""
    value = read_number(text)
    if not math.isfinite(value):
        raise ValueError(f"got {shown(text.strip())}, wanted a finite number")
    if abs(value) > MOST:
        raise ValueError(f"got {value:g}, wanted a magnitude of at most {MOST:g}")
    return value


def read_number(text: str) -> float:
    """Read a number, which may be infinite; NaN if the text is no number."""
    plain = FLOAT.fullmatch(text.strip()) or text.strip().lower() in INFINITE
    return float(text) if plain else math.nan


def _values(
    cells: Sequence[str], columns: Mapping[str, Callable[[str], float]]
) -> tuple[float, ...]:
    """Read the cells of one line. Raises ValueError."""
    if len(cells) != len(columns):
        raise ValueError(f"got {len(cells)} values, wanted {len(columns)}: {','.join(columns)}")
    values = []
    for cell, (name, read) in zip(cells, columns.items(), strict=True):
        try:
            values.append(read(cell))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return tuple(values)
