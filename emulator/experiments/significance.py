"""Which of the differences of one table are significant: t tests, corrected together after Holm.

A *margin* is an estimate over seeds that a claim wants above 0 (a paired difference, or what is left to
a bound). A *family* is the margins that one table judges. Source: S. Holm, A simple sequentially
rejective multiple test procedure, Scand. J. Statist. 6 (1979).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from emulator.experiments.statistics import LEVEL, Estimate, p_value

ALPHA = 1 - LEVEL

ONE_SEED = "in the only seed"
"""Where a statement is known to be true or false; of other seeds a single one says nothing."""


class Verdict(StrEnum):
    """What a family says of a margin."""

    HOLDS = "holds, significant"
    FAILS = "does not hold, significant"
    OPEN = "not significant"


@dataclass(frozen=True)
class Family:
    """The p values that are corrected together, ascending.

    Not tested, and never significant: a single seed, and seeds that all agree. Of a few answers counted
    over a few seeds, equal differences come by chance; of bytes or parameters they are a fact, so the
    words say which way they point.
    """

    p_values: tuple[float, ...]

    @classmethod
    def of(cls, margins: Iterable[Estimate | None]) -> "Family":
        """The family of these margins; None where runs are missing."""
        tested = (p_value(m) for m in margins if m is not None and m.varies)
        return cls(tuple(sorted(tested)))

    def adjusted(self, margin: Estimate) -> float:
        """The adjusted p value of one of the family's margins."""
        return adjust_holm(self.p_values)[self.p_values.index(p_value(margin))]

    def verdict(self, margin: Estimate) -> Verdict:
        """Whether a margin of the family is significantly above 0, or below it."""
        if not margin.varies or self.adjusted(margin) >= ALPHA:
            return Verdict.OPEN
        return Verdict.HOLDS if margin.mean > 0 else Verdict.FAILS

    def words(self, margin: Estimate) -> str:
        """The verdict in words, with the adjusted p value: `holds, significant (p 0.012)`.

        Without a test it says which way the seeds point, and that nothing was tested.
        """
        if not margin.varies:
            side = "holds" if margin.mean > 0 else "does not hold"
            seeds = ONE_SEED if margin.count == 1 else f"in all {margin.count} seeds alike"
            return f"{side} {seeds} (not tested)"
        return f"{self.verdict(margin)} ({_in_words(self.adjusted(margin))})"


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values, in the order given. Law: no family has a false rejection more often than ALPHA.

    The k-th smallest of m is multiplied by m - k + 1, and none is smaller than those before it.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for k, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - k) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _in_words(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"
