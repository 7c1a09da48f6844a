"""The table of an experiment in Markdown: the measurements beside the paper's numbers."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from emulator.core.errors import ScenarioError, shown
from emulator.core.names import is_name
from emulator.experiments.claims import collect_family, write_sentence
from emulator.experiments.columns import COLUMNS, column
from emulator.experiments.runs import RunLine, collect_by_seed, estimate_column, list_places
from emulator.experiments.schema import Experiment, Overrides, PlannedRow, list_rows
from emulator.experiments.significance import Family, Verdict
from emulator.experiments.statistics import Estimate, estimate, estimate_paired


@dataclass(frozen=True)
class Drawn:
    """The input of a table: the experiment, its rows and runs, and texts on missing runs.

    common: overrides of the experiment for all rows. overrides: the user's. learning_rates: by row, NaN
    for the method's default.
    """

    name: str
    suite: str
    experiment: Experiment
    rows: Sequence[PlannedRow]
    lines: Sequence[RunLine]
    missing: Sequence[str]
    axis_label: str
    common: Overrides
    overrides: Overrides
    learning_rates: Mapping[str, float]

    @property
    def title(self) -> str:
        """The title of the experiment, with the user's overrides."""
        changes = _settings(self.overrides)
        return f"{self.experiment.title} (changed: {changes})" if changes else self.experiment.title


def check_columns(experiment: Experiment, name: str) -> None:
    """Raise ScenarioError where an experiment names a column that no run has."""
    used = {f"columns.{i}": text for i, text in enumerate(experiment.columns)}
    for index, chart in enumerate(experiment.charts):
        names = ("column", "cost", "against")
        used |= {f"charts.{index}.{k}": getattr(chart, k, "accuracy") for k in names}
    for index, claim in enumerate(experiment.claims):
        used[f"claims.{index}.column"] = claim.column
        if below := getattr(claim, "below_column", None):
            used[f"claims.{index}.below_column"] = below
    wrong = {w: c for w, c in used.items() if c not in COLUMNS and not _is_of_a_task(c)}
    if wrong:
        known = ", ".join(COLUMNS)
        raise ScenarioError(
            [
                f"{name}: {w}: got {shown(c)}, wanted accuracy/TASK or one of {known}"
                for w, c in wrong.items()
            ]
        )


def _is_of_a_task(column: str) -> bool:
    """Whether a column is `accuracy/TASK` with a task that can be a file name, as charts need it."""
    prefix, slash, task = column.partition("/")
    return (prefix, slash) == ("accuracy", "/") and is_name(task)


def build_document(drawn: Drawn) -> str:
    """Build the whole Markdown file."""
    experiment = drawn.experiment
    parts = [f"# {drawn.title}\n\n{experiment.about}", _provenance(drawn)]
    for x in list_places(drawn.lines):
        if x is not None:
            parts.append(f"## {drawn.axis_label}: {x:g}")
        parts.append(_main_table(drawn, x))
    if list_places(drawn.lines) == [None]:
        parts.append("## Accuracy by task [%]\n\n" + _task_table(drawn))
    here = {row.label for row in drawn.rows}
    judged = [claim for claim in experiment.claims if here.issuperset(list_rows(claim).values())]
    if judged:
        family = collect_family(judged, drawn.lines)
        sentences = [f"- {write_sentence(claim, drawn.lines, family)}" for claim in judged]
        if left_out := len(experiment.claims) - len(judged):
            sentences.append(f"- {left_out} more need rows that were not run.")
        parts.append(f"## What holds\n\n{_correction(family)}\n\n" + "\n".join(sentences))
    parts.append("## Rows\n\n" + "\n".join(_about(row, drawn) for row in drawn.rows))
    if drawn.missing:
        parts.append("## Missing\n\n" + "\n".join(f"- {text}" for text in drawn.missing))
    return "\n\n".join(parts) + "\n"


def _about(row: PlannedRow, drawn: Drawn) -> str:
    """Describe a row: what it is, its overrides, and its learning rate."""
    details = [_settings(settings)] if (settings := row.overrides | row.fixed) else []
    rate = drawn.learning_rates.get(row.label)
    if rate is not None:
        details.append(f"learning rate: {'the default' if math.isnan(rate) else f'{rate:g}'}")
    return f"- **{row.label}**: {row.about}" + (f" ({'; '.join(details)})" if details else "")


def _settings(overrides: Overrides) -> str:
    """Format overrides as they are written after --set."""
    return ", ".join(f"{key}={_value(value)}" for key, value in overrides.items())


