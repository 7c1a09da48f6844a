"""The schema of experiment files: rows, seeds, charts, and the claims of the paper.

`configs/experiments/NAME.yaml` is an `Experiment`, `configs/experiments/suites.yaml` holds the `Suite`s
on which it runs; `load.py` reads both. An *override* is a `key.path: value` as `emulator run --set` takes
it, so each run of an experiment can be repeated by hand. Scenarios are not checked here, but when an
experiment is planned.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from emulator.core.names import Name
from emulator.core.yaml_file import Raw

Overrides = dict[str, Any]
"""Key path -> value, as in --set."""

MOST_SEEDS = 1000
"""The most seeds of a row, also for `emulator reproduce --seeds`."""

Graph = Literal["own", "clusters", "random", "mesh"]


class Part(BaseModel):
    """A part of an experiment file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# ── suites ───────────────────────────────────────────────────────────────────────────────────────


class Suite(Part):
    """A backbone with its tasks, on which experiments run."""

    about: str = Field(description="one sentence")
    scenario: str = Field(description="scenario file, relative to this file")
    overrides: Overrides = Field(default={}, description="what differs from the scenario file")
    family: str | None = Field(
        default=None, description="the suite whose part in each experiment this one takes"
    )
    memory_mb: float = Field(gt=0, description="memory of one run, for the number of jobs [MB]")
    learning_rates: dict[str, float] = Field(
        default={}, description="row label or method kind -> rate, from `reproduce tune`"
    )


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────


class Row(Part):
    """One line of a table: a method and its setting.

    graphs: `own` is the topology of the scenario; `clusters` the cluster graph of the reference row
    of the same seed; `random` a random graph of as many links that meets the power constraint; `mesh`
    joins all devices. The first graph keeps the label; every other one adds a row `label on GRAPH`.
    """

    label: Name = Field(description="name of the row")
    about: str = Field(description="one sentence on what it is")
    overrides: Overrides = Field(default={}, description="what makes it this row")
    fixed: Overrides = Field(
        default={},
        description="what makes it this row, whatever the axis sets; null undoes what the axis sets",
    )
    graphs: tuple[Graph, ...] = Field(
        default=("own",), min_length=1, description="the graphs of links on which it runs"
    )
    of_paper: bool = Field(default=False, description="whether the paper has this row")
    paper: dict[str, float] = Field(default={}, description="the paper's accuracy [%] by column")


class PlannedRow(Part):
    """A row on one graph."""

    label: str
    about: str
    overrides: Overrides
    fixed: Overrides
    graph: Graph
    of_paper: bool
    paper: dict[str, float]

    @property
    def needs_reference(self) -> bool:
        """Whether its graph is derived from another run."""
        return self.graph in ("clusters", "random")


class Point(Part):
    """One place on the axis of a figure."""

    x: float
    overrides: Overrides = Field(description="what puts a run there")


class Axis(Part):
    """The quantity that a figure varies: every row runs at every point."""

    label: str = Field(description="with its unit")
    points: tuple[Point, ...] = Field(min_length=1)

    @field_validator("points")
    @classmethod
    def _apart(cls, points: tuple[Point, ...]) -> tuple[Point, ...]:
        if twice := _find_repeated([f"{point.x:g}" for point in points]):
            raise ValueError(f"got x {', '.join(twice)} twice, wanted every place once")
        return points


class SuiteUse(Part):
    """How an experiment runs on one suite."""

    seeds: int = Field(gt=0, le=MOST_SEEDS, description="runs with seeds 1 ... so many")
    overrides: Overrides = Field(default={}, description="for all rows, before their own")
    rows: tuple[str, ...] = Field(default=(), description="only these rows; default: all")
    without: tuple[str, ...] = Field(default=(), description="not these rows, unless asked for")
    axis: Axis | None = Field(default=None, description="instead of the experiment's own")


# ── claims ───────────────────────────────────────────────────────────────────────────────────────


class Difference(Part):
    """`above` is higher than `below`, in one column or each row in a column of its own.

    at_least holds only where the intervals of the two rows do not touch; a single seed has no interval.
    """

    kind: Literal["difference"] = "difference"
    above: str
    below: str
    column: str = "accuracy"
    below_column: str | None = Field(default=None, description="of `below`; default: column")
    at_least: float | None = Field(
        default=None, description="the least we promise [points, or the column's unit]"
    )
    at_most: float | None = Field(
        default=None, description="the most we promise [points, or the column's unit]"
    )
    paper: dict[str, float] = Field(
        default={}, description="the paper's difference [points, or the column's unit]"
    )

    @property
    def compares_itself(self) -> bool:
        """Whether both sides are the same row and column."""
        return self.above == self.below and self.below_column in (None, self.column)


class Order(Part):
    """The rows stand in this order, from the lowest to the highest."""

    kind: Literal["order"] = "order"
    rows: tuple[str, ...] = Field(min_length=2)
    column: str = "accuracy"


class Saving(Part):
    """`row` has at least `percent` % less of a column than `against`."""

    kind: Literal["saving"] = "saving"
    row: str
    against: str
    column: str = "bytes_total"
    percent: float = Field(gt=0, lt=100, description="what the paper (or we) promise to save [%]")
    source: str = Field(description="where that is stated")


class Bound(Part):
    """No run of `row` has more of a column than this."""

    kind: Literal["bound"] = "bound"
    row: str
    column: str
    at_most: float = Field(description="in the column's unit: % for shares, MB for bytes")


class Growth(Part):
    """A column of `row` grows along the axis."""

    kind: Literal["growth"] = "growth"
    row: str
    column: str


