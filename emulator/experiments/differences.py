"""Tests of differences: how far one row stands above another, and the promises about that size."""

from collections.abc import Sequence
from dataclasses import replace

from emulator.experiments.columns import Column, column
from emulator.experiments.runs import RunLine, collect_by_seed, estimate_column, list_places
from emulator.experiments.schema import Difference
from emulator.experiments.significance import Family, Verdict
from emulator.experiments.statistics import Estimate, estimate_paired

MISSING = "cannot be judged, runs are missing."
TOUCH = "the rows' intervals touch"


def compute_difference_margins(
    claim: Difference, lines: Sequence[RunLine], x: float | None
) -> dict[tuple[float | None, str], Estimate | None]:
    """Compute the margins at one point: the direction (named ""), and the distance to each promise."""
    gap = _gap(claim, lines, x)
    margins: dict[tuple[float | None, str], Estimate | None] = {(x, ""): gap}
    for promise, bound in _promises(claim).items():
        left = None
        if gap is not None:
            over = gap.mean - bound / column(claim.column).scale
            left = replace(gap, mean=over if promise.startswith("at least") else -over)
        margins[x, promise] = left
    return margins


def _promises(claim: Difference) -> dict[str, float]:
    """Return our promises about the size of a difference: text -> bound in the column's unit."""
    unit, promises = column(claim.column).unit_of_differences, {}
    if claim.at_least is not None:
        promises[f"at least {claim.at_least:+g} {unit}"] = claim.at_least
    if claim.at_most is not None:
        promises[f"at most {claim.at_most:+g} {unit}"] = claim.at_most
    return promises


def _judged(
    claim: Difference, lines: Sequence[RunLine], x: float | None, family: Family
) -> dict[str, tuple[Verdict, str]]:
    """Judge direction and promises at one point: name -> (verdict, verdict as text).

    An `at_least` promise holds only where the intervals of the two rows do not touch.
    """
    judged = {}
    for (_, promise), margin in compute_difference_margins(claim, lines, x).items():
        if margin is None:
            continue
        judged[promise] = family.verdict(margin), family.words(margin)
        holds = judged[promise][1].startswith("holds")
        if promise.startswith("at least") and holds and _touching(claim, lines, x) == TOUCH:
            judged[promise] = Verdict.OPEN, f"does not hold ({TOUCH})"
    return judged


def write_difference_sentence(claim: Difference, lines: Sequence[RunLine], family: Family) -> str:
    """Write direction, whether intervals touch, our promises, and the paper's difference."""
    what, as_text = _compared(claim), column(claim.column)
    found = [(x, _gap(claim, lines, x)) for x in list_places(lines)]
    gaps = [(x, gap) for x, gap in found if gap is not None]
    if not gaps:
        return f"{what}: {MISSING}"
    if gaps[0][0] is not None:
        return f"{what}: {_along(claim, lines, gaps, family)}."
    gap = gaps[0][1]
    (_, direction), *promised = _judged(claim, lines, None, family).values()
    parts = [f"{as_text.difference(gap)}, direction {direction}", _touching(claim, lines, None)]
    named = zip(_promises(claim), promised, strict=True)
    parts += [f"{promise}: {words}" for promise, (_, words) in named]
    parts += [_size(gap, name, theirs, as_text) for name, theirs in claim.paper.items()]
    return f"{what}: {'; '.join(part for part in parts if part)}."


def _along(
    claim: Difference,
    lines: Sequence[RunLine],
    gaps: Sequence[tuple[float | None, Estimate]],
    family: Family,
) -> str:
    """Write the differences at all points of the axis, and where direction and promises hold."""
    judged = {x: _judged(claim, lines, x, family) for x, _ in gaps}
    parts = []
    for x, gap in gaps:
        words = [judged[x][""][1], _touching(claim, lines, x)]
        size = f"{column(claim.column).difference(gap)} at {x:g}"
        parts.append(f"{size}: {', '.join(word for word in words if word)}")
    for promise in ("", *_promises(claim)):
        verdicts = [(x, judged[x][promise][0]) for x, _ in gaps]
        parts.append(f"{promise or 'direction'} {_where(verdicts)}")
    return "; ".join(parts)


def _where(found: Sequence[tuple[float | None, Verdict]]) -> str:
    """Write at which points of the axis a statement holds, and at which it is significantly wrong."""
    parts = []
    for verdict in (Verdict.HOLDS, Verdict.FAILS):
        there = [f"{x:g}" for x, here in found if here is verdict]
        if len(there) == len(found):
            return f"{verdict} everywhere"
        if there:
            parts.append(f"{verdict} at {', '.join(there)} only")
    return ", ".join(parts) or "significant nowhere"


def _gap(claim: Difference, lines: Sequence[RunLine], x: float | None) -> Estimate | None:
    """Estimate the paired difference at one point; None where runs are missing."""
    above = collect_by_seed(lines, claim.above, claim.column, x)
    return estimate_paired(above, collect_by_seed(lines, claim.below, _below_column(claim), x))


def _compared(claim: Difference) -> str:
    """Write which row and column stand above which."""
    heading, other = column(claim.column).heading, column(_below_column(claim)).heading
    if heading == other:
        return f"`{claim.above}` above `{claim.below}` in {heading}"
    return f"{heading} (`{claim.above}`) above {other} (`{claim.below}`)"


def _below_column(claim: Difference) -> str:
    return claim.below_column or claim.column


def _size(gap: Estimate, name: str, theirs: float, as_text: Column) -> str:
    """Write how the paper's difference compares with ours."""
    paper = f"{theirs:+.2f} {as_text.unit_of_differences} ({name})"
    if gap.count == 1:
        return f"the paper has {paper}, a single seed does not judge its size"
    if gap.holds(theirs / as_text.scale):
        return f"the paper's {paper} lie within the interval"
    word = "larger" if gap.mean > theirs / as_text.scale else "smaller"
    return f"{word} than the paper's {paper}, which lie outside the interval"


def _touching(claim: Difference, lines: Sequence[RunLine], x: float | None) -> str:
    """Write whether the intervals of the two rows touch at one point; empty where one has no interval."""
    first = estimate_column(lines, claim.above, claim.column, x)
    second = estimate_column(lines, claim.below, _below_column(claim), x)
    if first is None or second is None or min(first.count, second.count) == 1:
        return ""
    return TOUCH if first.touches(second) else "the rows' intervals do not touch"
