"""Claims put to the test: each becomes one sentence, computed from the runs.

A sentence says what was claimed, what was measured, and whether it holds. On an axis, differences,
bounds and growth are judged along all of it, orders and savings at its last place.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from emulator.experiments import Bound, Claim, Difference, Growth, Order, Saving
from emulator.report.columns import Column, column
from emulator.report.runs import RunLine, by_seed, estimate_of, places
from emulator.report.statistics import Estimate, estimate, paired

HOLDS = "direction holds"
FAILS = "direction does not hold"
UNSETTLED = "direction not settled (0 lies within)"
KEPT = "holds"
TOUCH = "intervals touch"


def sentence(claim: Claim, lines: Sequence[RunLine]) -> str:
    """What the runs say about a claim; where runs are missing, that nothing can be said."""
    if isinstance(claim, Difference):
        return _difference(claim, lines)
    if isinstance(claim, Order):
        return _order(claim, lines)
    if isinstance(claim, Saving):
        return _saving(claim, lines)
    if isinstance(claim, Bound):
        return _bound(claim, lines)
    return _growth(claim, lines)


def _difference(claim: Difference, lines: Sequence[RunLine]) -> str:
    """Direction, whether intervals touch, what we promise of the size, and the paper's beside it.

    On an axis place by place.
    """
    what = _compared(claim)
    found = [(x, _gap(claim, lines, x)) for x in places(lines)]
    gaps = [(x, gap) for x, gap in found if gap is not None]
    if not gaps:
        return f"{what}: cannot be judged, runs are missing."
    if gaps[0][0] is not None:
        return f"{what}: {_along(claim, lines, gaps)}."
    gap = gaps[0][1]
    parts = [f"{_points(gap, claim)}, {_direction(gap)}", _touching(claim, lines, None)]
    parts += [f"{promise}: {kept}" for promise, kept in _promises(claim, lines, None, gap).items()]
    as_text = column(claim.column)
    parts += [_size(gap, name, theirs, as_text) for name, theirs in claim.paper.items()]
    return f"{what}: {'; '.join(parts)}."


def _along(
    claim: Difference, lines: Sequence[RunLine], gaps: Sequence[tuple[float | None, Estimate]]
) -> str:
    """The differences at all places of the axis, and at which of them direction and promises hold."""
    told = [f"{_points(gap, claim)} at {x:g} ({_touching(claim, lines, x)})" for x, gap in gaps]
    verdicts = [f"direction {_where([(x, _direction(gap) == HOLDS) for x, gap in gaps])}"]
    kept = [(x, _promises(claim, lines, x, gap)) for x, gap in gaps]
    verdicts += [f"{p} {_where([(x, here[p] == KEPT) for x, here in kept])}" for p in kept[0][1]]
    return "; ".join([", ".join(told), *verdicts])


def _where(held: Sequence[tuple[float | None, bool]]) -> str:
    """At which places of the axis something holds."""
    there = [f"{x:g}" for x, holds in held if holds]
    if len(there) == len(held):
        return "holds everywhere"
    return f"holds at {', '.join(there)} only" if there else "holds nowhere"


def _promises(
    claim: Difference, lines: Sequence[RunLine], x: float | None, gap: Estimate
) -> dict[str, str]:
    """What we promise of a difference's size, in words, and whether it holds at one place."""
    told, as_text = {}, column(claim.column)
    if (least := claim.at_least) is not None:
        kept = _kept(replace(gap, mean=gap.mean - least / as_text.scale))
        if kept == KEPT and _touching(claim, lines, x) == TOUCH:
            kept = "does not hold (intervals touch)"
        told[f"at least {least:+g} {_unit(as_text)}"] = kept
    if (most := claim.at_most) is not None:
        told[f"at most {most:+g} {_unit(as_text)}"] = _kept(
            replace(gap, mean=most / as_text.scale - gap.mean)
        )
    return told


def _kept(margin: Estimate) -> str:
    """Whether what is left to a bound is not below 0; of several seeds, with all of its interval."""
    if margin.count > 1 and margin.low < 0 <= margin.high:
        return "not settled (it lies within the interval)"
    return KEPT if margin.mean >= 0 else "does not hold"


def _direction(gap: Estimate) -> str:
    """Whether a paired difference is above 0; of several seeds, with all of its interval."""
    if gap.count > 1 and gap.holds(0.0):
        return UNSETTLED
    return HOLDS if gap.mean > 0 else FAILS


def _gap(claim: Difference, lines: Sequence[RunLine], x: float | None) -> Estimate | None:
    """The paired difference at one place; None where runs are missing."""
    above = by_seed(lines, claim.above, claim.column, x)
    return paired(above, by_seed(lines, claim.below, _below_column(claim), x))


def _compared(claim: Difference) -> str:
    """What stands above what."""
    heading, other = column(claim.column).heading, column(_below_column(claim)).heading
    if heading == other:
        return f"`{claim.above}` above `{claim.below}` in {heading}"
    return f"{heading} (`{claim.above}`) above {other} (`{claim.below}`)"


def _below_column(claim: Difference) -> str:
    return claim.below_column or claim.column


def _size(gap: Estimate, name: str, theirs: float, as_text: Column) -> str:
    """Our difference beside the paper's."""
    told = f"{theirs:+.2f} {_unit(as_text)} ({name})"
    if gap.count == 1:
        return f"the paper has {told}, a single seed does not judge its size"
    if gap.holds(theirs / as_text.scale):
        return f"the paper's {told} lie within the interval"
    word = "larger" if gap.mean > theirs / as_text.scale else "smaller"
    return f"{word} than the paper's {told}"


