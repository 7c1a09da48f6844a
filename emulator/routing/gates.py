"""Which expert answers: gates from the frozen backbone's mean prompt state.

Shapes: S sequences, H hidden width, p projected width, E experts (= tasks), n samples of a task.
The statistics are additive over devices, so nobody needs anybody's raw data:
counts [E], sums [E, p] and one second moment of p(p+1)/2 entries for all tasks together, because
only the pooled within-task scatter enters the discriminant.
"""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from emulator.state import AdapterLayout, DoubleArray, FloatArray
from emulator.streams import stream

RIDGE = 0.1
"""Ridge on the pooled scatter, relative to its mean eigenvalue."""


SMALLEST_RIDGE = 1e-9
"""Where there is no scatter at all (one sample per task), the nearest mean decides."""


class RidgeLda(BaseModel):
    """Linear discriminant with a ridge on additive statistics; no training (our default).

    score_j = (mu_j - m)^T S^-1 (x - m) - (mu_j - m)^T S^-1 (mu_j - m) / 2, m = mean of the mu_j,
    S = S_w + RIDGE tr(S_w)/p I; g = softmax(score / temperature), then the top_m largest gates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["ridge_lda"] = "ridge_lda"
    max_width: int = Field(default=128, gt=0, description="p = min(hidden width, this)")
    temperature: float = Field(default=1.0, gt=0, description="softness of the gates")
    top_m: int = Field(default=1, gt=0, description="experts that answer together")
    gate_layer: int | None = Field(
        default=None,
        description="hidden state the router reads (0: embeddings); default: the middle",
    )

    def project(self, states_SH: Tensor, seed: int) -> DoubleArray:
        """Mean prompt states through one public seeded orthonormal matrix: [S, p] float64."""
        hidden = states_SH.shape[1]
        width = min(hidden, self.max_width)
        gaussian = stream(seed, "router_projection").standard_normal((hidden, width))
        basis, upper = np.linalg.qr(gaussian)
        basis = basis * np.where(np.diagonal(upper) < 0, -1.0, 1.0)
        projected: DoubleArray = states_SH.numpy().astype(np.float64) @ basis
        return projected

    def layout(self, hidden: int, num_tasks: int) -> AdapterLayout:
        """Where counts, sums and the second moment lie in a statistics vector."""
        width = min(hidden, self.max_width)
        return AdapterLayout(
            ("counts", "sums", "second_moment"),
            ((num_tasks,), (num_tasks, width), (width * (width + 1) // 2,)),
        )

    def statistics(
        self, projected_Sp: DoubleArray, task_of_S: list[int], num_tasks: int
    ) -> FloatArray:
        """The additive statistics of some projected states, as one vector of `layout`."""
        width = projected_Sp.shape[1]
        counts, sums = np.zeros(num_tasks), np.zeros((num_tasks, width))
        np.add.at(counts, task_of_S, 1.0)
        np.add.at(sums, task_of_S, projected_Sp)
        second = (projected_Sp.T @ projected_Sp)[np.triu_indices(width)]
        return np.concatenate([counts, sums.reshape(-1), second]).astype(np.float32)

    def fit(self, statistics: dict[str, FloatArray]) -> "Discriminant":
        """The discriminant of summed statistics {counts, sums, second_moment}, one class per task.

        Tasks without samples get no gate. Raises ValueError where no task has any.
        """
        counts = statistics["counts"].astype(np.float64)
        sums = statistics["sums"].astype(np.float64)
        if not counts.any():
            raise ValueError("router statistics: got no samples, wanted some of every task")
        width = sums.shape[1]
        second = np.zeros((width, width))
        second[np.triu_indices(width)] = statistics["second_moment"]
        second = second + np.triu(second, 1).T
        means = sums / np.maximum(counts, 1.0)[:, None]
        within = (second - (means * counts[:, None]).T @ means) / counts.sum()
        ridge = max(RIDGE * np.trace(within) / width, SMALLEST_RIDGE)
        ridged = within + ridge * np.eye(width)
        centre = means[counts > 0].mean(axis=0)
        directions = np.linalg.solve(ridged, (means - centre).T).T
        offsets = -0.5 * (directions * (means - centre)).sum(axis=1) - directions @ centre
        offsets[counts == 0] = -np.inf
        return Discriminant(directions, offsets, self.temperature, self.top_m)


class Discriminant:
    """A fitted router: linear scores, softmax, top-m."""

    def __init__(
        self, directions_Ep: DoubleArray, offsets_E: DoubleArray, temperature: float, top_m: int
    ) -> None:
        self.directions_Ep = directions_Ep
        self.offsets_E = offsets_E
        self._temperature = temperature
        self._top_m = min(top_m, len(offsets_E))

    def gates(self, projected_Sp: DoubleArray) -> Tensor:
        """[S, E] float32; rows sum to one, at most top_m entries of a row are positive."""
        scores = (projected_Sp @ self.directions_Ep.T + self.offsets_E) / self._temperature
        soft = np.exp(scores - scores.max(axis=1, keepdims=True))
        dropped = np.argsort(-soft, axis=1, kind="stable")[:, self._top_m :]
        np.put_along_axis(soft, dropped, 0.0, axis=1)
        return torch.from_numpy((soft / soft.sum(axis=1, keepdims=True)).astype(np.float32))

    def tensors(self) -> dict[str, FloatArray]:
        """What a stored router consists of."""
        return {
            "directions": np.ascontiguousarray(self.directions_Ep, dtype=np.float32),
            "offsets": np.ascontiguousarray(self.offsets_E, dtype=np.float32),
        }


class Uniform(BaseModel):
    """All experts at once with equal gates of 1: the plain sum, what merging gives (a control)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["uniform"] = "uniform"


class Oracle(BaseModel):
    """The expert of the true task (an upper bound: it sees the label)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["oracle"] = "oracle"


RouterChoice = Annotated[RidgeLda | Uniform | Oracle, Field(discriminator="kind")]
