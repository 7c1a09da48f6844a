"""Features of routers on the frozen backbone's mean prompt state, and their mean for each task.

Shapes: S questions, T tasks, H hidden width, p projected width.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from emulator.core.protocols.backbone import LoadedBackbone
from emulator.core.rng import stream
from emulator.core.types.arrays import DoubleArray, FloatArray
from emulator.core.types.data import Question
from emulator.learning.routing.scored_router import Scored


class PromptStates(Scored):
    """A router on the mean hidden state of a question, projected by a public seeded matrix."""

    max_width: int = Field(default=128, gt=0, description="p = min(hidden width, this)")
    gate_layer: int | None = Field(
        default=None,
        description="hidden state that the router uses (0: embeddings); default: the middle layer",
    )

    def features(
        self, backbone: LoadedBackbone, questions: Sequence[Question], seed: int
    ) -> DoubleArray:
        """Mean prompt states [S, p] float64."""
        states_SH = backbone.prompt_states([q.text for q in questions], self.gate_layer).numpy()
        return project_states(states_SH.astype(np.float64), self.max_width, seed)

    def task_sums(
        self, features_Sp: DoubleArray, task_of_S: Sequence[int], num_tasks: int
    ) -> dict[str, FloatArray]:
        """Number of questions of each task, counts [T], and the sums of their features, sums [T, p]."""
        counts_T, sums_Tp = np.zeros(num_tasks), np.zeros((num_tasks, features_Sp.shape[1]))
        np.add.at(counts_T, task_of_S, 1.0)
        np.add.at(sums_Tp, task_of_S, features_Sp)
        return {"counts": counts_T.astype(np.float32), "sums": sums_Tp.astype(np.float32)}


def project_states(states_SH: DoubleArray, max_width: int, seed: int) -> DoubleArray:
    """Project states to p = max_width with one public seeded orthonormal matrix.

    States [S, H] with H <= max_width do not change.
    """
    hidden = states_SH.shape[1]
    if hidden <= max_width:
        return states_SH
    gaussian = stream(seed, "router_projection").standard_normal((hidden, max_width))
    basis_Hp, upper = np.linalg.qr(gaussian)
    basis_Hp = basis_Hp * np.where(np.diagonal(upper) < 0, -1.0, 1.0)
    projected: DoubleArray = states_SH @ basis_Hp
    return projected


def task_means(statistics: Mapping[str, FloatArray]) -> tuple[DoubleArray, DoubleArray]:
    """Counts [T] and means [T, p] of summed statistics; the mean of a task without samples is 0.

    Raises ValueError if no task has samples.
    """
    counts_T = statistics["counts"].astype(np.float64)
    if not counts_T.any():
        raise ValueError("router statistics: got no samples, wanted some of every task")
    means_Tp: DoubleArray = statistics["sums"] / np.maximum(counts_T, 1.0)[:, None]
    return counts_T, means_Tp
