"""Significance of the differences of one table: t tests with Holm's correction.

A *margin* is an estimate over seeds that has to be above 0 (a paired difference, or the distance to a
bound). A *family* is the set of margins of one table. Source: S. Holm, A simple sequentially rejective
multiple test procedure, Scand. J. Statist. 6 (1979).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from emulator.experiments.statistics import LEVEL, Estimate, p_value

ALPHA = 1 - LEVEL

ONE_SEED = "in the only seed"
"""Text for a statement about one seed, which shows nothing about other seeds."""


class Verdict(StrEnum):
    """The result of the test of a margin, as text."""

    HOLDS = "holds, significant"
    FAILS = "does not hold, significant"
    OPEN = "not significant"


@dataclass(frozen=True)
class Family:
    """The p values that are corrected together, ascending.

    A single seed, and seeds with equal values, are not tested and never significant. Equal differences
    of a few answers over a few seeds come by chance; those of bytes or parameters are facts, so the text
    states their sign.
    """

    p_values: tuple[float, ...]

    @classmethod
    def of(cls, margins: Iterable[Estimate | None]) -> "Family":
        """The family of these margins; a None, where runs are missing, is left out."""
        tested = (p_value(m) for m in margins if m is not None and m.varies)
        return cls(tuple(sorted(tested)))

    def adjusted(self, margin: Estimate) -> float:
        """Return the adjusted p value of one of the family's margins."""
        return adjust_holm(self.p_values)[self.p_values.index(p_value(margin))]

    def verdict(self, margin: Estimate) -> Verdict:
        """Judge whether a margin of the family is significantly above or below 0."""
        if not margin.varies or self.adjusted(margin) >= ALPHA:
            return Verdict.OPEN
        return Verdict.HOLDS if margin.mean > 0 else Verdict.FAILS

    def words(self, margin: Estimate) -> str:
        """Describe the verdict with the adjusted p value: `holds, significant (p 0.012)`.

        Without a test the text states the sign, and that nothing was tested.
        """
        if not margin.varies:
            side = "holds" if margin.mean > 0 else "does not hold"
            seeds = ONE_SEED if margin.count == 1 else f"in all {margin.count} seeds alike"
            return f"{side} {seeds} (not tested)"
        return f"{self.verdict(margin)} ({_in_words(self.adjusted(margin))})"


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values after Holm; the order stays.

    The k-th smallest of m values is multiplied by m - k + 1, and raised to the largest one before it.
    Law: the probability of any false rejection in a family is at most ALPHA.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for k, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - k) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _in_words(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"
