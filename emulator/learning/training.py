"""Local steps of one device, with their declared emulated time and energy."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from emulator.core.errors import EmulatorError
from emulator.core.protocols.backbone import AdaptedModel
from emulator.core.protocols.tasks import Learner
from emulator.core.rng import stream, torch_seed
from emulator.core.section import Section
from emulator.core.types.data import Shard
from emulator.core.types.result import ExpertForm
from emulator.core.types.steps import State
from emulator.learning.linear_layers import is_linear

PASSES: dict[ExpertForm, int] = {"low_rank": 2, "weights": 3}
"""Passes of a training step: forward, backward to the inputs, and to the weights unless they are frozen."""


class Local(Section):
    """Local training, and its declared cost in emulated time and energy."""

    steps: int = Field(default=15, gt=0, description="E: local steps of a round")
    batch_size: int = Field(default=32, gt=0, description="examples of a step")
    micro_batch_size: int | None = Field(
        default=None,
        gt=0,
        description="examples in memory at the same time; default: all of a step",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="keep only the inputs of layers and compute the layers again in the backward pass: "
        "less memory, more time",
    )
    step_s: float = Field(default=0.1, ge=0, description="emulated time of a step [s]")
    speeds: tuple[PositiveFloat, ...] = Field(
        default=(),
        description="speed of a device relative to step_s: a list that is assigned to devices in turn; "
        "empty: 1",
    )
    flop_per_s: tuple[PositiveFloat, ...] = Field(
        default=(),
        description="operations per second: a list that is assigned to devices in turn; the duration of "
        "a step then follows from the tokens of its batch, not from step_s",
    )
    straggler_probability: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="probability that the local steps of a device and round take longer",
    )
    straggler_factor: float = Field(
        default=4.0, ge=1, description="factor by which they then take longer"
    )
    compute_power_w: float = Field(default=5.0, ge=0, description="power while computing [W]")
    compute_budget: tuple[PositiveFloat, ...] = Field(
        default=(),
        description="c_max of Eq 7 for `method.budget: device`, parameters x steps x cost_per_parameter "
        "of one pass over the own data: a list that is assigned to devices in turn; empty: no limit",
    )
    cost_per_parameter: float = Field(default=1.0, gt=0, description="epsilon of Eq 7")
    calibration_samples: int = Field(
        default=256,
        gt=0,
        description="own training examples from which spectral entropies and routing statistics are "
        "computed",
    )

    @model_validator(mode="after")
    def _check_speeds(self) -> "Local":
        if self.speeds and self.flop_per_s:
            raise ValueError(
                f"speeds: got {list(self.speeds)} with flop_per_s, wanted one of the two"
            )
        return self

    @property
    def planned_s(self) -> float:
        """Emulated time of a round's steps on the slowest device, without stragglers and flop_per_s [s]."""
        return self.steps * self.step_s / min(self.speeds, default=1.0)

    def duration_s(self, device: int, steps: int, flop: float) -> float:
        """Emulated time of a number of steps and operations on a device that does not straggle [s]."""
        if self.flop_per_s:
            return flop / self.flop_per_s[device % len(self.flop_per_s)]
        speed = self.speeds[device % len(self.speeds)] if self.speeds else 1.0
        return steps * self.step_s / speed

    def affordable_parameters(self, device: int, samples: int) -> float:
        """Q of Eq 7 and 17: c_max batch / (epsilon N_i); infinite without a budget."""
        if not self.compute_budget:
            return math.inf
        budget = self.compute_budget[device % len(self.compute_budget)]
        return budget * self.batch_size / (self.cost_per_parameter * samples)


@dataclass(frozen=True)
class Trained:
    """Mean loss of some steps, their emulated time and energy, and their real CPU time."""

    loss: float
    duration_s: float
    energy_j: float
    cpu_s: float


