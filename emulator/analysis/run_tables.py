"""Runs as tables in a terminal."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emulator.analysis.ledger.account import PARTS
from emulator.analysis.run_settings import differing
from emulator.core.run_files import Summary, read_summary

ASKED = {
    "answers_paraphrased": "answers in other words",
    "forgetting": "own task, lost by an exchange",
    "dilution": "own task, lost by dilution (control)",
    "exchange_shift": "moved by an exchange, of what was learnt",
    "control_alone": "own task, by its own experts alone",
    "control_summed": "own task, by all experts summed",
    "control_averaged": "own task, by the mean of all experts",
    "control_diluted": "own task, by that mean if others had learnt nothing",
}
"""What `evaluation` may ask for, by its key in a summary."""

MOST_BESIDE = 5
"""Runs that one table has room for."""

LONGEST_SETTING = 30
"""Characters of a setting that a table shows."""


def comparison(folders: Sequence[Path]) -> RenderableType:
    """Runs side by side: what was learnt, what it cost, how they were set, where they lie.

    More than MOST_BESIDE come in several tables.
    """
    summaries = [read_summary(folder) for folder in folders]
    differences = differing(folders) if len(folders) > 1 else []
    methods = [summary["method"] for summary in summaries]
    names = [
        method if methods.count(method) == 1 else folder.name
        for method, folder in zip(methods, folders, strict=True)
    ]
    comparable = len(summaries) == 2 and len({_setting(s) for s in summaries}) == 1
    tables = [
        _beside(
            summaries[low : low + MOST_BESIDE],
            names[low : low + MOST_BESIDE],
            [(key, told[low : low + MOST_BESIDE]) for key, told in differences],
            _title(summaries) if low == 0 else "",
            comparable,
        )
        for low in range(0, len(folders), MOST_BESIDE)
    ]
    places = [Text(f"{name}: {folder}") for name, folder in zip(names, folders, strict=True)]
    return Group(*tables, Text("Files", style="italic"), *places)


def _beside(
    summaries: Sequence[Summary],
    names: Sequence[str],
    differences: Sequence[tuple[str, Sequence[str]]],
    title: str,
    comparable: bool,
) -> Table:
    """One table, a column a run, and one for the difference of two that can be compared."""
    table = Table(title=title or None, title_justify="left", title_style="bold")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    if comparable:
        table.add_column("difference", justify="right", style="dim")
    for heading, rows in _sections(summaries):
        table.add_section()
        table.add_row(Text(heading, style="italic"))
        for label, read, show in rows:
            values = [read(summary) for summary in summaries]
            shown = [_shown(value, show) for value in values]
            if comparable:
                shown.append(_difference(values[0], values[1], show))
            table.add_row(f"  {label}", *shown)
    if differences:
        table.add_section()
        table.add_row(Text("settings that differ", style="italic"))
        for key, told in differences:
            table.add_row(f"  {key}", *map(_short, told))
    return table


Row = tuple[str, Callable[[Summary], float | None], Callable[[float], str]]


def _sections(summaries: Sequence[Summary]) -> list[tuple[str, list[Row]]]:
    tasks = sorted({task for summary in summaries for task in summary["accuracy"]["per_task"]})
    accuracy: list[Row] = [
        (task, lambda s, t=task: s["accuracy"]["per_task"].get(t), _share)  # type: ignore[misc]
        for task in tasks
    ]
    accuracy += [
        ("mean over devices and tasks", lambda s: s["accuracy"]["mean"], _share),
        ("own task", lambda s: s["accuracy"]["own_task"], _share),
        ("routed to the right expert", lambda s: s["routing_accuracy"], _share),
    ]
    further: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("routed right in other words", "accuracy_paraphrased", _share),
        ("left to the backbone, other words", "abstained_paraphrased", _share),
        ("left to the backbone", "abstained", _share),
        ("left to the backbone, unseen tasks", "abstained_unseen", _share),
        ("unseen told from known (AUROC)", "abstention_auroc", lambda x: f"{x:.3f}"),
    )
    routed: list[Row] = [
        (label, lambda s, k=key: _routing(s).get(k), show)  # type: ignore[misc]
        for label, key, show in further
    ]
    agreed = any(summary["bytes"].get("control") for summary in summaries)
    on_air: list[Row] = [
        (name, lambda s, p=part: s["bytes"].get(p, 0), _size)  # type: ignore[misc]
        for part, name in PARTS.items()
        if part != "control" or agreed
    ]
    on_air += [("total", lambda s: s["bytes"]["total"], _size)]
    cost: list[Row] = [
        ("emulated time", lambda s: s["emulated_s"], lambda x: f"{x:.1f} s"),
        ("airtime, all links", lambda s: s["airtime_s"], lambda x: f"{x:.1f} s"),
        ("transmit energy", lambda s: s["energy_transmit_j"], lambda x: f"{x:.2f} J"),
        ("compute energy (declared)", lambda s: s["energy_compute_j"], lambda x: f"{x:.0f} J"),
        ("wall time here", lambda s: s["wall_s"], lambda x: f"{x:.0f} s"),
    ]
    if any(s.get("last_arrival_s", 0.0) > s["emulated_s"] for s in summaries):
        last_s: Row = (
            "until the last burst arrived",
            lambda s: s.get("last_arrival_s"),
            lambda x: f"{x:.1f} s",
        )
        cost.insert(1, last_s)
    if any("pacing" in summary for summary in summaries):
        lag: Row = ("behind the paced clock, worst of 100", _lag_s, lambda x: f"{1e3 * x:.1f} ms")
        cost.append(lag)
    asked: list[Row] = [
        (label, lambda s, k=key: s.get("asked", {}).get(k), _share)  # type: ignore[misc]
        for key, label in ASKED.items()
    ]

    def measured(rows: Sequence[Row]) -> list[Row]:
        return [row for row in rows if any(row[1](s) is not None for s in summaries)]

    sections = [
        (
            "accuracy: every device answers every task, task unknown",
            [*accuracy, *measured(routed)],
        ),
        ("asked for besides", measured(asked)),
        ("bytes on the air", on_air),
        ("time and energy", cost),
    ]
    return [(heading, rows) for heading, rows in sections if rows]


def confusion(folder: Path) -> Table | None:
    """Where a run's router sent the questions of every task; None where nothing was routed."""
    rows = _routing(read_summary(folder)).get("confusion", {})
    if not rows:
        return None
    destinations = list(dict.fromkeys(to for row in rows.values() for to in row))
    destinations.sort(key=lambda to: (to == "abstained", to))
    table = Table(title="routed from (row) to (column)", title_justify="left", title_style="bold")
    table.add_column("")
    for to in destinations:
        table.add_column(to, justify="right")
    for task, row in rows.items():
        table.add_row(task, *(_shown(row.get(to), _share) for to in destinations))
    return table


