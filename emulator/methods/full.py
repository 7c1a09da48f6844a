"""Full-parameter fine-tuning over a graph (the FPFT of 2602.20492): Dec-LoRA without the LoRA.

Local: every weight. Sent each round: every weight, as its difference from the frozen backbone that all
devices have. Merged: Metropolis-weighted mean.
"""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from emulator.core.protocols.method import Own
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

    def start(self, own: Own) -> Gossip:
        """All devices start from the backbone."""
        start_full(own, self.learning_rate, self.max_parameters)
        own.measure("collision_rate", 1.0, SETUP_ROUND)  # everybody writes everywhere
        return Gossip(own, Mask.full(own.adapted.layout.size))


def start_full(own: Own, learning_rate: float, max_parameters: int) -> None:
    """A copy of the backbone of which every weight learns."""
    own.adapted = own.adapt_all(max_parameters)
    own.adapted.start_optimiser(learning_rate)
