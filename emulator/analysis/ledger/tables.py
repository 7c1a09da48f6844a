"""A ledger report as tables for a terminal, and the same report as plain values for JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emulator.analysis.ledger.account import (
    BYTE_CLASSES,
    GROUPINGS,
    Account,
    account_of,
    sum_by_traffic,
)
from emulator.core.types.records import LinkRecord


@dataclass(frozen=True)
class Alternative:
    """The total bytes of a run if one setting were different.

    total_bytes: None where the ledger lacks the counts. assumes: the assumption of the estimate.
    """

    label: str
    total_bytes: int | None
    assumes: str

    def change_percent(self, total_bytes: int) -> float | None:
        """Return the change against the run's total [%]; None if the run sent nothing."""
        if self.total_bytes is None or not total_bytes:
            return None
        return 100.0 * (self.total_bytes / total_bytes - 1.0)


@dataclass(frozen=True)
class LedgerReport:
    """The ledger and summary of a run, the alternatives, and the grouping (a key of GROUPINGS or None)."""

    folder: Path
    summary: Mapping[str, Any]
    records: Sequence[LinkRecord]
    alternatives: Sequence[Alternative]
    by: str | None


def build_json_report(report: LedgerReport) -> dict[str, Any]:
    """Return all values of the tables, unrounded, and the sums by kind of traffic."""
    total = account_of(report.records)
    values = {
        "run": str(report.folder),
        "total": total.as_json(),
        "by_traffic": _accounts_json(sum_by_traffic(report.records)),
        "what_if": [
            {
                "what": other.label,
                "total_bytes": other.total_bytes,
                "change_percent": other.change_percent(total.total_bytes),
                "assumes": other.assumes,
            }
            for other in report.alternatives
        ],
    }
    if report.by is not None:
        values[f"by_{report.by}"] = _accounts_json(GROUPINGS[report.by](report.records))
    return values


def _accounts_json(accounts: Mapping[str, Account]) -> dict[str, dict[str, float]]:
    return {name: account.as_json() for name, account in accounts.items()}


def build_tables(report: LedgerReport) -> RenderableType:
    """Build the table of all sums, the tables of the groups, and the table of alternatives."""
    shown: list[RenderableType] = [_build_total_table(report)]
    if report.by is not None:
        shown += _build_group_tables(report.by, GROUPINGS[report.by](report.records))
    return Group(*shown, _build_alternatives_table(report))


# ── tables ───────────────────────────────────────────────────────────────────────────────────────

Amount = tuple[str, Callable[[Account], float], Callable[[float], str]]
"""A sum: its label, how to read it from an account, how to format it."""


def _format_size(num_bytes: float) -> str:
    """Write a size in decimal bytes, kilobytes or megabytes."""
    if num_bytes >= 1e6:
        return f"{num_bytes / 1e6:.2f} MB"
    return f"{num_bytes / 1e3:.1f} kB" if num_bytes >= 1e3 else f"{num_bytes:.0f} B"


def _format_count(number: float) -> str:
    return f"{number:,.0f}"


def _format_spectrum(hz_s: float) -> str:
    return f"{hz_s / 1e6:.3f} MHz·s"


def _format_seconds(duration_s: float) -> str:
    return f"{duration_s:.3f} s"


def _format_joules(energy_j: float) -> str:
    return f"{energy_j:.3f} J"


def _make_bytes_amount(name: str) -> Amount:
    return name, lambda account: float(getattr(account, f"{name}_bytes")), _format_size


ON_AIR: list[Amount] = [
    *(_make_bytes_amount(name) for name in BYTE_CLASSES),
    _make_bytes_amount("total"),
]
ARRIVED: list[Amount] = [_make_bytes_amount("delivered"), _make_bytes_amount("lost")]
RECEIVED: list[Amount] = [("received", *ARRIVED[0][1:]), ("lost to it", *ARRIVED[1][1:])]
ON_CHANNEL: list[Amount] = [
    ("airtime", lambda a: a.airtime_s, _format_seconds),
    ("airtime of ACKs", lambda a: a.ack_airtime_s, _format_seconds),
    ("Hz·s", lambda a: a.hz_s, _format_spectrum),
    ("transmit energy", lambda a: a.energy_j, _format_joules),
    ("energy of ACKs", lambda a: a.ack_energy_j, _format_joules),
]
PACKETS: list[Amount] = [
    ("bursts", lambda a: a.bursts, _format_count),
    ("late bursts", lambda a: a.late_bursts, _format_count),
    ("packets", lambda a: a.packets, _format_count),
    ("tries", lambda a: a.attempts, _format_count),
    ("packets lost", lambda a: a.packets_lost, _format_count),
]


def _build_total_table(report: LedgerReport) -> Table:
    """Build a table with sums as rows, the whole run and its kinds of traffic as columns."""
    summary = report.summary
    title = f"{summary['name']}: {summary['method']}, {summary['devices']} devices, "
    table = _make_table(f"{title}rounds {summary['rounds']}, seed {summary['seed']}")
    parts = sum_by_traffic(report.records)
    accounts = [account_of(report.records), *parts.values()]
    table.add_column("")
    for name in ("all", *parts):
        table.add_column(name, justify="right")
    for heading, amounts in (
        ("bytes on the air", ON_AIR),
        ("of them, at every receiver", ARRIVED),
        ("time, spectrum and energy", ON_CHANNEL),
        ("packets", PACKETS),
    ):
        table.add_section()
        table.add_row(Text(heading, style="italic"))
        for label, read, show in amounts:
            table.add_row(f"  {label}", *(show(read(account)) for account in accounts))
    return table


def _build_group_tables(by: str, accounts: Mapping[str, Account]) -> list[RenderableType]:
    """Build one row for each link, device, round or kind of traffic: bytes first, then the rest."""
    arrived = RECEIVED if by == "device" else ARRIVED
    shown: list[RenderableType] = []
    for heading, amounts in (
        (f"bytes by {by}", [*ON_AIR, *arrived]),
        (f"air and packets by {by}", [*ON_CHANNEL, *PACKETS]),
    ):
        table = Table(
            title=heading,
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        table.add_column(by, no_wrap=True)
        for label, *_ in amounts:
            table.add_column(label, justify="right")
        for name, account in accounts.items():
            table.add_row(name, *(show(read(account)) for _, read, show in amounts))
        shown.append(table)
    return shown


def _build_alternatives_table(report: LedgerReport) -> Table:
    """Build the table of total bytes if one setting were different, with the assumptions."""
    total = account_of(report.records).total_bytes
    table = _make_table("what if: all bytes on the air with one thing changed")
    table.add_column("")
    for heading in ("bytes", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("assumed")
    for other in report.alternatives:
        change = other.change_percent(total)
        table.add_row(
            other.label,
            "-" if other.total_bytes is None else _format_size(other.total_bytes),
            "-" if change is None else f"{change:+.1f} %",
            other.assumes,
        )
    return table


def _make_table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold")
