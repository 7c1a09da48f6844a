"""Linear discriminant with a ridge: the nearest task mean, measured by the spread within tasks.

Shapes: S questions, T tasks, p projected width.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from emulator.routing.prompt_states import PromptStates, task_means
from emulator.state import DoubleArray, FloatArray

RIDGE = 0.1
"""Ridge on the pooled scatter, relative to its mean eigenvalue."""

SMALLEST_RIDGE = 1e-9
"""Where there is no scatter at all (one sample per task), the nearest mean decides."""


class RidgeLda(PromptStates):
    """Linear discriminant on additive statistics; no training, nobody's raw data (our default).

    score_j = -d_j(x)^2 / 2 with d_j(x)^2 = (x - mu_j)^T S^-1 (x - mu_j), which differs from
    (mu_j - m)^T S^-1 (x - m) - (mu_j - m)^T S^-1 (mu_j - m) / 2 by a term without j.
    S = S_w + RIDGE tr(S_w)/p I; S_w is the scatter of each device's prompts about *its own* means.
    Such scatters add up and have no large common part, so they survive rounding, which second
    moments of a language model's states do not; what they leave out is how far the means of devices
    of one task lie apart. Familiarity is minus the smallest d^2.
    """

    kind: Literal["ridge_lda"] = "ridge_lda"
    scatter: Literal["full", "diagonal", "none"] = Field(
        default="full",
        description="what is sent of S_w: p(p+1)/2 entries, p, or nothing (the nearest mean)",
    )

    def statistics(
        self, features: DoubleArray, task_of: Sequence[int], num_tasks: int
    ) -> dict[str, FloatArray]:
        """counts [T], sums [T, p], and scatter [p(p+1)/2] (by rows of the upper half) or [p]."""
        sums = self.task_sums(features, task_of, num_tasks)
        if self.scatter == "none":
            return sums
        _, means_Tp = task_means(sums)
        centred_Sp = features - means_Tp[list(task_of)]
        if self.scatter == "diagonal":
            scatter = np.square(centred_Sp).sum(axis=0)
        else:
            scatter = (centred_Sp.T @ centred_Sp)[np.triu_indices(features.shape[1])]
        return {**sums, "scatter": scatter.astype(np.float32)}

    def fit(
        self, statistics: Mapping[str, FloatArray], own_features: DoubleArray, num_tasks: int
    ) -> dict[str, FloatArray]:
        """counts [T], means [T, p], whitening ([p, p], [p] or [1]) and threshold [1].

        |whitening (x - mu)| is the distance. A task without samples gets no gate. Raises ValueError
        where no task has any.
        """
        counts_T, means_Tp = task_means(statistics)
        whitening = self._whitening(statistics, counts_T, means_Tp)
        fitted = {
            "counts": counts_T.astype(np.float32),
            "means": means_Tp.astype(np.float32),
            "whitening": whitening.astype(np.float32),
        }
        return {**fitted, "threshold": self.threshold(self.familiarity(fitted, own_features))}

    def gates(self, fitted: Mapping[str, FloatArray], features: DoubleArray) -> FloatArray:
        """[S, T] float32; rows sum to one, or to zero below the threshold."""
        squared_ST = _squared_distances(fitted, features)
        return self.open(-0.5 * squared_ST, -squared_ST.min(axis=1), fitted["threshold"])

    def familiarity(self, fitted: Mapping[str, FloatArray], features: DoubleArray) -> DoubleArray:
        """Minus the squared distance to the nearest task mean [S]."""
        nearest: DoubleArray = -_squared_distances(fitted, features).min(axis=1)
        return nearest

    def _whitening(
        self, statistics: Mapping[str, FloatArray], counts_T: DoubleArray, means_Tp: DoubleArray
    ) -> DoubleArray:
        """W with W W^T = S^-1. Without a scatter the means' own spread is the unit of length."""
        width = means_Tp.shape[1]
        if self.scatter == "none":
            present_Tp = means_Tp[counts_T > 0]
            spread = np.square(present_Tp - present_Tp.mean(axis=0)).mean()
            return np.array([1.0 / np.sqrt(max(spread, SMALLEST_RIDGE))])
        within = statistics["scatter"].astype(np.float64) / counts_T.sum()
        if self.scatter == "diagonal":
            diagonal: DoubleArray = 1.0 / np.sqrt(within + _ridge(within))
            return diagonal
        upper_pp = np.zeros((width, width))
        upper_pp[np.triu_indices(width)] = within
        within_pp = upper_pp + np.triu(upper_pp, 1).T
        ridged_pp = within_pp + _ridge(np.diagonal(within_pp)) * np.eye(width)
        full: DoubleArray = np.linalg.inv(np.linalg.cholesky(ridged_pp)).T
        return full


def _ridge(variances_p: DoubleArray) -> float:
    return max(RIDGE * float(variances_p.mean()), SMALLEST_RIDGE)


def _squared_distances(fitted: Mapping[str, FloatArray], features_Sp: DoubleArray) -> DoubleArray:
    """d_j(x)^2 [S, T]; infinite for a task without samples."""
    x_Sp = _whitened(features_Sp, fitted["whitening"])
    mu_Tp = _whitened(fitted["means"].astype(np.float64), fitted["whitening"])
    squared_ST: DoubleArray = np.square(x_Sp[:, None, :] - mu_Tp).sum(axis=2)
    squared_ST[:, fitted["counts"] == 0] = np.inf
    return squared_ST


def _whitened(x_Np: DoubleArray, whitening: FloatArray) -> DoubleArray:
    """Times a matrix, or entry by entry."""
    stretched: DoubleArray = x_Np @ whitening if whitening.ndim == 2 else x_Np * whitening
    return stretched
