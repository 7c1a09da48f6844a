"""The progress of a run: a live table on a terminal, in a log one line from time to time."""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

MOST_ROWS = 24
"""The table shows more devices than this as one row of means."""

REPORT_INTERVAL_S = 30.0
"""Shortest time between two lines in a log [s]."""


class ProgressView:
    """Round, loss, emulated time [s] and air bytes [kB] of every device, for the user."""

    def __init__(self, title: str, devices: Sequence[int], rounds: int, console: Console) -> None:
        self._title = title
        self._rounds = rounds
        self._rows: dict[int, tuple[int, float, float, int]] = {
            device: (0, float("nan"), 0.0, 0) for device in devices
        }
        self._stage = "setup"
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._shown = console.is_terminal
        self._console = console
        self._reported_s = time.monotonic()

    def __enter__(self) -> "ProgressView":
        if self._shown:
            self._live.start()
            self._live.update(self._table())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._shown:
            self._live.stop()

    def stage(self, text: str) -> None:
        """Show the stage of the run: loading, running or writing."""
        self._stage = text
        if self._shown:
            self._live.update(self._table())

    def update(
        self, device: int, rounds_done: int, loss: float, now_s: float, air_bytes: int
    ) -> None:
        """Record that a device has finished a round. air_bytes: those of the round, added up here."""
        total = self._rows[device][3] + air_bytes
        self._rows[device] = (rounds_done, loss, now_s, total)
        if self._shown:
            self._live.update(self._table())
        elif time.monotonic() - self._reported_s >= REPORT_INTERVAL_S:
            self._reported_s = time.monotonic()
            done = min(row[0] for row in self._rows.values())
            line = f"{self._title}: {done} of {self._rounds} rounds done by all"
            self._console.print(line, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        title = Text(f"{self._title}: {self._stage}", no_wrap=True)
        table = Table(title=title, title_justify="left", box=None, min_width=60)
        for column in ("device", "round", "loss", "emulated s", "kB on the air"):
            table.add_column(column, justify="right")
        if len(self._rows) > MOST_ROWS:
            rounds, losses, times, sizes = zip(*self._rows.values(), strict=True)
            count = len(self._rows)
            table.add_row(
                f"all {count}",
                f"{min(rounds)}-{max(rounds)}/{self._rounds}",
                f"{sum(losses) / count:.4f}",
                f"{max(times):.1f}",
                f"{sum(sizes) / 1e3:.0f}",
            )
            return table
        for device, (done, loss, now_s, sent) in self._rows.items():
            shown = f"{loss:.4f}" if loss == loss else "-"
            row = (
                str(device),
                f"{done}/{self._rounds}",
                shown,
                f"{now_s:.1f}",
                f"{sent / 1e3:.0f}",
            )
            table.add_row(*row)
        return table
