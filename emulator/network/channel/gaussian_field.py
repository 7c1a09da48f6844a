"""A Gaussian random field over pairs of positions.

Shapes: K waves; positions [.., 2] in metres; trailing K where a wave's value is meant.
"""

import math
from dataclasses import dataclass

import numpy as np

from emulator.core.rng import stream
from emulator.core.types.arrays import DoubleArray

WAVES = 512
"""K. Along one walk the correlation differs from its law by about 1/sqrt(2K) = 0.03, which is little
compared with the statistical error of a walk; 128 devices take some tens of milliseconds."""


@dataclass(frozen=True, eq=False)
class PairField:
    """A Gaussian field G(p, q) of mean 0 and variance 1. G(p, q) = G(q, p) to the last bit.

    Law: the correlation is exp(-|Δp|/d)·exp(-|Δq|/d), with the decorrelation distance d, if p and q are
    more than some d apart (at shorter distances the two orders of the pair mix).
    F(p, q) = sqrt(2/K) Σ cos(k1·p + k2·q + phase): k1 and k2 are drawn independently from the
    spectrum of exp(-r/d) over the plane, density ~ (1 + (|k|d)²)^(-3/2), so that
    |k| = sqrt(1/(1-u)² - 1)/d for a uniform u, in any direction. Then
    G = (F(p, q) + F(q, p)) / sqrt(2 (1 + exp(-2|p-q|/d))), as F(p, q) and F(q, p) correlate by
    exp(-2|p-q|/d). Source: Gudmundson 1991 for the law; Shinozuka and Deodatis 1991 for the sum.
    """

    decorrelation_m: float
    first_K2: DoubleArray
    second_K2: DoubleArray
    phase_K: DoubleArray

    def between(self, first_m: DoubleArray, second_m: DoubleArray) -> DoubleArray:
        """G [..] of positions [.., 2] and [.., 2], which broadcast against each other."""
        forth = self._one_way(first_m, second_m)
        back = self._one_way(second_m, first_m)
        apart_m = np.hypot(*np.moveaxis(first_m - second_m, -1, 0))
        overlap = np.exp(-2.0 * apart_m / self.decorrelation_m)
        return np.asarray((forth + back) / np.sqrt(2.0 * (1.0 + overlap)))

    def _one_way(self, first_m: DoubleArray, second_m: DoubleArray) -> DoubleArray:
        """F: the cosine of a sum of angles, split so that each position is evaluated only once."""
        first = _angles(self.first_K2, first_m) + self.phase_K
        second = _angles(self.second_K2, second_m)
        waves = np.einsum("...k,...k->...", np.cos(first), np.cos(second)) - np.einsum(
            "...k,...k->...", np.sin(first), np.sin(second)
        )
        return np.asarray(waves * math.sqrt(2.0 / self.phase_K.size))


def draw_pair_field(
    seed: int, purpose: str, decorrelation_m: float, waves: int = WAVES
) -> PairField:
    """Draw the field of `(seed, purpose)`."""
    source = stream(seed, purpose)
    return PairField(
        decorrelation_m,
        _wave_vectors(source.random((waves, 2)), decorrelation_m),
        _wave_vectors(source.random((waves, 2)), decorrelation_m),
        2.0 * math.pi * source.random(waves),
    )


def _wave_vectors(unit_K2: DoubleArray, decorrelation_m: float) -> DoubleArray:
    """[K, 2] rad/m, isotropic, from uniform numbers in [0, 1)."""
    length_K = np.sqrt(1.0 / (1.0 - unit_K2[:, 0]) ** 2 - 1.0) / decorrelation_m
    angle_K = 2.0 * math.pi * unit_K2[:, 1]
    return np.stack([length_K * np.cos(angle_K), length_K * np.sin(angle_K)], axis=1)


def _angles(waves_K2: DoubleArray, positions_m: DoubleArray) -> DoubleArray:
    """k·p [.., K], without a matrix product, whose last bits depend on the number of rows."""
    x_m, y_m = positions_m[..., :1], positions_m[..., 1:]
    return np.asarray(x_m * waves_K2[:, 0] + y_m * waves_K2[:, 1])
