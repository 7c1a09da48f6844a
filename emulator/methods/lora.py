"""Dec-LoRA (arXiv 2501.15361): A and B trained, sent to the neighbours and gossip-averaged.

Local: A and B. Sent each round: A and B, dense. Merged: Metropolis-weighted mean of each.
"""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import Mask
from emulator.core.types.records import SETUP_ROUND
from emulator.methods.gossip import Gossip


class Lora(BaseModel):
    """One adapter for all tasks, averaged over the neighbours every round."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "random_regular"
    routes: ClassVar[bool] = False
    kind: Literal["lora"] = "lora"
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float = Field(default=5e-3, gt=0, description="AdamW, constant")

    def start(self, ctx: DeviceContext) -> Gossip:
        """All devices start from the same A and from B = 0."""
        start_dense(ctx, self.lora_rank, self.lora_alpha, self.learning_rate)
        ctx.log.metric("collision_rate", 1.0, SETUP_ROUND)  # every device writes everywhere
        return Gossip(ctx, Mask.full(ctx.model.adapted.layout.size))


def start_dense(
    ctx: DeviceContext, lora_rank: int, lora_alpha: int | None, learning_rate: float
) -> None:
    """A LoRA adapter whose A and B both learn, from an A that all devices share and B = 0."""
    adapted = ctx.model.lora(lora_rank, lora_alpha or lora_rank, ("lora_A", "lora_B"))
    adapted.set_tensors(ctx.model.common_start(lora_rank))
    adapted.start_optimiser(learning_rate)
