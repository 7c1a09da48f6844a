"""Gains from a file: the results of a ray tracer, another simulator or a measurement for every pair.

Shapes: M devices, T times.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emulator.core.errors import shown
from emulator.core.types.arrays import DoubleArray
from emulator.core.units import MOST_LOSS_DB, gain_from_path_loss
from emulator.network.channel.csv_table import (
    CsvRow,
    read_finite,
    read_number,
    read_table,
    read_whole,
    refuse,
)


def read_gain_db(text: str) -> float:
    """Read a gain [dB]; -inf if there is no path, for which tools write -inf, -999 or -9999."""
    value_db = read_number(text)
    if math.isnan(value_db) or value_db == math.inf:
        raise ValueError(f"got {shown(text.strip())}, wanted a number of dB, or -inf for no path")
    return value_db if value_db >= -MOST_LOSS_DB else -math.inf


COLUMNS = {
    "time_s": read_finite,
    "first": read_whole,
    "second": read_whole,
    "gain_db": read_gain_db,
}


class FileGain(BaseModel):
    """Pairwise gain over time from a CSV file with the header `time_s,first,second,gain_db`.

    The file lists every pair of devices for each of its times, which are in order and begin with 0: one
    direction, or both with the same gain. gain_db is 10 lg of received over sent power, at most 0. It
    holds from its time to the next one, and the last gain to the end. -inf, or a loss above
    units.MOST_LOSS_DB, means no path: the gain is 0, and the pair is never in range. The file replaces
    placement, path loss and shadowing, but not fading.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["file"] = "file"
    path: Path = Field(description="The CSV file, relative to the scenario file.")

    def bind(self, devices: int) -> "GainTable":
        """The gains of one run. Raises ScenarioError with every problem of the file."""
        rows = read_table(self.path, "channel.gain.path", COLUMNS)
        problems = [*_wrong_rows(rows, devices, self.path.name)]
        refuse(problems)
        times_T = np.unique(np.array([0.0, *(row.values[0] for row in rows)]))
        found_db = np.full((len(times_T), devices, devices), np.nan)
        index = {float(time_s): position for position, time_s in enumerate(times_T)}
        for row in rows:
            first, second = _pair(row)
            block = found_db[index[row.values[0]]]
            block[first, second] = block[second, first] = row.values[3]
        refuse([*_missing(times_T, found_db, self.path.name)])
        gain_TMM = gain_from_path_loss(-found_db)
        gain_TMM[:, np.arange(devices), np.arange(devices)] = 0.0
        return GainTable(times_T, gain_TMM)


@dataclass(frozen=True, eq=False)
class GainTable:
    """Linear power gains [T, M, M], symmetric, diagonal 0, and the time from which each holds [s], [T]."""

    times_T: DoubleArray
    gain_TMM: DoubleArray

    @property
    def moving(self) -> bool:
        """Whether a gain ever changes."""
        return len(self.times_T) > 1

    def mean_gain(self, time_s: float) -> DoubleArray:
        """Gains between all devices at a time [M, M]; the same array while they hold."""
        return self._gains[self._index(time_s)]

    def gain(self, first: int, second: int, time_s: float) -> float:
        """The gain of one pair at a time."""
        return float(self.gain_TMM[self._index(time_s), first, second])

    def pair_losses(self, pairs_L: Sequence[tuple[int, int]], time_s: float) -> None:
        """None: a file states gains, not the parts of a loss."""
        return

    @functools.cached_property
    def _gains(self) -> list[DoubleArray]:
        """One array for each time, so that the identity of an array shows that gains have not changed."""
        return list(self.gain_TMM)

    def _index(self, time_s: float) -> int:
        return max(int(np.searchsorted(self.times_T, time_s, side="right")) - 1, 0)


def _pair(row: CsvRow) -> tuple[int, int]:
    """The two devices of a row."""
    return int(row.values[1]), int(row.values[2])


def _wrong_rows(rows: Sequence[CsvRow], devices: int, name: str) -> Iterator[str]:
    """Describe rows that are impossible or contradict an earlier row, one line each."""
    if not rows and devices > 1:
        yield f"{name}: got no rows, wanted a gain for every pair from time_s = 0 on"
    last_s, known = 0.0, dict[tuple[int, int], CsvRow]()
    for index, row in enumerate(rows):
        where, (time_s, _, _, value_db) = f"{name}:{row.number}", row.values
        first, second = _pair(row)
        if time_s < 0.0:
            yield f"{where}: time_s: got {time_s:g}, wanted 0 or more"
        elif index == 0 and time_s > 0.0:
            yield f"{where}: time_s: got {time_s:g} first, wanted 0: a run begins there"
        elif time_s < last_s:
            yield f"{where}: time_s: got {time_s:g} after {last_s:g}, wanted times in order"
        if time_s != last_s:
            last_s = time_s
            known.clear()
        if not (0 <= first < devices and 0 <= second < devices):
            yield f"{where}: got devices {first} and {second}, wanted two of {devices}, counted from 0"
        elif first == second:
            yield f"{where}: got device {first} with itself, wanted two devices"
        elif value_db > 0.0:
            yield f"{where}: gain_db: got {value_db:g}, wanted 0 or less (a loss has the other sign)"
        elif (first, second) in known:
            yield f"{where}: got devices {first} and {second} again, wanted one row a time"
        elif (other := known.get((second, first))) and other.values[3] != value_db:
            yield (
                f"{where}: gain_db: got {value_db:g}, and {other.values[3]:g} the other way in line "
                f"{other.number}, wanted the same both ways"
            )
        known.setdefault((first, second), row)


def _missing(times_T: DoubleArray, found_db: DoubleArray, name: str) -> Iterator[str]:
    """Describe pairs without a gain at a time, one line each."""
    for time_s, gain_MM in zip(times_T, found_db, strict=True):
        for first, second in np.argwhere(np.triu(np.isnan(gain_MM), k=1)):
            yield f"{name}: time_s = {time_s:g}: got no gain for devices {first} and {second}"
