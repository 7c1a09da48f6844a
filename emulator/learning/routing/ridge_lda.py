"""Linear discriminant with a ridge: the nearest task mean in units of the scatter within tasks.

Shapes: S questions, T tasks, p projected width.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from emulator.core.types.arrays import DoubleArray, FloatArray
from emulator.learning.routing.prompt_states import PromptStates, task_means

SMALLEST_RIDGE = 1e-9
"""Least ridge; without any scatter (one sample per task) the router then chooses the nearest mean."""


class RidgeLda(PromptStates):
    """Linear discriminant on additive statistics, without training and without raw data (the default).

    score_j = -d_j(x)^2 / 2 with d_j(x)^2 = (x - mu_j)^T S^-1 (x - mu_j), which differs from
    (mu_j - m)^T S^-1 (x - m) - (mu_j - m)^T S^-1 (mu_j - m) / 2 by a term without j.
    S = S_w + ridge tr(S_w)/p I; S_w is the sum of the scatters of each device's prompts about *its own*
    means. These scatters are additive and have no large common part, so rounding does not harm them,
    unlike second moments of a language model's states. They do not contain the distances between the
    means of devices of one task. Familiarity is minus the d^2 of the nearest task, divided by the spread
    of this task relative to the mean spread; otherwise the threshold of a task with a small spread would
    reject the questions of a task with a large one.
    """

    kind: Literal["ridge_lda"] = "ridge_lda"
    scatter: Literal["full", "diagonal", "none"] = Field(
        default="full",
        description="part of S_w that is sent: p(p+1)/2 entries, p entries, or only its trace (which "
        "gives the nearest mean)",
    )
    ridge: float = Field(
        default=0.1, ge=0, description="ridge on the pooled scatter, over its mean eigenvalue"
    )

    def statistics(
        self, features: DoubleArray, task_of: Sequence[int], num_tasks: int
    ) -> dict[str, FloatArray]:
        """counts [T], sums [T, p], spreads [T] and scatter: [p(p+1)/2] (upper half by rows), [p] or none.

        spreads: for each task the sum of squared distances to the device's own mean.
        """
        sums = self.task_sums(features, task_of, num_tasks)
        _, means_Tp = task_means(sums)
        centred_Sp = features - means_Tp[list(task_of)]
        spreads_T = np.zeros(num_tasks)
        np.add.at(spreads_T, task_of, np.square(centred_Sp).sum(axis=1))
        parts = {**sums, "spreads": spreads_T.astype(np.float32)}
        if self.scatter == "none":
            return parts
        if self.scatter == "diagonal":
            scatter = np.square(centred_Sp).sum(axis=0)
        else:
            scatter = (centred_Sp.T @ centred_Sp)[np.triu_indices(features.shape[1])]
        return {**parts, "scatter": scatter.astype(np.float32)}

    def fit(
        self, statistics: Mapping[str, FloatArray], own_features: DoubleArray, num_tasks: int
    ) -> dict[str, FloatArray]:
        """counts [T], means [T, p], spreads [T], whitening ([p, p], [p] or [1]) and threshold [1].

        |whitening (x - mu)| is the distance; spreads are relative to the mean spread. The gate of a task
        without samples is 0. Raises ValueError if no task has samples.
        """
        counts_T, means_Tp = task_means(statistics)
        whitening = self._whitening(statistics, counts_T.sum(), means_Tp.shape[1])
        fitted = {
            "counts": counts_T.astype(np.float32),
            "means": means_Tp.astype(np.float32),
            "spreads": _relative_spreads(statistics["spreads"], counts_T).astype(np.float32),
            "whitening": whitening.astype(np.float32),
        }
        return {**fitted, "threshold": self.threshold(self.familiarity(fitted, own_features))}

    def gates(self, fitted: Mapping[str, FloatArray], features: DoubleArray) -> FloatArray:
        """[S, T] float32; rows sum to one, or to zero below the threshold."""
        squared_ST = _squared_distances(fitted, features)
        return self.open(-0.5 * squared_ST, _familiarity(fitted, squared_ST), fitted["threshold"])

    def familiarity(self, fitted: Mapping[str, FloatArray], features: DoubleArray) -> DoubleArray:
        """Minus the squared distance to the nearest task mean, in units of that task's spread [S]."""
        return _familiarity(fitted, _squared_distances(fitted, features))

    def _whitening(
        self, statistics: Mapping[str, FloatArray], num_samples: float, width: int
    ) -> DoubleArray:
        """The whitening W with W W^T = S^-1."""
        if self.scatter == "none":
            variance = statistics["spreads"].sum(dtype=np.float64) / num_samples / width
            return np.array([1.0 / np.sqrt(max(variance, SMALLEST_RIDGE))])
        within = statistics["scatter"].astype(np.float64) / num_samples
        if self.scatter == "diagonal":
            diagonal: DoubleArray = 1.0 / np.sqrt(within + self._added(within))
            return diagonal
        upper_pp = np.zeros((width, width))
        upper_pp[np.triu_indices(width)] = within
        within_pp = upper_pp + np.triu(upper_pp, 1).T
        ridged_pp = within_pp + self._added(np.diagonal(within_pp)) * np.eye(width)
        full: DoubleArray = np.linalg.inv(np.linalg.cholesky(ridged_pp)).T
        return full

    def _added(self, variances_p: DoubleArray) -> float:
        """The amount that the ridge adds to every variance."""
        return max(self.ridge * float(variances_p.mean()), SMALLEST_RIDGE)


def _relative_spreads(spreads_T: FloatArray, counts_T: DoubleArray) -> DoubleArray:
    """Each task's mean squared distance to its mean, relative to that of all tasks; 1 if it is 0."""
    per_sample_T = spreads_T / np.maximum(counts_T, 1.0)
    overall = spreads_T.sum(dtype=np.float64) / counts_T.sum()
    return np.where(per_sample_T > 0, per_sample_T / max(overall, SMALLEST_RIDGE), 1.0)


def _familiarity(fitted: Mapping[str, FloatArray], squared_ST: DoubleArray) -> DoubleArray:
    spread_S = fitted["spreads"][squared_ST.argmin(axis=1)]
    familiarity_S: DoubleArray = -squared_ST.min(axis=1) / spread_S
    return familiarity_S


def _squared_distances(fitted: Mapping[str, FloatArray], features_Sp: DoubleArray) -> DoubleArray:
    """d_j(x)^2 [S, T]; infinite for a task without samples."""
    x_Sp = _whitened(features_Sp, fitted["whitening"])
    mu_Tp = _whitened(fitted["means"].astype(np.float64), fitted["whitening"])
    squared_ST: DoubleArray = np.square(x_Sp[:, None, :] - mu_Tp).sum(axis=2)
    squared_ST[:, fitted["counts"] == 0] = np.inf
    return squared_ST


def _whitened(x_Np: DoubleArray, whitening: FloatArray) -> DoubleArray:
    """Rows multiplied by a whitening matrix, or entry by entry by a whitening vector."""
    stretched: DoubleArray = x_Np @ whitening if whitening.ndim == 2 else x_Np * whitening
    return stretched
