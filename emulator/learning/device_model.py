"""The model of one device: its adapter and its local training. Shapes: N coordinates."""

from collections.abc import Callable, Sequence

import numpy as np

from emulator.core.protocols.backbone import AdaptedModel, LoadedBackbone
from emulator.core.protocols.context import DeviceContext
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Received
from emulator.core.types.records import SETUP_ROUND
from emulator.core.types.steps import State
from emulator.learning.adapters.full_model import FullModel
from emulator.learning.adapters.lora import LoraModel
from emulator.learning.adapters.projection import common_starts
from emulator.learning.inspection import Inspection
from emulator.learning.training import LocalTraining


class DeviceModel:
    """`core.protocols.context.ModelContext`, and the local steps of each round.

    held_back_N: the sum of rounding errors that were not yet sent since the start of the rounds [N]; it
    belongs to the present adapter (see DeviceNetwork.share).
    """

    adapted: AdaptedModel
    held_back_N: FloatArray

    def __init__(
        self,
        backbone: LoadedBackbone,
        training: LocalTraining,
        inspection: Inspection,
        ctx: DeviceContext,
    ) -> None:
        self._backbone = backbone
        self._training = training
        self._inspection = inspection
        self._ctx = ctx
        self._steps_done_early = 0

    def lora(self, lora_rank: int, lora_alpha: int, trained: Sequence[str]) -> LoraModel:
        """Adapt the backbone with LoRA layers and train the named sides, `lora_A` or `lora_B`."""
        modules = self._backbone.target_modules
        adapted = LoraModel(self._backbone.model, modules, lora_rank, lora_alpha, trained)
        self.adapted = adapted
        return adapted

    def full(self, max_parameters: int) -> FullModel:
        """Train all weights of the backbone. Raises ScenarioError if it has more parameters."""
        adapted = FullModel(self._backbone.model, max_parameters)
        self.adapted = adapted
        return adapted

    def common_start(self, lora_rank: int) -> dict[str, FloatArray]:
        """Initial values of A by layer name, drawn from the seed and equal on all devices."""
        starts = common_starts(inputs_of(self.adapted), self._ctx.info.seed, lora_rank)
        return {f"{name}.lora_A": start for name, start in starts}

    def train(self, steps: int) -> float:
        """Take local steps before the rounds; the first rounds take fewer. Returns the mean loss."""
        self._steps_done_early += steps
        loss = self._train(steps)
        self._ctx.log.metric("warmup_loss", loss, SETUP_ROUND, self._ctx.info.shard.task)
        return loss

    def mark_start(self) -> None:
        """Take the present vector as the start of the rounds."""
        self._inspection.start(self.adapted)
        self.held_back_N = np.zeros(self.adapted.layout.size, dtype=np.float32)

    def train_round(self) -> None:
        """Take the local steps of the present round, without those already taken before the rounds."""
        steps = self._next_steps()
        self._steps_done_early -= self._ctx.info.round_steps - steps
        if steps:
            loss, task = self._train(steps), self._ctx.info.shard.task
            self._ctx.log.metric("train_loss", loss, self._ctx.progress.round_index, task)

    def next_round_s(self) -> float:
        """Duration of the next round's steps [s], if it does not depend on their tokens."""
        return self._training.next_duration_s(self._next_steps())

    def state(self) -> State:
        """Everything that the next rounds depend on."""
        return {
            "adapted": self.adapted.state(),
            "held_back": self.held_back_N,
            "steps_done_early": self._steps_done_early,
            "training": self._training.state(),
            "inspection": self._inspection.state(),
        }

    def restore(self, state: State) -> None:
        """Restore a state; the method has adapted the backbone already."""
        self.adapted.restore(state["adapted"])
        self.held_back_N = state["held_back"]
        self._steps_done_early = state["steps_done_early"]
        self._training.restore(state["training"])
        self._inspection.restore(state["inspection"])

    def try_diluted(
        self, merged: Callable[[Sequence[Received]], FloatArray], received: Sequence[Received]
    ) -> None:
        """Measure the dilution control of this exchange if `evaluation` asks for it."""
        self._inspection.try_diluted(self.adapted, merged, received)

    def _next_steps(self) -> int:
        """Number of local steps of the next round."""
        return max(0, self._ctx.info.round_steps - self._steps_done_early)

    def _train(self, steps: int) -> float:
        """Take local steps and add their declared time and energy. Returns the mean loss."""
        trained = self._training.run(self.adapted, steps)
        progress = self._ctx.progress
        progress.now_s += trained.duration_s
        progress.compute_energy_j += trained.energy_j
        progress.train_cpu_s += trained.cpu_s
        return trained.loss


def inputs_of(adapted: AdaptedModel) -> dict[str, int]:
    """Number of inputs k of each adapted module, by name."""
    return {name: adapted.shape_of(f"{name}.lora_A")[1] for name in adapted.module_names}
