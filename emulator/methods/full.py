"""Full-parameter fine-tuning over a graph (the FPFT of 2602.20492): Dec-LoRA without the LoRA.

Local: every weight. Sent each round: every weight, as its difference from the frozen backbone that all
devices have. Merged: Metropolis-weighted mean.
"""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import Mask
from emulator.core.types.records import SETUP_ROUND
from emulator.methods.gossip import Gossip


class Full(BaseModel):
    """One whole model for all tasks, averaged over the neighbours every round."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "random_regular"
    routes: ClassVar[bool] = False
    kind: Literal["full"] = "full"
    learning_rate: float = Field(default=1e-3, gt=0, description="AdamW, constant")
    max_parameters: int = Field(
        default=50_000_000, gt=0, description="largest backbone of which every device gets a copy"
    )

    def start(self, ctx: DeviceContext) -> Gossip:
        """All devices start from the backbone."""
        start_full(ctx, self.learning_rate, self.max_parameters)
        ctx.log.metric("collision_rate", 1.0, SETUP_ROUND)  # every device writes everywhere
        return Gossip(ctx, Mask.full(ctx.model.adapted.layout.size))


def start_full(ctx: DeviceContext, learning_rate: float, max_parameters: int) -> None:
    """A copy of the backbone of which every weight learns."""
    adapted = ctx.model.full(max_parameters)
    adapted.start_optimiser(learning_rate)
