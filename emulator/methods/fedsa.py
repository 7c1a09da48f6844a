"""FedSA-LoRA (arXiv 2410.01463): A is shared, B stays on its device.

Local: A and B. Sent each round: A, dense. Merged: Metropolis-weighted mean of A; every device keeps the
B of its own task.
"""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.records import SETUP_ROUND
from emulator.methods.gossip import Gossip
from emulator.methods.lora import start_dense


class Fedsa(BaseModel):
    """Share A, keep B: a personal adapter on features learnt together."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "random_regular"
    routes: ClassVar[bool] = False
    kind: Literal["fedsa"] = "fedsa"
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float = Field(default=5e-3, gt=0, description="AdamW, constant")

    def start(self, ctx: DeviceContext) -> Gossip:
        """All devices start from the same A and from B = 0."""
        start_dense(ctx, self.lora_rank, self.lora_alpha, self.learning_rate)
        ctx.log.metric("collision_rate", 1.0, SETUP_ROUND)  # of what is shared, A
        return Gossip(ctx, ctx.model.adapted.layout.part("lora_A"))
