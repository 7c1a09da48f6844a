"""Local steps of one device, and the emulated time and energy that they are declared to take."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from emulator.errors import EmulatorError
from emulator.linear_layers import is_linear
from emulator.protocols import AdaptedModel, Learner
from emulator.state import ExpertForm, Shard
from emulator.streams import stream, torch_seed
from emulator.world import World

PASSES: dict[ExpertForm, int] = {"low_rank": 2, "weights": 3}
"""Forward, backward to the inputs, and (not for frozen weights) to the weights."""


@dataclass(frozen=True)
class Trained:
    """Mean loss of some steps; what they took in the emulation, and of the real processor."""

    loss: float
    duration_s: float
    energy_j: float
    cpu_s: float


class LocalTraining:
    """The batches of one device, in keyed order, and its pace."""

    def __init__(self, world: World, device_id: int, learner: Learner, shard: Shard) -> None:
        local, seed = world.scenario.local, world.scenario.seed
        self._world = world
        self._device = device_id
        self._learner = learner
        draws = stream(seed, "batches", device_id)
        self._batches = learner.batches(shard, local.batch_size, draws)
        self._linear_weights = linear_weights(world.backbone.model)
        self._steps = 0
        self._sessions = 0

    def run(self, adapted: AdaptedModel, steps: int) -> Trained:
        """So many optimiser steps.

        Raises EmulatorError for a loss or trained entries that are no numbers any more.
        """
        started_cpu_s = time.thread_time()
        losses, tokens = [], 0
        checkpointing = self._world.scenario.local.gradient_checkpointing
        recomputed = recomputing(adapted.module) if checkpointing else nullcontext()
        with torch.random.fork_rng(devices=[]), recomputed:
            torch.manual_seed(
                torch_seed(self._world.scenario.seed, "train", self._device, self._sessions)
            )
            for _ in range(steps):
                batch = next(self._batches)
                of_parts: list[float] = []
                adapted.step(self._losses(adapted.module, batch, of_parts))
                losses.append(math.fsum(of_parts))
                tokens += self._learner.tokens(batch)
                if not math.isfinite(losses[-1]):
                    raise EmulatorError(
                        f"device {self._device}: the loss diverged ({losses[-1]}) after "
                        f"{self._steps} local steps, wanted a smaller method.learning_rate"
                    )
                self._steps += 1
        if not np.isfinite(adapted.vector()).all():  # by the last step, so that no loss tells it
            raise EmulatorError(
                f"device {self._device}: the trained values diverged (NaN or infinity) after "
                f"{self._steps} local steps, wanted a smaller method.learning_rate"
            )
        cpu_s = time.thread_time() - started_cpu_s
        passes = PASSES[adapted.form]
        duration_s = self._duration_s(steps, 2.0 * passes * self._linear_weights * tokens)
        self._sessions += 1
        energy_j = duration_s * self._world.scenario.local.compute_power_w
        return Trained(float(np.mean(losses)), duration_s, energy_j, cpu_s)

    def _losses(self, module: nn.Module, batch: Any, told: list[float]) -> Iterator[Tensor]:
        """The shares of a batch's parts in its loss, one by one; their values are told."""
        local = self._world.scenario.local
        for part, share in self._learner.parts(batch, local.micro_batch_size or local.batch_size):
            loss = share * self._learner.loss(module, part)
            told.append(loss.item())
            yield loss

    def next_duration_s(self, steps: int) -> float:
        """What the next so many steps will take, where that does not depend on their tokens [s]."""
        return self._duration_s(steps, math.nan) if steps else 0.0

    def _duration_s(self, steps: int, flop: float) -> float:
        """As declared for this device, longer where it happens to straggle."""
        local, seed = self._world.scenario.local, self._world.scenario.seed
        duration_s = local.duration_s(self._device, steps, flop)
        luck = stream(seed, "straggler", self._device, self._sessions).random()
        return duration_s * (local.straggler_factor if luck < local.straggler_probability else 1.0)


@contextmanager
def recomputing(module: nn.Module) -> Iterator[None]:
    """Layers keep only their inputs and are computed once more on the way back: time for memory.

    Layers believe that they are in training; what is inside them (dropout) does not.
    """
    layers = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not layers:
        raise EmulatorError(
            "local.gradient_checkpointing: got a backbone whose layers cannot be computed twice"
        )
    for layer in layers:
        layer.gradient_checkpointing, layer.training = True, True
        again = partial(checkpoint, use_reentrant=False)
        layer._gradient_checkpointing_func = again  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing, layer.training = False, False


def linear_weights(model: nn.Module) -> int:
    """Weights of a model's linear layers, LoRA's aside: each costs two operations a token and pass."""
    return sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if is_linear(module) and "lora_" not in name
    )
