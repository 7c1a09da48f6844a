"""The results of an experiment's runs: one line each, read from its folder, and their CSV file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from emulator.core.csv_file import make_csv
from emulator.core.errors import ScenarioError
from emulator.core.run_files import read_metrics, read_summary
from emulator.experiments.statistics import Estimate, estimate

SUMMARY_VALUES: Mapping[str, tuple[str, ...]] = {
    "accuracy": ("accuracy", "mean"),
    "own_task": ("accuracy", "own_task"),
    "routing_accuracy": ("routing_accuracy",),
    "collision_rate": ("collision_rate",),
    "trained_parameters": ("trained_parameters",),
    "transmitted_parameters": ("transmitted_parameters",),
    "bytes_total": ("bytes", "total"),
    "bytes_setup": ("bytes", "setup"),
    "bytes_rounds": ("bytes", "in_cluster"),
    "bytes_final": ("bytes", "inter_cluster"),
    "emulated_s": ("emulated_s",),
    "airtime_s": ("airtime_s",),
    "energy_transmit_j": ("energy_transmit_j",),
    "energy_compute_j": ("energy_compute_j",),
    "energy_j": ("energy_j",),
    "wall_s": ("wall_s",),
    "exchange_shift": ("asked", "exchange_shift"),
    "forgetting": ("asked", "forgetting"),
    "dilution": ("asked", "dilution"),
}
"""Column -> its keys in summary.json."""

LARGEST = ("collision_rate", "collision_rate_expected")
"""Metrics whose largest value over devices is a column of its own, `<metric>_max`."""

RUN_COLUMNS = (*SUMMARY_VALUES, *(f"{metric}_max" for metric in LARGEST))
"""All columns that a run may have, in the order of results.csv."""


@dataclass(frozen=True)
class RunLine:
    """The results of one run, and its row, point and seed in the experiment.

    x: place on the axis, None without one. values: column -> value, None where the method has none.
    """

    row: str
    x: float | None
    seed: int
    method: str
    devices: int
    rounds: int
    folder: Path
    values: Mapping[str, float | None]
    per_task: Mapping[str, float]


def read_run(row: str, x: float | None, folder: Path) -> RunLine:
    """Read the line of a run from its folder. Raises ScenarioError for a folder without a run."""
    summary = read_summary(folder)
    values = {name: _at(summary, path) for name, path in SUMMARY_VALUES.items()}
    metrics = read_metrics(folder)
    for metric in LARGEST:
        found = metrics.filter(pc.equal(metrics["metric"], metric))["value"]
        values[f"{metric}_max"] = pc.max(found).as_py() if len(found) else None
    return RunLine(
        row=row,
        x=x,
        seed=summary["seed"],
        method=summary["method"],
        devices=summary["devices"],
        rounds=summary["rounds"],
        folder=folder,
        values=values,
        per_task=summary["accuracy"]["per_task"],
    )


def format_csv(lines: Sequence[RunLine]) -> str:
    """Format one CSV line per run, with unrounded values and the name of its folder."""
    tasks = sorted({task for line in lines for task in line.per_task})
    head = ["row", "x", "seed", "method", "devices", "rounds", *RUN_COLUMNS]
    head += [*(f"accuracy/{task}" for task in tasks), "run"]
    rows = (
        [line.row, line.x, line.seed, line.method, line.devices, line.rounds]
        + [line.values[name] for name in RUN_COLUMNS]
        + [line.per_task.get(task) for task in tasks]
        + [line.folder.name]
        for line in lines
    )
    return make_csv(head, rows)


def collect_by_seed(
    lines: Iterable[RunLine], row: str, column: str, x: float | None = None
) -> dict[int, float]:
    """Collect a row's values of a column at one point of the axis: seed -> value, without missing ones."""
    found = {}
    for line in lines:
        value = _value(line, column)
        if line.row == row and line.x == x and value is not None:
            found[line.seed] = value
    return found


def estimate_column(
    lines: Iterable[RunLine], row: str, column: str, x: float | None = None
) -> Estimate | None:
    """Estimate the mean over seeds of a row's column; None where nothing was measured."""
    values = collect_by_seed(lines, row, column, x)
    return estimate([values[seed] for seed in sorted(values)]) if values else None


def list_places(lines: Iterable[RunLine]) -> list[float | None]:
    """List the points of the axis in order; [None] for an experiment without an axis."""
    found = {line.x for line in lines}
    return sorted(found, key=lambda x: -1.0 if x is None else x)


def _value(line: RunLine, column: str) -> float | None:
    """Return a column's value; `accuracy/TASK` is that of one task. Raises ScenarioError."""
    prefix, _, task = column.partition("/")
    if task and prefix == "accuracy":
        return line.per_task.get(task)
    if column not in line.values:
        raise ScenarioError(
            [f"column: got {column!r}, wanted accuracy/TASK or one of {', '.join(line.values)}"]
        )
    return line.values[column]


def _at(summary: Mapping[str, Any], path: Sequence[str]) -> float | None:
    found: Any = summary
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return None if found is None else float(found)
