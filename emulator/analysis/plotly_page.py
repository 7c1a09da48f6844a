"""Curves as HTML pages that share one copy of plotly.js, each with its data as a CSV file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from emulator.core.csv_file import make_csv

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colours that colour-blind readers can distinguish. Source: Okabe and Ito, Color Universal Design, 2008."""

PLOTLY = "plotly.min.js"

TRACE_STYLES: dict[str, dict[str, object]] = {
    "line": {"mode": "lines"},
    "dashes": {"mode": "lines", "line": {"dash": "dash"}},
    "dots": {"mode": "markers"},
}


@dataclass(frozen=True)
class Curve:
    """Points [.., 2] under one name. A logarithmic axis shows only those above 0."""

    name: str
    points: Sequence[tuple[float, float]]
    style: Literal["line", "dashes", "dots"] = "line"


@dataclass(frozen=True)
class PlotAxis:
    """Title (with its unit) and scale of one axis."""

    title: str
    scale: Literal["linear", "log"] = "linear"

    @property
    def layout(self) -> dict[str, object]:
        """The axis as plotly's layout describes it."""
        return {"title": {"text": self.title}, "type": self.scale}


@dataclass(frozen=True)
class Picture:
    """A plot and the numbers that it shows: NAME.html and NAME.csv.

    head: the names of the CSV columns. rows: one value for each of them.
    """

    name: str
    title: str
    x: PlotAxis
    y: PlotAxis
    curves: Sequence[Curve]
    head: Sequence[str]
    rows: Sequence[Sequence[object]]

    @property
    def figure(self) -> go.Figure:
        """All curves in one plotly figure, in the order given."""
        figure = go.Figure(
            layout={
                "title": {"text": self.title},
                "xaxis": self.x.layout,
                "yaxis": self.y.layout,
                "template": "plotly_white",
                "colorway": COLOURS,
            }
        )
        for curve in self.curves:
            x, y = zip(*curve.points, strict=True) if curve.points else ((), ())
            figure.add_scatter(name=curve.name, x=x, y=y, **TRACE_STYLES[curve.style])
        return figure

    def render(self) -> dict[str, bytes]:
        """Return the contents of both files and of plotly.js by file name. Law: same picture, same bytes."""
        page = self.figure.to_html(include_plotlyjs="directory", div_id=self.name)
        return {
            f"{self.name}.html": page.encode(),
            f"{self.name}.csv": make_csv(self.head, self.rows).encode(),
            PLOTLY: get_plotlyjs().encode(),
        }
