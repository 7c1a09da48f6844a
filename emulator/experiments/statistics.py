"""Means over seeds with 95 % intervals by Student's t, and paired differences of equal seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` seeds; the interval is mean ± half_width, unbounded for a single seed."""

    mean: float
    half_width: float
    count: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width

    @property
    def varies(self) -> bool:
        """Whether several seeds differ beyond rounding; what does not vary has no t test."""
        return self.count > 1 and self.half_width > 1e-9 * max(1.0, abs(self.mean))

    def touches(self, other: "Estimate") -> bool:
        """Whether the two intervals share a point."""
        return self.low <= other.high and other.low <= self.high

    def holds(self, value: float) -> bool:
        """Whether the interval contains a value."""
        return self.low <= value <= self.high


def estimate(values: Sequence[float]) -> Estimate:
    """Mean ± t(0.975, n-1) · s / √n, s with n-1 in its denominator. At least one value.

    The half_width of a single value is infinite, because one value has no spread.
    """
    count = len(values)
    if count == 1:
        return Estimate(values[0], math.inf, 1)
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, count - 1))
    return Estimate(fmean(values), quantile * stdev(values) / math.sqrt(count), count)


def estimate_paired(values: Mapping[int, float], against: Mapping[int, float]) -> Estimate | None:
    """Estimate values[seed] - against[seed] over the seeds that both have; None without any."""
    seeds = sorted(values.keys() & against.keys())
    return estimate([values[seed] - against[seed] for seed in seeds]) if seeds else None


def p_value(margin: Estimate) -> float:
    """Two-sided p of Student's t test that the true mean is 0; the estimate must vary over seeds."""
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, margin.count - 1))
    t = abs(margin.mean) / (margin.half_width / quantile)
    return float(2 * stats.t.sf(t, margin.count - 1))


def largest_share(count: int) -> float:
    """Upper end of the 95 % interval of a share of which `count` independent observations show none.

    Source: Clopper and Pearson (1934), one-sided.
    """
    return float(1 - (1 - LEVEL) ** (1 / count))
