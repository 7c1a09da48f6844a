"""The paper's gate up to normalisation: the cosine between a prompt's state and each task's mean.

Only the mean vectors are sent. The router is as good as the discriminant on a sentence encoder, and
useless on a causal model whose states all have nearly the same direction.
Shapes: S questions, T tasks, p projected width.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from emulator.core.types.arrays import DoubleArray, FloatArray
from emulator.learning.routing.prompt_states import PromptStates, task_means


class Cosine(PromptStates):
    """score_j = mu_j . x / (|mu_j| |x|). Source: arXiv 2602.20492, section IV-D, normalised."""

    kind: Literal["cosine"] = "cosine"
    temperature: float = Field(default=0.05, gt=0, description="softness of the gates")

    def statistics(
        self, features: DoubleArray, task_of: Sequence[int], num_tasks: int
    ) -> dict[str, FloatArray]:
        """counts [T], sums [T, p]."""
        return self.task_sums(features, task_of, num_tasks)

    def fit(
        self, statistics: Mapping[str, FloatArray], own_features: DoubleArray, num_tasks: int
    ) -> dict[str, FloatArray]:
        """counts [T], directions [T, p] of length one, threshold [1]."""
        counts_T, means_Tp = task_means(statistics)
        fitted = {
            "counts": counts_T.astype(np.float32),
            "directions": _unit(means_Tp).astype(np.float32),
        }
        return {**fitted, "threshold": self.threshold(self.familiarity(fitted, own_features))}

    def gates(self, fitted: Mapping[str, FloatArray], features: DoubleArray) -> FloatArray:
        """[S, T] float32; rows sum to one, or to zero below the threshold."""
        cosines_ST = _cosines(fitted, features)
        return self.open(cosines_ST, cosines_ST.max(axis=1), fitted["threshold"])

    def familiarity(self, fitted: Mapping[str, FloatArray], features: DoubleArray) -> DoubleArray:
        """The largest cosine [S]."""
        largest: DoubleArray = _cosines(fitted, features).max(axis=1)
        return largest


def _cosines(fitted: Mapping[str, FloatArray], features_Sp: DoubleArray) -> DoubleArray:
    """[S, T]; -inf for a task without samples."""
    cosines_ST: DoubleArray = _unit(features_Sp) @ fitted["directions"].T.astype(np.float64)
    cosines_ST[:, fitted["counts"] == 0] = -np.inf
    return cosines_ST


def _unit(x_Np: DoubleArray) -> DoubleArray:
    """Rows scaled to length one; a row of zeros does not change."""
    length_N1 = np.linalg.norm(x_Np, axis=1, keepdims=True)
    unit_Np: DoubleArray = x_Np / np.where(length_N1 > 0, length_N1, 1.0)
    return unit_Np