class LocalTraining:
    """The local steps of one device: its batches in keyed order, and their duration."""

    def __init__(
        self,
        local: Local,
        seed: int,
        device_id: int,
        learner: Learner,
        shard: Shard,
        backbone: nn.Module,
    ) -> None:
        self._local = local
        self._seed = seed
        self._device = device_id
        self._learner = learner
        self._shard = shard
        self._batches = self._start_batches(0)
        self._linear_weights = count_linear_weights(backbone)
        self._steps = 0
        self._sessions = 0

    def run(self, adapted: AdaptedModel, steps: int) -> Trained:
        """Take a number of optimiser steps.

        Raises EmulatorError if a loss or a trained entry becomes NaN or infinity.
        """
        started_cpu_s = time.thread_time()
        losses, tokens = [], 0
        checkpointing = self._local.gradient_checkpointing
        recomputed = recompute_layers(adapted.module) if checkpointing else nullcontext()
        with torch.random.fork_rng(devices=[]), recomputed:
            torch.manual_seed(torch_seed(self._seed, "train", self._device, self._sessions))
            for _ in range(steps):
                batch = next(self._batches)
                of_parts: list[float] = []
                adapted.step(self._compute_losses(adapted.module, batch, of_parts))
                losses.append(math.fsum(of_parts))
                tokens += self._learner.tokens(batch)
                if not math.isfinite(losses[-1]):
                    raise EmulatorError(
                        f"device {self._device}: the loss diverged ({losses[-1]}) after "
                        f"{self._steps} local steps, wanted a smaller method.learning_rate"
                    )
                self._steps += 1
        if not np.isfinite(adapted.vector()).all():  # after the last step no further loss shows it
            raise EmulatorError(
                f"device {self._device}: the trained values diverged (NaN or infinity) after "
                f"{self._steps} local steps, wanted a smaller method.learning_rate"
            )
        cpu_s = time.thread_time() - started_cpu_s
        passes = PASSES[adapted.form]
        duration_s = self._duration_s(steps, 2.0 * passes * self._linear_weights * tokens)
        self._sessions += 1
        energy_j = duration_s * self._local.compute_power_w
        return Trained(float(np.mean(losses)), duration_s, energy_j, cpu_s)

    def _start_batches(self, skip: int) -> Iterator[Any]:
        """The endless batches of the device without the first `skip`."""
        draws = stream(self._seed, "batches", self._device)
        return self._learner.batches(self._shard, self._local.batch_size, draws, skip)

    def state(self) -> State:
        """Numbers of steps and sessions so far; by key they determine all later batches and stragglers."""
        return {"steps": self._steps, "sessions": self._sessions}

    def restore(self, state: State) -> None:
        """Restore a state."""
        self._steps, self._sessions = state["steps"], state["sessions"]
        self._batches = self._start_batches(self._steps)

    def _compute_losses(
        self, module: nn.Module, batch: Any, values: list[float]
    ) -> Iterator[Tensor]:
        """The share of each part of a batch in its loss, one by one; appends them to `values`."""
        local = self._local
        for part, share in self._learner.parts(batch, local.micro_batch_size or local.batch_size):
            loss = share * self._learner.loss(module, part)
            values.append(loss.item())
            yield loss

    def next_duration_s(self, steps: int) -> float:
        """Duration of the next steps [s]; NaN if it depends on their tokens."""
        return self._duration_s(steps, math.nan) if steps else 0.0

    def _duration_s(self, steps: int, flop: float) -> float:
        """The declared duration for this device [s], longer if the session is drawn as a straggler."""
        local = self._local
        duration_s = local.duration_s(self._device, steps, flop)
        draw = stream(self._seed, "straggler", self._device, self._sessions).random()
        return duration_s * (local.straggler_factor if draw < local.straggler_probability else 1.0)


@contextmanager
def recompute_layers(module: nn.Module) -> Iterator[None]:
    """Let layers keep only their inputs and compute them again in the backward pass.

    The layers are in training mode, which this requires; their submodules (dropout) are not. Raises
    EmulatorError for a model without such layers.
    """
    model = next((part for part in module.modules() if isinstance(part, PreTrainedModel)), None)
    layers = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
    if model is None or not layers or not model.supports_gradient_checkpointing:
        raise EmulatorError(
            "local.gradient_checkpointing: got a backbone whose layers cannot be computed twice"
        )
    model.activation_checkpointing_enable({"use_reentrant": False})
    # Only reentrant layers need gradients of their inputs, and the hooks for these are never removed.
    model.disable_input_require_grads()  # type: ignore[no-untyped-call]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
        model.activation_checkpointing_disable()  # type: ignore[no-untyped-call]


def count_linear_weights(model: nn.Module) -> int:
    """Number of weights of a model's linear layers without LoRA; each costs 2 operations per token and pass."""
    return sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if is_linear(module) and "lora_" not in name
    )
