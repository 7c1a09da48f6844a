"""FFA-LoRA (arXiv 2403.12313): one frozen A for all, only B is trained and averaged.

Local: B over the common A. Sent each round: B, dense. Merged: Metropolis-weighted mean, which is exact
for B A, as all devices have the same A.
"""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import Mask
from emulator.core.types.records import SETUP_ROUND
from emulator.methods.gossip import Gossip


class Ffa(BaseModel):
    """Frozen-A LoRA: half the bytes of LoRA, and averages of products are products of averages."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "random_regular"
    routes: ClassVar[bool] = False
    kind: Literal["ffa"] = "ffa"
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float = Field(default=1e-2, gt=0, description="AdamW, constant")

    def start(self, ctx: DeviceContext) -> Gossip:
        """All devices keep the same A and start from B = 0."""
        adapted = ctx.model.lora(self.lora_rank, self.lora_alpha or self.lora_rank, ("lora_B",))
        adapted.set_tensors(ctx.model.common_start(self.lora_rank))
        adapted.start_optimiser(self.learning_rate)
        ctx.log.metric("collision_rate", 1.0, SETUP_ROUND)
        return Gossip(ctx, Mask.full(ctx.model.adapted.layout.size))
