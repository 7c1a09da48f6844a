"""The table of benchmarks: targets, and how far they are met."""

import io

import pytest
from rich.console import Console

from emulator.analysis.benchmark_table import Figure, build_figures_table


def shown(**figure: object) -> str:
    whole: Figure = {"what": "rate", "unit": "", "at_least": None, "at_most": None, **figure}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(build_figures_table("some", [whole]))
    return " ".join(console.export_text().split())


@pytest.mark.parametrize(
    ("figure", "row"),
    [
        ({"value": 450.0, "unit": "MB/s", "at_least": 500.0}, "rate 450 MB/s >= 500 MB/s 0.90"),
        ({"value": 2.5, "unit": "s", "at_most": 3.0}, "rate 2.50 s <= 3.00 s 1.20"),
        ({"value": 0.0, "unit": "s", "at_most": 3.0}, "rate 0.0000 s <= 3.00 s"),
        ({"value": 12345.6}, "rate 12,346"),
        ({"value": 12.34, "unit": "ms"}, "rate 12.3 ms"),
        ({"value": 0.01234}, "rate 0.0123"),
    ],
)
def test_a_figure_is_shown_beside_its_target(figure: dict[str, object], row: str) -> None:
    assert shown(**figure).endswith(row)
