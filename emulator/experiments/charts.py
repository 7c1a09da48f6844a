"""The figures of an experiment: HTML pages that share one copy of plotly.js, and their data as CSV."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
import pyarrow.compute as pc

from emulator.core.csv_file import make_csv
from emulator.core.run_files import read_metrics
from emulator.experiments.columns import Column, column
from emulator.experiments.runs import RunLine, estimate_column, list_places
from emulator.experiments.schema import Bars, Chart, Front, Layers, Lines, Scatter
from emulator.experiments.statistics import estimate
from emulator.experiments.tables import Drawn

COLOURS_OF_PLOTLY = 10
SYMBOLS = ("circle", "square", "diamond")
"""Marker symbols: rows get the next one each time plotly's colours start again."""


@dataclass(frozen=True)
class Drawing:
    """A figure and the table of its numbers: `head` names the columns of `rows`."""

    name: str
    figure: go.Figure
    head: Sequence[str]
    rows: Sequence[Sequence[object]]

    def write(self, folder: Path) -> None:
        """Write NAME.html and NAME.csv into a folder, and plotly.min.js once beside them."""
        self.figure.write_html(
            folder / f"{self.name}.html", include_plotlyjs="directory", div_id=self.name
        )
        (folder / f"{self.name}.csv").write_text(make_csv(self.head, self.rows), encoding="utf-8")


def draw(chart: Chart, drawn: Drawn) -> Drawing:
    """Draw one chart of an experiment."""
    if isinstance(chart, Lines):
        return _lines(chart, drawn)
    if isinstance(chart, Bars):
        return _bars(chart, drawn)
    if isinstance(chart, Front):
        return _front(chart, drawn)
    if isinstance(chart, Scatter):
        return _scatter(chart, drawn)
    return _layers(chart, drawn)


def _lines(chart: Lines, drawn: Drawn) -> Drawing:
    """Draw mean and interval of every row along the axis."""
    as_text = column(chart.column)
    figure = _figure(drawn.title, drawn.axis_label, as_text.title)
    table: list[list[object]] = []
    for index, row in enumerate(drawn.rows):
        found = [
            (x, estimate_column(drawn.lines, row.label, chart.column, x))
            for x in list_places(drawn.lines)
        ]
        along = [(x, value) for x, value in found if value is not None]
        figure.add_scatter(
            name=row.label,
            marker=_marker(index),
            x=[x for x, _ in along],
            y=[value.mean * as_text.scale for _, value in along],
            error_y=_whiskers([value.half_width for _, value in along], as_text),
        )
        table += [[row.label, x, v.mean, _finite(v.half_width), v.count] for x, v in along]
    name = f"{chart.column}-{chart.kind}".replace("/", "-")
    return Drawing(name, figure, ("row", "x", chart.column, "half_width", "seeds"), table)


def _bars(chart: Bars, drawn: Drawn) -> Drawing:
    """Draw mean and interval of every row."""
    as_text = column(chart.column)
    found = [
        (row.label, estimate_column(drawn.lines, row.label, chart.column)) for row in drawn.rows
    ]
    bars = [(label, value) for label, value in found if value is not None]
    figure = _figure(drawn.title, "", as_text.title)
    figure.add_bar(
        x=[label for label, _ in bars],
        y=[value.mean * as_text.scale for _, value in bars],
        error_y=_whiskers([value.half_width for _, value in bars], as_text),
    )
    table = [[label, v.mean, _finite(v.half_width), v.count] for label, v in bars]
    name = f"{chart.column}-{chart.kind}".replace("/", "-")
    return Drawing(name, figure, ("row", chart.column, "half_width", "seeds"), table)


def _front(chart: Front, drawn: Drawn) -> Drawing:
    """Draw every row at every point of the axis against its cost, and their Pareto front."""
    as_text, cost = column(chart.column), column(chart.cost)
    figure, table = _against(drawn, chart.column, chart.cost)
    figure.update_xaxes(type="log")
    best = pareto_front([(paid, gain) for _, _, paid, gain, _ in table])
    figure.add_scatter(
        name="front",
        mode="lines",
        x=[paid * cost.scale for paid, _ in best],
        y=[gain * as_text.scale for _, gain in best],
        line={"dash": "dot", "color": "black", "shape": "hv"},
    )
    on_front = set(best)
    rows = [[*cells, int((cells[2], cells[3]) in on_front)] for cells in table]
    head = ("row", "x", chart.cost, chart.column, "half_width", "on_front")
    return Drawing(f"{chart.column}-against-{chart.cost}", figure, head, rows)


