"""The columns of tables: heading, unit, and the format of their values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from emulator.experiments.statistics import Estimate


@dataclass(frozen=True)
class Column:
    """The format of a column: it prints `value * scale` with `decimals` decimals, in `unit`."""

    heading: str
    unit: str
    scale: float
    decimals: int

    def number(self, value: float) -> str:
        """Format a value in the column's unit, without naming the unit."""
        return f"{value * self.scale:,.{self.decimals}f}"

    def estimate(self, value: Estimate | None) -> str:
        """Format `mean ± half width`; the mean alone for one seed; `-` for None."""
        if value is None:
            return "-"
        if math.isinf(value.half_width):
            return self.number(value.mean)
        return f"{self.number(value.mean)} ± {self.number(value.half_width)}"

    @property
    def unit_of_differences(self) -> str:
        """The unit of differences: percentage points for shares, else the column's unit."""
        return "points" if self.unit == "%" else self.unit or self.heading

    def difference(self, gap: Estimate) -> str:
        """Format a difference with its sign: `+1.5 ± 0.2 points`; without interval for one seed."""
        mean, unit = f"{gap.mean * self.scale:+,.{self.decimals}f}", self.unit_of_differences
        if math.isinf(gap.half_width):
            return f"{mean} {unit}"
        return f"{mean} ± {self.number(gap.half_width)} {unit}"

    @property
    def title(self) -> str:
        """The heading with its unit."""
        return f"{self.heading} [{self.unit}]" if self.unit else self.heading


def _share(heading: str) -> Column:
    return Column(heading, "%", 100.0, 1)


def _megabytes(heading: str) -> Column:
    return Column(heading, "MB", 1e-6, 2)


COLUMNS: Mapping[str, Column] = {
    "accuracy": _share("accuracy"),
    "own_task": _share("own task"),
    "routing_accuracy": _share("routed right"),
    "collision_rate": _share("collision rate"),
    "collision_rate_max": _share("largest collision rate"),
    "collision_rate_expected_max": _share("largest expected collision rate"),
    "exchange_shift": _share("moved by an exchange"),
    "forgetting": _share("own task lost by an exchange"),
    "dilution": _share("own task lost by dilution"),
    "trained_parameters": Column("trained parameters", "", 1.0, 0),
    "transmitted_parameters": Column("sent parameters a round", "", 1.0, 0),
    "bytes_total": _megabytes("on the air"),
    "bytes_setup": _megabytes("setup"),
    "bytes_rounds": _megabytes("rounds"),
    "bytes_final": _megabytes("final exchange"),
    "emulated_s": Column("emulated time", "s", 1.0, 0),
    "airtime_s": Column("airtime", "s", 1.0, 0),
    "energy_transmit_j": Column("transmit energy", "J", 1.0, 1),
    "energy_compute_j": Column("compute energy", "J", 1.0, 0),
    "energy_j": Column("energy", "J", 1.0, 0),
    "wall_s": Column("wall time", "s", 1.0, 0),
}


def column(name: str) -> Column:
    """The format of a column; `accuracy/TASK` has the task as its heading."""
    prefix, _, task = name.partition("/")
    return _share(task) if task and prefix == "accuracy" else COLUMNS[name]