Claim = Annotated[Difference | Order | Saving | Bound | Growth, Field(discriminator="kind")]


def list_rows(claim: Claim) -> dict[str, str]:
    """List the rows of a claim: key -> row."""
    keys = ("above", "below", "row", "against")
    named = {key: getattr(claim, key) for key in keys if key in type(claim).model_fields}
    if isinstance(claim, Order):
        named |= {f"rows.{i}": row for i, row in enumerate(claim.rows)}
    return named


# ── charts ───────────────────────────────────────────────────────────────────────────────────────


class Lines(Part):
    """A column along the axis, one line per row."""

    kind: Literal["lines"] = "lines"
    column: str


class Bars(Part):
    """A column of every row, with intervals."""

    kind: Literal["bars"] = "bars"
    column: str = "accuracy"


class Front(Part):
    """A column against a cost, every row at every point, with the Pareto front."""

    kind: Literal["front"] = "front"
    column: str = "accuracy"
    cost: str = "bytes_total"


class Scatter(Part):
    """A column against another, every row at every point."""

    kind: Literal["scatter"] = "scatter"
    column: str
    against: str


class Layers(Part):
    """Per-layer measurements of the setup, for the devices of some tasks."""

    kind: Literal["layers"] = "layers"
    row: str
    metric: Literal["spectral_entropy", "density"]
    tasks: int = Field(default=2, gt=0, description="so many tasks, in the order of the suite")


Chart = Annotated[Lines | Bars | Front | Scatter | Layers, Field(discriminator="kind")]


# ── the whole ────────────────────────────────────────────────────────────────────────────────────


class Experiment(Part):
    """One table or figure."""

    like: str | None = Field(
        default=None, description="the experiment whose keys stand where this file has none"
    )
    title: str
    about: str = Field(
        description="what is compared, and what was chosen where the paper is silent"
    )
    source: str = Field(default="", description="where the paper's numbers are printed")
    suites: dict[str, SuiteUse] = Field(min_length=1)
    rows: tuple[Row, ...] = Field(min_length=1)
    reference: str | None = Field(
        default=None, description="row whose clusters and message size fix the other rows' graphs"
    )
    baseline: str | None = Field(default=None, description="row that differences are taken against")
    axis: Axis | None = None
    claims: tuple[Claim, ...] = ()
    charts: tuple[Chart, ...] = ()
    columns: tuple[str, ...] = Field(min_length=1, description="of the table, in order")
    chooses_rates: bool = Field(
        default=False, description="whether its axis is the learning rate and its best is chosen"
    )

    @model_validator(mode="after")
    def _names_are_known(self) -> "Experiment":
        """Check that every named row exists. Raises one ValueError with all problems."""
        known = [row.label for row in self.planned_rows()]
        problems = [
            f"rows: got {x!r} twice, wanted every label once" for x in _find_repeated(known)
        ]
        used = {"reference": self.reference, "baseline": self.baseline}
        for index, claim in enumerate(self.claims):
            used |= {f"claims.{index}.{key}": row for key, row in list_rows(claim).items()}
        for suite, use in self.suites.items():
            for key in ("rows", "without"):
                listed = enumerate(getattr(use, key))
                used |= {f"suites.{suite}.{key}.{i}": x for i, x in listed}
        for where, label in used.items():
            if label is not None and label not in known:
                problems.append(f"{where}: got {label!r}, wanted one of {', '.join(known)}")
        if self.reference is None and any(r.needs_reference for r in self.planned_rows()):
            problems.append("reference: got nothing, wanted the row whose clusters others run on")
        own = [row.label for row in self.planned_rows() if row.graph == "own"]
        if self.reference in known and self.reference not in own:
            problems.append(f"reference: got {self.reference!r}, wanted a row on its own graph")
        problems += [
            f"columns: got {x!r} twice, wanted each once" for x in _find_repeated(self.columns)
        ]
        problems += self._find_empty_statements()
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _find_empty_statements(self) -> list[str]:
        """Find claims and charts without meaning: without an axis, or of a row against itself."""
        problems = []
        has_axis = self.axis is not None or all(use.axis for use in self.suites.values())
        for index, claim in enumerate(self.claims):
            if isinstance(claim, Growth) and not has_axis:
                problems.append(f"claims.{index}: got growth, wanted an axis to grow along")
            if isinstance(claim, Difference) and claim.compares_itself:
                problems.append(
                    f"claims.{index}.below: got {claim.below!r} twice, wanted another row"
                )
        for index, chart in enumerate(self.charts):
            if isinstance(chart, Lines) and not has_axis:
                problems.append(f"charts.{index}: got lines, wanted an axis (or bars)")
        return problems

    def planned_rows(self) -> tuple[PlannedRow, ...]:
        """Return every row on each of its graphs, in order."""
        return tuple(
            PlannedRow(
                label=row.label if graph == row.graphs[0] else f"{row.label} on {graph}",
                about=row.about,
                overrides=row.overrides,
                fixed=row.fixed,
                graph=graph,
                of_paper=row.of_paper and graph == row.graphs[0],
                paper=row.paper if graph == row.graphs[0] else {},
            )
            for row in self.rows
            for graph in row.graphs
        )


def _find_repeated(labels: Sequence[str]) -> list[str]:
    return sorted({label for label in labels if labels.count(label) > 1})


def merge_overrides(*layers: Overrides) -> Raw:
    """Merge overrides: a later one wins, and one of a whole section drops those inside the section."""
    result: Raw = {}
    for layer in layers:
        for key, value in layer.items():
            result = {k: v for k, v in result.items() if not k.startswith(f"{key}.")}
            result[key] = value
    return result
