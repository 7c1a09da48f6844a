"""Terminal tables that show the results of runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emulator.analysis.ledger.account import PARTS
from emulator.analysis.run_settings import find_differences
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
"""Labels of the measurements that `evaluation` adds on request, by their key in summary.json."""

MOST_BESIDE = 5
"""The number of runs that fit into one table."""

LONGEST_SETTING = 30
"""The number of characters of a setting that a table shows."""


def compare_runs(folders: Sequence[Path]) -> RenderableType:
    """Show runs side by side: accuracy, bytes, time and energy, settings that differ, folders.

    One table holds at most MOST_BESIDE runs; more runs make more tables.
    """
    summaries = [read_summary(folder) for folder in folders]
    differences = find_differences(folders) if len(folders) > 1 else []
    methods = [summary["method"] for summary in summaries]
    names = [
        method if methods.count(method) == 1 else folder.name
        for method, folder in zip(methods, folders, strict=True)
    ]
    comparable = len(summaries) == 2 and len({_comparable_settings(s) for s in summaries}) == 1
    tables = [
        _build_table(
            summaries[low : low + MOST_BESIDE],
            names[low : low + MOST_BESIDE],
            [(key, values[low : low + MOST_BESIDE]) for key, values in differences],
            _compose_title(summaries) if low == 0 else "",
            comparable,
        )
        for low in range(0, len(folders), MOST_BESIDE)
    ]
    places = [Text(f"{name}: {folder}") for name, folder in zip(names, folders, strict=True)]
    return Group(*tables, Text("Files", style="italic"), *places)


def _build_table(
    summaries: Sequence[Summary],
    names: Sequence[str],
    differences: Sequence[tuple[str, Sequence[str]]],
    title: str,
    comparable: bool,
) -> Table:
    """Build a table with a column for each run, and one for the difference of two comparable runs."""
    table = Table(title=title or None, title_justify="left", title_style="bold")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    if comparable:
        table.add_column("difference", justify="right", style="dim")
    for heading, rows in _list_sections(summaries):
        table.add_section()
        table.add_row(Text(heading, style="italic"))
        for label, read, show in rows:
            values = [read(summary) for summary in summaries]
            shown = [_format_value(value, show) for value in values]
            if comparable:
                shown.append(_format_difference(values[0], values[1], show))
            table.add_row(f"  {label}", *shown)
    if differences:
        table.add_section()
        table.add_row(Text("settings that differ", style="italic"))
        for key, of_runs in differences:
            table.add_row(f"  {key}", *map(_shorten, of_runs))
    return table


TableRow = tuple[str, Callable[[Summary], float | None], Callable[[float], str]]


def _list_sections(summaries: Sequence[Summary]) -> list[tuple[str, list[TableRow]]]:
    tasks = sorted({task for summary in summaries for task in summary["accuracy"]["per_task"]})
    accuracy: list[TableRow] = [
        (task, lambda s, t=task: s["accuracy"]["per_task"].get(t), _format_share)  # type: ignore[misc]
        for task in tasks
    ]
    accuracy += [
        ("mean over devices and tasks", lambda s: s["accuracy"]["mean"], _format_share),
        ("own task", lambda s: s["accuracy"]["own_task"], _format_share),
        ("routed to the right expert", lambda s: s["routing_accuracy"], _format_share),
    ]
    further: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("routed right in other words", "accuracy_paraphrased", _format_share),
        ("left to the backbone, other words", "abstained_paraphrased", _format_share),
        ("left to the backbone", "abstained", _format_share),
        ("left to the backbone, unseen tasks", "abstained_unseen", _format_share),
        ("unseen against known tasks (AUROC)", "abstention_auroc", lambda x: f"{x:.3f}"),
    )
    routed: list[TableRow] = [
        (label, lambda s, k=key: _read_routing(s).get(k), show)  # type: ignore[misc]
        for label, key, show in further
    ]
    has_control = any(summary["bytes"].get("control") for summary in summaries)
    on_air: list[TableRow] = [
        (name, lambda s, p=part: s["bytes"].get(p, 0), _format_size)  # type: ignore[misc]
        for part, name in PARTS.items()
        if part != "control" or has_control
    ]
    on_air += [("total", lambda s: s["bytes"]["total"], _format_size)]
    cost: list[TableRow] = [
        ("emulated time", lambda s: s["emulated_s"], lambda x: f"{x:.1f} s"),
        ("airtime, all links", lambda s: s["airtime_s"], lambda x: f"{x:.1f} s"),
        ("transmit energy", lambda s: s["energy_transmit_j"], lambda x: f"{x:.2f} J"),
        ("compute energy (declared)", lambda s: s["energy_compute_j"], lambda x: f"{x:.0f} J"),
        ("wall time here", lambda s: s["wall_s"], lambda x: f"{x:.0f} s"),
    ]
    if any(s.get("last_arrival_s", 0.0) > s["emulated_s"] for s in summaries):
        last_s: TableRow = (
            "until the last burst arrived",
            lambda s: s.get("last_arrival_s"),
            lambda x: f"{x:.1f} s",
        )
        cost.insert(1, last_s)
    if any("pacing" in summary for summary in summaries):
        lag: TableRow = (
            "behind the paced clock, worst of 100",
            _lag_s,
            lambda x: f"{1e3 * x:.1f} ms",
        )
        cost.append(lag)
    asked: list[TableRow] = [
        (label, lambda s, k=key: s.get("asked", {}).get(k), _format_share)  # type: ignore[misc]
        for key, label in ASKED.items()
    ]

    def drop_unmeasured(rows: Sequence[TableRow]) -> list[TableRow]:
        return [row for row in rows if any(row[1](s) is not None for s in summaries)]

    sections = [
        (
            "accuracy: every device answers every task, task unknown",
            [*accuracy, *drop_unmeasured(routed)],
        ),
        ("asked for besides", drop_unmeasured(asked)),
        ("bytes on the air", on_air),
        ("time and energy", cost),
    ]
    return [(heading, rows) for heading, rows in sections if rows]


def build_confusion_table(folder: Path) -> Table | None:
    """Show the share of questions of each task that the router sent to each task's expert.

    Returns None where the run routed nothing.
    """
    rows = _read_routing(read_summary(folder)).get("confusion", {})
    if not rows:
        return None
    destinations = list(dict.fromkeys(to for row in rows.values() for to in row))
    destinations.sort(key=lambda to: (to == "abstained", to))
    table = Table(title="routed from (row) to (column)", title_justify="left", title_style="bold")
    table.add_column("")
    for to in destinations:
        table.add_column(to, justify="right")
    for task, row in rows.items():
        table.add_row(task, *(_format_value(row.get(to), _format_share) for to in destinations))
    return table


def _read_routing(summary: Summary) -> dict[str, Any]:
    """The summary's section on routing; summaries of older versions have none."""
    found: dict[str, Any] = summary.get("routing", {})
    return found


