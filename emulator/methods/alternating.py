"""Alternating LoRA (TAD-LoRA arXiv 2602.00451, ADF-LoRA arXiv 2511.18291): A and B learn in turn.

Local: only one of A and B moves, the other rests. Sent each round: both. Merged: Metropolis-weighted mean
of each, so that the resting side comes to agree while the other learns.
"""

from collections.abc import Generator
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import Mask
from emulator.core.types.records import SETUP_ROUND
from emulator.core.types.steps import Inbox, Step
from emulator.methods.gossip import Gossip
from emulator.methods.lora import start_dense

SIDES = ("lora_B", "lora_A")
"""B learns first: while B = 0, the gradient of A is 0."""


class Alternating(BaseModel):
    """A and B trained in turn, both averaged over the neighbours every round."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "random_regular"
    routes: ClassVar[bool] = False
    kind: Literal["alternating"] = "alternating"
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float = Field(default=5e-3, gt=0, description="AdamW, constant")
    switch_every: int = Field(default=1, gt=0, description="rounds until the other side learns")

    def start(self, ctx: DeviceContext) -> "AlternatingDevice":
        """All devices start from the same A and from B = 0, and B learns first."""
        start_dense(ctx, self.lora_rank, self.lora_alpha, self.learning_rate)
        ctx.log.metric("collision_rate", 1.0, SETUP_ROUND)
        return AlternatingDevice(self, ctx)


class AlternatingDevice:
    """One device's part: Gossip over the whole adapter, and a change of sides in between."""

    def __init__(self, config: Alternating, ctx: DeviceContext) -> None:
        self.config = config
        self.ctx = ctx
        self.gossip = Gossip(ctx, Mask.full(ctx.model.adapted.layout.size))
        self.setup, self.finish = self.gossip.setup, self.gossip.finish
        self.own_expert, self.experts = self.gossip.own_expert, self.gossip.experts
        self.state, self.restore = self.gossip.state, self.gossip.restore
        self._learn_in(0)

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Average both sides; then the other one may learn."""
        yield from self.gossip.exchange(round_index)
        if (round_index + 1) % self.config.switch_every == 0:
            self._learn_in(round_index + 1)

    def _learn_in(self, round_index: int) -> None:
        """A fresh optimiser over the side whose turn it is."""
        side = SIDES[round_index // self.config.switch_every % len(SIDES)]
        adapted = self.ctx.model.adapted
        adapted.start_optimiser(self.config.learning_rate, adapted.layout.part(side))