def _routing(summary: Summary) -> dict[str, Any]:
    """The summary's account of routes; empty in one from before it had any."""
    found: dict[str, Any] = summary.get("routing", {})
    return found


def _lag_s(summary: Summary) -> float | None:
    """The 99th percentile of how late frames left; None under the virtual clock."""
    lag_s: float | None = summary.get("pacing", {}).get("lag_p99_s")
    return lag_s


def _setting(summary: Summary) -> tuple[str, int, int, int]:
    """What two runs must share for their difference to mean something."""
    return (summary["name"], summary["devices"], summary["rounds"], summary["seed"])


def _title(summaries: Sequence[Summary]) -> str:
    """What the runs are, in the order of their columns, each value once."""
    names = dict.fromkeys(str(s["name"]) for s in summaries)
    devices = dict.fromkeys(str(s["devices"]) for s in summaries)
    rounds = dict.fromkeys(_rounds(s) for s in summaries)
    seeds = dict.fromkeys(str(s["seed"]) for s in summaries)
    return (
        f"{', '.join(names)}: {'/'.join(devices)} devices, rounds {'/'.join(rounds)}, "
        f"seed {'/'.join(seeds)}"
    )


def _rounds(summary: Summary) -> str:
    """How many rounds were run, and of how many where a limit was reached before."""
    done, planned = summary["rounds"], summary.get("rounds_planned")
    return str(done) if planned in (None, done) else f"{done} of {planned} (stop)"


def _short(value: str) -> Text:
    """A setting in a column, cut where it is long."""
    return Text(value if len(value) <= LONGEST_SETTING else f"{value[: LONGEST_SETTING - 1]}…")


def _shown(value: float | None, show: Callable[[float], str]) -> str:
    return "-" if value is None else show(value)


def _difference(first: float | None, second: float | None, show: Callable[[float], str]) -> str:
    """Points for shares, percent for amounts."""
    if first is None or second is None:
        return ""
    if show is _share:
        return f"{100 * (second - first):+.1f} points"
    return f"{100 * (second / first - 1):+.1f} %" if first else ""


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _size(num_bytes: float) -> str:
    """Decimal kilobytes or megabytes."""
    return f"{num_bytes / 1e6:.2f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.1f} kB"
