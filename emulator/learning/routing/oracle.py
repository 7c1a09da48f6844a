"""The upper bound of routing: the expert of the true task.

Shapes: S questions, T tasks.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from emulator.core.protocols.backbone import LoadedBackbone
from emulator.core.protocols.router import LayerGate, ModuleExpert
from emulator.core.types.arrays import DoubleArray, FloatArray, IndexArray
from emulator.core.types.data import Question


class Oracle(BaseModel):
    """A router that uses the true task of a question, and abstains if the task is unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["oracle"] = "oracle"

    def features(
        self, backbone: LoadedBackbone, questions: Sequence[Question], seed: int
    ) -> IndexArray:
        """The true tasks [S]; -1 if a task is unknown."""
        return np.array([-1 if q.task is None else q.task for q in questions], dtype=np.int64)

    def statistics(
        self, features: IndexArray, task_of: Sequence[int], num_tasks: int
    ) -> dict[str, FloatArray]:
        """Nothing is sent."""
        return {}

    def fit(
        self, statistics: Mapping[str, FloatArray], own_features: IndexArray, num_tasks: int
    ) -> dict[str, FloatArray]:
        """rows [T + 1, T]: the gates for each task; the last row is for an unknown task."""
        return {"rows": np.eye(num_tasks + 1, num_tasks, dtype=np.float32)}

    def gates(self, fitted: Mapping[str, FloatArray], features: IndexArray) -> FloatArray:
        """[S, T], one-hot; zeros if the true task is unknown."""
        one_hot_ST: FloatArray = fitted["rows"][features]
        return one_hot_ST

    def familiarity(self, fitted: Mapping[str, FloatArray], features: IndexArray) -> DoubleArray:
        """1 if the true task is known, otherwise 0 [S]."""
        return (features >= 0).astype(np.float64)

    def layer_gate(self, experts: Sequence[ModuleExpert]) -> LayerGate | None:
        """None: one gate per sequence."""
        return None
