"""Curves as pages: an HTML file each that shares one copy of plotly.js, with its data as CSV."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from emulator.core.csv_file import csv_text

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by colour-blind eyes. Source: Okabe and Ito, Color Universal Design, 2008."""

PLOTLY = "plotly.min.js"

LOOKS: dict[str, dict[str, object]] = {
    "line": {"mode": "lines"},
    "dashes": {"mode": "lines", "line": {"dash": "dash"}},
    "dots": {"mode": "markers"},
}


@dataclass(frozen=True)
class Curve:
    """Points [.., 2] of one name, joined or not; on a logarithmic axis only those above 0 are seen."""

    name: str
    points: Sequence[tuple[float, float]]
    drawn: Literal["line", "dashes", "dots"] = "line"


@dataclass(frozen=True)
class Axis:
    """What stands along an axis, and how."""

    title: str
    scale: Literal["linear", "log"] = "linear"

    def layout(self) -> dict[str, object]:
        """For plotly."""
        return {"title": {"text": self.title}, "type": self.scale}


@dataclass(frozen=True)
class Picture:
    """A picture with the numbers it shows: NAME.html and NAME.csv."""

    name: str
    title: str
    x: Axis
    y: Axis
    curves: Sequence[Curve]
    head: Sequence[str]
    rows: Sequence[Sequence[object]]

    @property
    def figure(self) -> go.Figure:
        """The curves in the order given."""
        figure = go.Figure(
            layout={
                "title": {"text": self.title},
                "xaxis": self.x.layout(),
                "yaxis": self.y.layout(),
                "template": "plotly_white",
                "colorway": COLOURS,
            }
        )
        for curve in self.curves:
            x, y = zip(*curve.points, strict=True) if curve.points else ((), ())
            figure.add_scatter(name=curve.name, x=x, y=y, **LOOKS[curve.drawn])
        return figure

    def files(self) -> dict[str, bytes]:
        """Both files by name, and what the page needs beside it. Law: same picture, same bytes."""
        page = self.figure.to_html(include_plotlyjs="directory", div_id=self.name)
        return {
            f"{self.name}.html": page.encode(),
            f"{self.name}.csv": csv_text(self.head, self.rows).encode(),
            PLOTLY: get_plotlyjs().encode(),
        }
