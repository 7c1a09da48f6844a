"""Routers that read no question and open every gate.

Shapes: S questions, T tasks.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from emulator.core.protocols.backbone import LoadedBackbone
from emulator.core.protocols.router import LayerGate, ModuleExpert
from emulator.core.types.arrays import DoubleArray, FloatArray
from emulator.core.types.data import Question


class OpenGates(BaseModel):
    """A router with gates of 1 for every input; it reads and sends nothing and never abstains."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def features(
        self, backbone: LoadedBackbone, questions: Sequence[Question], seed: int
    ) -> DoubleArray:
        """Empty features [S, 0]."""
        return np.zeros((len(questions), 0))

    def statistics(
        self, features: DoubleArray, task_of: Sequence[int], num_tasks: int
    ) -> dict[str, FloatArray]:
        """Nothing is sent."""
        return {}

    def fit(
        self, statistics: Mapping[str, FloatArray], own_features: DoubleArray, num_tasks: int
    ) -> dict[str, FloatArray]:
        """open [T], all ones."""
        return {"open": np.ones(num_tasks, dtype=np.float32)}

    def gates(self, fitted: Mapping[str, FloatArray], features: DoubleArray) -> FloatArray:
        """[S, T], all ones."""
        return np.tile(fitted["open"], (len(features), 1))

    def familiarity(self, fitted: Mapping[str, FloatArray], features: DoubleArray) -> DoubleArray:
        """Zeros [S]: all questions are equally familiar."""
        return np.zeros(len(features))


class Uniform(OpenGates):
    """All experts together: the plain sum, as after merging (a control)."""

    kind: Literal["uniform"] = "uniform"

    def layer_gate(self, experts: Sequence[ModuleExpert]) -> LayerGate | None:
        """None: the gates of 1 apply in every module."""
        return None
