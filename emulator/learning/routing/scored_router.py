"""From scores to gates: the common part of all routers that score an input for every task.

Shapes: S questions, T tasks.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emulator.core.protocols.router import LayerGate, ModuleExpert
from emulator.core.types.arrays import DoubleArray, FloatArray


class Scored(BaseModel):
    """The conversion of scores to gates, and the threshold of familiarity below which all gates are 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    temperature: float = Field(default=1.0, gt=0, description="softness of the gates")
    top_m: int = Field(default=1, gt=0, description="tasks whose experts answer together")
    abstain: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of the own training prompts whose familiarity is below the threshold; the "
        "backbone alone answers questions below the threshold; default: no threshold",
    )

    def threshold(self, familiarity_S: DoubleArray) -> FloatArray:
        """The least familiarity of an open gate [1], from own training prompts; -inf without `abstain`."""
        lowest = -np.inf if self.abstain is None else np.quantile(familiarity_S, self.abstain)
        return np.array([lowest], dtype=np.float32)

    def open(
        self, scores_ST: DoubleArray, familiarity_S: DoubleArray, threshold: FloatArray
    ) -> FloatArray:
        """softmax(scores / temperature), the top_m largest, normalised; zeros below the threshold.

        The first of equal scores counts as larger. A score of -inf gives a gate of 0.
        """
        soft_ST = np.exp((scores_ST - scores_ST.max(axis=1, keepdims=True)) / self.temperature)
        dropped = np.argsort(-soft_ST, axis=1, kind="stable")[:, self.top_m :]
        np.put_along_axis(soft_ST, dropped, 0.0, axis=1)
        gates_ST: FloatArray = (soft_ST / soft_ST.sum(axis=1, keepdims=True)).astype(np.float32)
        gates_ST[familiarity_S < threshold] = 0.0
        return gates_ST

    def layer_gate(self, experts: Sequence[ModuleExpert]) -> LayerGate | None:
        """None: the gates of a sequence apply in every module."""
        return None
