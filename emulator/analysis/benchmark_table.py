"""A table of benchmark figures and their targets."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

Figure = Mapping[str, Any]
"""`what`, `value`, `unit`, and a target: `at_least` or `at_most`, or neither."""


def build_figures_table(title: str, figures: Sequence[Figure]) -> Table:
    """Build one row for each figure.

    `ratio` compares a figure with its target: 1 meets it exactly, less than 1 misses it.
    """
    table = Table(title=title, title_justify="left", box=None)
    for column in ("", "measured", "target", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for figure in figures:
        target, ratio = _compare_with_target(figure)
        style = "red" if ratio is not None and ratio < 1.0 else ""
        shown = f"{ratio:.2f}" if ratio is not None else ""
        table.add_row(
            figure["what"],
            _format_value(figure["value"], figure["unit"]),
            target,
            shown,
            style=style,
        )
    return table


def _compare_with_target(figure: Figure) -> tuple[str, float | None]:
    value, unit = figure["value"], figure["unit"]
    if (least := figure["at_least"]) is not None:
        return f">= {_format_value(least, unit)}", value / least
    if (most := figure["at_most"]) is not None:
        return f"<= {_format_value(most, unit)}", most / value if value else None
    return "", None


def _format_value(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    return f"{value:,.{digits}f} {unit}".rstrip()