def _order(claim: Order, lines: Sequence[RunLine]) -> str:
    where, x = _last_place(lines)
    heading = column(claim.column).heading
    what = f"Order {' < '.join(f'`{row}`' for row in claim.rows)} in {heading}{where}"
    values = {row: by_seed(lines, row, claim.column, x) for row in claim.rows}
    gaps = {(a, b): paired(values[b], values[a]) for a, b in pairwise(claim.rows)}
    verdicts = {pair: _direction(gap) for pair, gap in gaps.items() if gap is not None}
    if len(verdicts) < len(gaps):
        return f"{what}: cannot be judged, runs are missing."
    wrong = [f"`{a}` is not below `{b}`" for (a, b), told in verdicts.items() if told == FAILS]
    unsettled = [f"`{a}` and `{b}`" for (a, b), told in verdicts.items() if told == UNSETTLED]
    parts = [f"does not hold: {', '.join(wrong)}"] if wrong else []
    if unsettled:
        parts.append(f"not settled between {', '.join(unsettled)} (0 lies within the difference)")
    intervals = {row: estimate(list(of_seeds.values())) for row, of_seeds in values.items()}
    if min(value.count for value in intervals.values()) == 1:
        touching = "one seed has no interval"
    else:
        close = [f"`{a}` and `{b}`" for a, b in gaps if intervals[a].touches(intervals[b])]
        touching = f"intervals touch between {', '.join(close)}" if close else "no intervals touch"
    return f"{what}: {'; '.join([*(parts or ['holds']), touching])}."


def _saving(claim: Saving, lines: Sequence[RunLine]) -> str:
    where, x = _last_place(lines)
    heading = column(claim.column).heading
    what = f"`{claim.row}` has {claim.percent:g} % less {heading} than `{claim.against}`{where}"
    ours = by_seed(lines, claim.row, claim.column, x)
    theirs = by_seed(lines, claim.against, claim.column, x)
    seeds = [seed for seed in sorted(ours.keys() & theirs.keys()) if theirs[seed]]
    if not seeds:
        return f"{what} ({claim.source}): cannot be judged, runs are missing."
    saved = estimate([1 - ours[seed] / theirs[seed] for seed in seeds])
    share = column("accuracy")
    verdict = "holds" if saved.mean >= claim.percent / 100 else "does not hold"
    return f"{what} ({claim.source}): measured {share.estimate(saved)} % less, {verdict}."


def _bound(claim: Bound, lines: Sequence[RunLine]) -> str:
    as_text = column(claim.column)
    most = claim.at_most / as_text.scale
    what = f"`{claim.row}` never has more than {as_text.number(most)} {as_text.unit} "
    what += as_text.heading
    values = [v for x in places(lines) for v in by_seed(lines, claim.row, claim.column, x).values()]
    if not values:
        return f"{what}: cannot be judged, runs are missing."
    over = sum(value > most for value in values)
    verdict = f"does not hold in {over} of {len(values)} runs" if over else "holds"
    largest = f"largest of {len(values)} runs {as_text.number(max(values))} {as_text.unit}"
    return f"{what}: {verdict}; {largest}."


def _growth(claim: Growth, lines: Sequence[RunLine]) -> str:
    as_text = column(claim.column)
    what = f"`{claim.row}`: {as_text.heading} grows along the axis"
    found = [(x, estimate_of(lines, claim.row, claim.column, x)) for x in places(lines)]
    along = [(x, value) for x, value in found if x is not None and value is not None]
    if len(along) < 2:
        return f"{what}: cannot be judged, runs are missing."
    (first_x, first), (last_x, last) = along[0], along[-1]
    grows = last.mean > first.mean
    falls = sum(b.mean < a.mean for (_, a), (_, b) in pairwise(along))
    verdict = "holds" if grows and not falls else "holds in all, not step by step"
    return (
        f"{what}: {verdict if grows else 'does not hold'}; {as_text.estimate(first)} at {first_x:g}, "
        f"{as_text.estimate(last)} {as_text.unit} at {last_x:g}."
    )


def _last_place(lines: Sequence[RunLine]) -> tuple[str, float | None]:
    """Where a claim is judged, in words and as the place itself."""
    x = places(lines)[-1] if lines else None
    return ("" if x is None else f" at {x:g}"), x


def _points(gap: Estimate, claim: Difference) -> str:
    """A difference in the column's unit: of shares in percentage points."""
    as_text = column(claim.column)
    mean, unit = f"{gap.mean * as_text.scale:+,.{as_text.decimals}f}", _unit(as_text)
    if gap.count == 1:
        return f"{mean} {unit} (one seed)"
    return f"{mean} ± {as_text.number(gap.half_width)} {unit}"


def _unit(as_text: Column) -> str:
    """What differences of a column are counted in."""
    return "points" if as_text.unit == "%" else as_text.unit or as_text.heading


def _touching(claim: Difference, lines: Sequence[RunLine], x: float | None) -> str:
    """Whether the intervals of the two rows touch at one place."""
    first = estimate_of(lines, claim.above, claim.column, x)
    second = estimate_of(lines, claim.below, _below_column(claim), x)
    if first is None or second is None or min(first.count, second.count) == 1:
        return "one seed has no interval"
    return TOUCH if first.touches(second) else "intervals do not touch"