def _value(value: object) -> str:
    """Format a value in flow YAML; text stays as it is."""
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a pipe table; the first column is text, the others are numbers."""
    ruler = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ruler, *rows))


def _provenance(drawn: Drawn) -> str:
    """Describe the runs of a table and the meaning of its numbers."""
    seeds = sorted({line.seed for line in drawn.lines})
    text = (
        f"Suite `{drawn.suite}`, {_span(seeds)}. Mean ± 95 % interval over seeds (Student's t); "
        "a single seed has no interval and is not tested. Differences are paired by seed. All bytes on the air are counted: "
        "setup, rounds, final exchange, acknowledgements."
    )
    if drawn.experiment.baseline:
        text += (
            " `*`: significant, that is p < 0.05 of a paired t test, adjusted after Holm over the "
            "differences of accuracy in the same table."
        )
    if drawn.common:
        text += f" All rows: {_settings(drawn.common)}."
    if drawn.experiment.source:
        text += f" The paper's numbers: {drawn.experiment.source}."
    return text


def _correction(family: Family) -> str:
    """Describe how claims are judged and which tests are corrected together."""
    tests = len(family.p_values)
    if not tests:
        return (
            "Nothing below is tested: a test takes differences over two seeds at least that vary."
        )
    return (
        f"Significant means p < 0.05, two-sided, of a t test over seeds (paired), adjusted after Holm over "
        f"the tests of this list ({tests}): the chance that any of them is significant without cause is at most "
        "5 %. One seed is not tested, nor what all seeds agree on. The intervals (±) are of 95 % each and not "
        "adjusted."
    )


def _span(seeds: Sequence[int]) -> str:
    """Format seeds: `seeds 1-5`, `seeds 1, 4`, `seed 1` or `no seed`."""
    if len(seeds) < 2:
        return f"seed {seeds[0]}" if seeds else "no seed"
    whole = seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"seeds {seeds[0]}-{seeds[-1]}" if whole else f"seeds {', '.join(map(str, seeds))}"


def _main_table(drawn: Drawn, x: float | None) -> str:
    experiment = drawn.experiment
    baseline = experiment.baseline
    gaps = {row.label: _gap(drawn, row.label, x) for row in drawn.rows} if baseline else {}
    family = Family.of(gaps.values())
    papers = list(dict.fromkeys(name for row in drawn.rows for name in row.paper))
    head = ["", "seeds", *(column(name).title for name in experiment.columns)]
    if baseline:
        head += [f"accuracy against {baseline} [points]", f"bytes against {baseline}"]
    head += [f"paper, {name} [%]" for name in papers]
    rows = []
    for row in drawn.rows:
        seeds = collect_by_seed(drawn.lines, row.label, "bytes_total", x)
        cells = [row.label, str(len(seeds))]
        cells += [
            column(name).estimate(estimate_column(drawn.lines, row.label, name, x))
            for name in experiment.columns
        ]
        if baseline:
            cells += [
                _against(gaps[row.label], family),
                _bytes_against(drawn, row.label, baseline, x),
            ]
        cells += [f"{row.paper[name]:.2f}" if name in row.paper else "-" for name in papers]
        rows.append(cells)
    return markdown_table(head, rows)


def _gap(drawn: Drawn, row: str, x: float | None) -> Estimate | None:
    """Estimate the paired difference of accuracy to the baseline; None for the baseline itself."""
    baseline = drawn.experiment.baseline
    if baseline is None or row == baseline:
        return None
    accuracy = (collect_by_seed(drawn.lines, label, "accuracy", x) for label in (row, baseline))
    return estimate_paired(*accuracy)


def _against(gap: Estimate | None, family: Family) -> str:
    """Format a difference of accuracy in points, with a mark where it is significant."""
    if gap is None:
        return "-"
    spread = "" if math.isinf(gap.half_width) else f" ± {100 * gap.half_width:.1f}"
    mark = "" if family.verdict(gap) is Verdict.OPEN else " *"
    return f"{100 * gap.mean:+.1f}{spread}{mark}"


def _bytes_against(drawn: Drawn, row: str, baseline: str, x: float | None) -> str:
    """Format the mean over seeds of the ratio of all bytes; `-` against a baseline that sends nothing."""
    ours = collect_by_seed(drawn.lines, row, "bytes_total", x)
    theirs = collect_by_seed(drawn.lines, baseline, "bytes_total", x)
    shared = sorted(ours.keys() & theirs.keys())
    ratios = [ours[seed] / theirs[seed] for seed in shared if theirs[seed]]
    return f"{100 * estimate(ratios).mean:.1f} %" if ratios else "-"


def _task_table(drawn: Drawn) -> str:
    tasks = sorted({task for line in drawn.lines for task in line.per_task})
    names = [f"accuracy/{task}" for task in tasks]
    rows = [
        [
            row.label,
            *(column(n).estimate(estimate_column(drawn.lines, row.label, n)) for n in names),
        ]
        for row in drawn.rows
    ]
    return markdown_table(["", *tasks], rows)