def _scatter(chart: Scatter, drawn: Drawn) -> Drawing:
    """Draw one column against another, for every row at every point of the axis."""
    figure, table = _against(drawn, chart.column, chart.against)
    head = ("row", "x", chart.against, chart.column, "half_width")
    return Drawing(f"{chart.column}-over-{chart.against}", figure, head, table)


def _against(
    drawn: Drawn, y_name: str, x_name: str
) -> tuple[go.Figure, list[tuple[str, float | None, float, float, float | None]]]:
    """Draw one column over another, a trace per row; also return (row, place, x, y, half width of y)."""
    y_text, x_text = column(y_name), column(x_name)
    figure = _figure(drawn.title, x_text.title, y_text.title)
    table: list[tuple[str, float | None, float, float, float | None]] = []
    for index, row in enumerate(drawn.rows):
        found = [
            (place, estimate_column(drawn.lines, row.label, x_name, place), y)
            for place in list_places(drawn.lines)
            if (y := estimate_column(drawn.lines, row.label, y_name, place)) is not None
        ]
        mine = [(place, x, y) for place, x, y in found if x is not None]
        figure.add_scatter(
            name=row.label,
            mode="lines+markers",
            marker=_marker(index),
            x=[x.mean * x_text.scale for _, x, _ in mine],
            y=[y.mean * y_text.scale for _, _, y in mine],
            error_y=_whiskers([y.half_width for _, _, y in mine], y_text),
        )
        table += [(row.label, place, x.mean, y.mean, _finite(y.half_width)) for place, x, y in mine]
    return figure, table


def _marker(index: int) -> dict[str, object]:
    """Return the marker of a row, given its index."""
    return {"size": 8, "symbol": SYMBOLS[index // COLOURS_OF_PLOTLY % len(SYMBOLS)]}


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, gain) points for which no other point has at most the cost and more gain.

    Law: costs and gains both increase along the front.
    """
    front: list[tuple[float, float]] = []
    for cost, gain in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not front or gain > front[-1][1]:
            front.append((cost, gain))
    return front


def _layers(chart: Layers, drawn: Drawn) -> Drawing:
    """Draw a measurement of the setup by layer: a line per task, the mean over devices and seeds."""
    lines = [line for line in drawn.lines if line.row == chart.row]
    by_task: dict[str, dict[str, list[float]]] = {}
    for line in lines:
        for task, layer, value in layer_values(line, chart.metric):
            by_task.setdefault(task, {}).setdefault(layer, []).append(value)
    figure = _figure(drawn.title, "layer", chart.metric.replace("_", " "))
    table: list[list[object]] = []
    for task in list(by_task)[: chart.tasks]:
        layers = by_task[task]
        means = [estimate(values) for values in layers.values()]
        figure.add_scatter(
            name=task,
            x=list(layers),
            y=[value.mean for value in means],
            error_y=_whiskers([value.half_width for value in means], Column("", "", 1.0, 0)),
        )
        table += [
            [task, layer, value.mean, _finite(value.half_width), value.count]
            for layer, value in zip(layers, means, strict=True)
        ]
    head = ("task", "layer", chart.metric, "half_width", "values")
    return Drawing(f"{chart.metric}-by-layer", figure, head, table)


def layer_values(line: RunLine, metric: str) -> list[tuple[str, str, float]]:
    """(task, layer, value) of a per-layer measurement at the first device of every task."""
    table = read_metrics(line.folder)
    losses = table.filter(pc.equal(table["metric"], "train_loss")).to_pylist()
    task_of: Mapping[int, str] = {row["device"]: row["task"] for row in losses}
    first: dict[str, int] = {}
    for device, task in sorted(task_of.items()):
        first.setdefault(task, device)
    found = table.filter(pc.starts_with(table["metric"], f"{metric}/")).to_pylist()
    return [
        (task, row["metric"].removeprefix(f"{metric}/"), row["value"])
        for task, device in first.items()
        for row in sorted(found, key=lambda row: _layer_order(row["metric"]))
        if row["device"] == device
    ]


def _layer_order(name: str) -> tuple[int, str]:
    """Sort key of a layer: its number, then its name."""
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    return (numbers[0] if numbers else -1, name)


def _figure(title: str, x_title: str, y_title: str) -> go.Figure:
    return go.Figure(
        layout={
            "title": {"text": title},
            "xaxis": {"title": {"text": x_title}},
            "yaxis": {"title": {"text": y_title}, "rangemode": "tozero"},
            "template": "plotly_white",
        }
    )


def _whiskers(half_widths: Sequence[float], as_text: Column) -> dict[str, object]:
    """Return error bars; they are zero where a single seed has no interval."""
    sizes = [0.0 if math.isinf(half) else half * as_text.scale for half in half_widths]
    return {"type": "data", "array": sizes}


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
