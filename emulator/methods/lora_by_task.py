"""LoRA averaged within tasks only, experts and a router at the end: a control.

Local: A and B. Sent each round: A and B, to the devices of the same task. Merged: their mean, weighted by
samples. At the end every task's adapter goes to all devices, as in `sparse_orthogonal`, and the same router
chooses.
What sparse_orthogonal gains over this method comes from its masks and projections, not from the
grouping.
"""

import struct
from collections.abc import Generator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.records import SETUP_ROUND
from emulator.core.types.result import Expert
from emulator.core.types.steps import Inbox, State, Step
from emulator.methods.expert_exchange import ExpertRing
from emulator.methods.gossip import Gossip
from emulator.methods.lora import start_dense
from emulator.methods.messages import planned_message

INTRODUCTION = struct.Struct("<IIfff")
"""Task, samples, position x and y [m], p_max [W]."""


class LoraByTask(BaseModel):
    """One dense adapter per task."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "tasks"
    routes: ClassVar[bool] = True
    kind: Literal["lora_by_task"] = "lora_by_task"
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float = Field(default=5e-3, gt=0, description="AdamW, constant")

    def start(self, ctx: DeviceContext) -> "LoraByTaskDevice":
        """All devices start from the same A and from B = 0."""
        start_dense(ctx, self.lora_rank, self.lora_alpha, self.learning_rate)
        return LoraByTaskDevice(ctx)


class LoraByTaskDevice:
    """One device's part: Gossip among those of its task, then the exchange of experts."""

    def __init__(self, ctx: DeviceContext) -> None:
        self.ctx = ctx
        self.everything = Mask.full(ctx.model.adapted.layout.size)
        self.gossip = Gossip(ctx, self.everything)
        self.group = ctx.info.task_names.index(ctx.info.shard.task)
        self.expert_values: dict[int, FloatArray] = {}

    def setup(self) -> Generator[Step, Inbox, None]:
        """Introduce with the own task; add up the routing statistics of each task."""
        ctx, info = self.ctx, self.ctx.info
        body = INTRODUCTION.pack(
            self.group, len(info.shard.train), *ctx.network.position_m, info.max_power_w
        )
        bodies = yield from ctx.network.flood(body)
        heads = [INTRODUCTION.unpack(bodies[i]) for i in range(info.devices)]
        groups, samples = [head[0] for head in heads], [head[1] for head in heads]
        dense_ML = np.ones((info.devices, len(ctx.model.adapted.module_names)))
        planned = [planned_message(ctx, self.everything.count)] * info.devices
        ctx.network.update_survey(samples, groups, dense_ML, planned)
        self.ring = ExpertRing(ctx, ctx.network.form_clusters(SETUP_ROUND), groups, samples)
        self.ring.learn_masks(dict.fromkeys(groups, self.everything))
        self.statistics_layout, statistics = ctx.router.statistics()
        self.statistics = yield from self.ring.gather(self.statistics_layout, statistics)

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Average A and B with the others of the task."""
        yield from self.gossip.exchange(round_index)

    def finish(self) -> Generator[Step, Inbox, None]:
        """Send every task's adapter to all devices."""
        ctx = self.ctx
        mine = {self.group: ctx.wire.as_received(ctx.model.adapted.vector())}
        self.expert_values, statistics = yield from self.ring.exchange_experts(
            mine, self.statistics_layout, self.statistics, ctx.progress.rounds
        )
        if statistics.size:
            ctx.router.fit(statistics)

    def state(self) -> State:
        """The exchange between groups, and the statistics for its end."""
        return {
            "ring": self.ring.state(),
            "statistics": self.statistics,
            "statistics_layout": self.statistics_layout,
        }

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.ring = ExpertRing.restored(self.ctx, state["ring"])
        self.statistics = state["statistics"]
        self.statistics_layout = state["statistics_layout"]

    def own_expert(self) -> Expert:
        """The adapter of the own task."""
        return self._expert(self.group)

    def experts(self) -> Sequence[Expert]:
        """One adapter per task that any device holds."""
        return tuple(self._expert(group) for group in sorted(self.expert_values))

    def _expert(self, group: int) -> Expert:
        adapted, task = self.ctx.model.adapted, self.ctx.info.task_names[group]
        tensors = adapted.layout.split(self.expert_values[group])
        return Expert(task, self.ring.samples_of(group), adapted.scaling, tensors, adapted.form)
