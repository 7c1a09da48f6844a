"""Tests of claims: each claim becomes one sentence, computed from the runs.

A sentence states the claim, the measurement, and whether it is significant. Claims are judged by margins
over seeds (`compute_margins`); all claims of a table form one family (significance.py). Along an axis,
differences, bounds and growth are judged at all points, orders and savings at the last one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from emulator.experiments.columns import column
from emulator.experiments.differences import (
    MISSING,
    compute_difference_margins,
    write_difference_sentence,
)
from emulator.experiments.runs import RunLine, collect_by_seed, list_places
from emulator.experiments.schema import Bound, Claim, Difference, Growth, Order, Saving
from emulator.experiments.significance import ONE_SEED, Family, Verdict
from emulator.experiments.statistics import Estimate, estimate, estimate_paired, largest_share

Margins = Mapping[Any, Estimate | None]
"""Name -> the estimate that has to be above 0; None where runs are missing."""


def collect_family(claims: Sequence[Claim], lines: Sequence[RunLine]) -> Family:
    """Collect the margins of all claims into one family of tests."""
    return Family.of(m for claim in claims for m in compute_margins(claim, lines).values())


def write_sentence(claim: Claim, lines: Sequence[RunLine], family: Family) -> str:
    """Write what the runs show about a claim of the family; where runs are missing, state that."""
    if isinstance(claim, Difference):
        return write_difference_sentence(claim, lines, family)
    if isinstance(claim, Order):
        return _order(claim, lines, family)
    if isinstance(claim, Saving):
        return _saving(claim, lines, family)
    if isinstance(claim, Bound):
        return _bound(claim, lines)
    return _growth(claim, lines, family)


def compute_margins(claim: Claim, lines: Sequence[RunLine]) -> Margins:
    """Compute all margins of a claim. A bound has none, because it concerns every single run."""
    if isinstance(claim, Difference):
        return {
            k: m
            for x in list_places(lines)
            for k, m in compute_difference_margins(claim, lines, x).items()
        }
    if isinstance(claim, Order):
        _, x = _last_place(lines)
        values = {row: collect_by_seed(lines, row, claim.column, x) for row in claim.rows}
        return {(a, b): estimate_paired(values[b], values[a]) for a, b in pairwise(claim.rows)}
    if isinstance(claim, Saving):
        saved = _saved(claim, lines)
        return {(): saved and replace(saved, mean=saved.mean - claim.percent / 100)}
    if isinstance(claim, Growth):
        return _of_growth(claim, lines)
    return {}


def _order(claim: Order, lines: Sequence[RunLine], family: Family) -> str:
    """Write whether each row stands above the one before it."""
    where, _ = _last_place(lines)
    heading = column(claim.column).heading
    what = f"Order {' < '.join(f'`{row}`' for row in claim.rows)} in {heading}{where}"
    margins = compute_margins(claim, lines)
    steps = {pair: margin for pair, margin in margins.items() if margin is not None}
    if len(steps) < len(margins):
        return f"{what}: {MISSING}"
    open_steps = {
        pair: margin
        for pair, margin in steps.items()
        if family.verdict(margin) is not Verdict.HOLDS
    }
    parts = [f"`{a}` < `{b}` {family.words(margin)}" for (a, b), margin in open_steps.items()]
    return f"{what}: {'; '.join(parts) or f'{Verdict.HOLDS} at every step'}."


def _saved(claim: Saving, lines: Sequence[RunLine]) -> Estimate | None:
    """Estimate 1 - row / against over seeds; None where runs are missing."""
    _, x = _last_place(lines)
    ours = collect_by_seed(lines, claim.row, claim.column, x)
    theirs = collect_by_seed(lines, claim.against, claim.column, x)
    seeds = [seed for seed in sorted(ours.keys() & theirs.keys()) if theirs[seed]]
    return estimate([1 - ours[seed] / theirs[seed] for seed in seeds]) if seeds else None


def _saving(claim: Saving, lines: Sequence[RunLine], family: Family) -> str:
    where, _ = _last_place(lines)
    heading = column(claim.column).heading
    what = f"`{claim.row}` has {claim.percent:g} % less {heading} than `{claim.against}`{where}"
    what += f" ({claim.source})"
    saved, margin = _saved(claim, lines), compute_margins(claim, lines)[()]
    if saved is None or margin is None:
        return f"{what}: {MISSING}"
    share = column("accuracy")
    return f"{what}: measured {share.estimate(saved)} % less, {family.words(margin)}."


def _bound(claim: Bound, lines: Sequence[RunLine]) -> str:
    """Write in how many runs a bound holds; if in all, also which share of seeds may still exceed it.

    Runs of one seed at several points of an axis share random draws, so they count as one observation.
    """
    as_text = column(claim.column)
    most = claim.at_most / as_text.scale
    what = f"`{claim.row}` never has more than {as_text.number(most)} {as_text.unit} "
    what += as_text.heading
    found = [collect_by_seed(lines, claim.row, claim.column, x) for x in list_places(lines)]
    values = [value for of_seeds in found for value in of_seeds.values()]
    if not values:
        return f"{what}: {MISSING}"
    over = sum(value > most for value in values)
    seeds = len({seed for of_seeds in found for seed in of_seeds})
    if over:
        verdict = f"does not hold in {over} of {len(values)} runs"
    elif seeds == 1:
        verdict = f"holds in all runs ({len(values)}) {ONE_SEED} (not tested)"
    else:
        share = column("accuracy").number(largest_share(seeds))
        verdict = (
            f"holds in all runs ({len(values)}) of {seeds} seeds, and so with 95 % confidence "
        )
        verdict += f"in all runs of all but {share} % of seeds"
    return f"{what}: {verdict}; largest {as_text.number(max(values))} {as_text.unit}."


def _of_growth(claim: Growth, lines: Sequence[RunLine]) -> Margins:
    """Compute the growth from the first point to the last, and between neighbours if there are more."""
    found = {
        x: collect_by_seed(lines, claim.row, claim.column, x)
        for x in list_places(lines)
        if x is not None
    }
    along = [x for x, values in found.items() if values]
    if len(along) < 2:
        return {}
    pairs = [(along[0], along[-1]), *(pairwise(along) if len(along) > 2 else ())]
    return {(a, b): estimate_paired(found[b], found[a]) for a, b in pairs}


def _growth(claim: Growth, lines: Sequence[RunLine], family: Family) -> str:
    as_text = column(claim.column)
    what = f"`{claim.row}`: {as_text.heading} grows along the axis"
    margins = _of_growth(claim, lines)
    whole, *steps = margins.values() or [None]
    if whole is None:
        return f"{what}: {MISSING}"
    first_x, last_x = next(iter(margins))
    measured = f"{as_text.difference(whole)} from {first_x:g} to {last_x:g}, {family.words(whole)}"
    if steps:
        verdicts = [family.verdict(step) for step in steps if step is not None]
        rise, fall = (verdicts.count(verdict) for verdict in (Verdict.HOLDS, Verdict.FAILS))
        measured += f"; of {len(steps)} steps {rise} rise and {fall} fall significantly"
    return f"{what}: {measured}."


def _last_place(lines: Sequence[RunLine]) -> tuple[str, float | None]:
    """Return the last point of the axis, as text and as number."""
    x = list_places(lines)[-1] if lines else None
    return ("" if x is None else f" at {x:g}"), x
