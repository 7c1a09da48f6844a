"""Numbers from a CSV file, with one clear line for every problem.

The first line names the columns; empty lines are passed over.
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.errors import ScenarioError

MOST_PROBLEMS = 20
"""So many are shown; of a wrong file of a million lines the rest is only counted."""


@dataclass(frozen=True)
class Row:
    """One line of a table: its number in the file, and its values by column."""

    number: int
    values: tuple[float, ...]


def read_table(path: Path, where: str, columns: Mapping[str, Callable[[str], float]]) -> list[Row]:
    """All rows of a file whose header is exactly `columns`, each read by its function.

    where: the field of the scenario that names the file. Raises ScenarioError.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
    except FileNotFoundError:
        raise ScenarioError([f"{where}: got no file {path}, wanted {','.join(columns)}"]) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScenarioError([f"{where}: {path} cannot be read: {error}"]) from None
    header = [cell.strip() for cell in lines[0]] if lines else []
    if header != list(columns):
        got = ",".join(header) or "nothing"
        raise ScenarioError([f"{path.name}:1: got {got}, wanted the header {','.join(columns)}"])
    rows, problems = [], []
    for number, cells in enumerate(lines[1:], start=2):
        if cells:
            try:
                rows.append(Row(number, _values(cells, columns)))
            except ValueError as error:
                problems.append(f"{path.name}:{number}: {error}")
    refuse(problems)
    return rows


def refuse(problems: Sequence[str]) -> None:
    """Raise them as one ScenarioError, if there are any; not more than a reader can use."""
    if problems:
        rest = len(problems) - MOST_PROBLEMS
        more = [f"... and {rest} more problems"] if rest > 0 else []
        raise ScenarioError([*problems[:MOST_PROBLEMS], *more])


def whole(text: str) -> float:
    """An integer."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"got {text.strip()!r}, wanted a whole number") from None


def finite(text: str) -> float:
    """A number, neither infinite nor NaN."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"got {text.strip()!r}, wanted a finite number")
    return value


def _values(
    cells: Sequence[str], columns: Mapping[str, Callable[[str], float]]
) -> tuple[float, ...]:
    """The cells of one line, read. Raises ValueError."""
    if len(cells) != len(columns):
        raise ValueError(f"got {len(cells)} values, wanted {len(columns)}: {','.join(columns)}")
    values = []
    for cell, (name, read) in zip(cells, columns.items(), strict=True):
        try:
            values.append(read(cell))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return tuple(values)