def _lag_s(summary: Summary) -> float | None:
    """The 99th percentile of the delay with which frames left [s]; None under the virtual clock."""
    lag_s: float | None = summary.get("pacing", {}).get("lag_p99_s")
    return lag_s


def _comparable_settings(summary: Summary) -> tuple[str, int, int, int]:
    """The settings that two runs must share to be comparable."""
    return (summary["name"], summary["devices"], summary["rounds"], summary["seed"])


def _compose_title(summaries: Sequence[Summary]) -> str:
    """The runs in the order of their columns, each value once."""
    names = dict.fromkeys(str(s["name"]) for s in summaries)
    devices = dict.fromkeys(str(s["devices"]) for s in summaries)
    rounds = dict.fromkeys(_format_rounds(s) for s in summaries)
    seeds = dict.fromkeys(str(s["seed"]) for s in summaries)
    return (
        f"{', '.join(names)}: {'/'.join(devices)} devices, rounds {'/'.join(rounds)}, "
        f"seed {'/'.join(seeds)}"
    )


def _format_rounds(summary: Summary) -> str:
    """The number of rounds run; with the number planned where a limit ended the run early."""
    done, planned = summary["rounds"], summary.get("rounds_planned")
    return str(done) if planned in (None, done) else f"{done} of {planned} (stop)"


def _shorten(value: str) -> Text:
    """Shorten a setting to the width of its column."""
    return Text(value if len(value) <= LONGEST_SETTING else f"{value[: LONGEST_SETTING - 1]}…")


def _format_value(value: float | None, show: Callable[[float], str]) -> str:
    return "-" if value is None else show(value)


def _format_difference(
    first: float | None, second: float | None, show: Callable[[float], str]
) -> str:
    """Write the change from the first to the second value: in points for shares, else in percent."""
    if first is None or second is None:
        return ""
    if show is _format_share:
        return f"{100 * (second - first):+.1f} points"
    return f"{100 * (second / first - 1):+.1f} %" if first else ""


def _format_share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _format_size(num_bytes: float) -> str:
    """Write a size in decimal kilobytes or megabytes."""
    return f"{num_bytes / 1e6:.2f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.1f} kB"
