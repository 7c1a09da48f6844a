"""Full fine-tuning within each task and perfect routing: the paper's "hard-routing MoE", an upper bound.

Local: every weight. Sent each round: every weight, to the devices of the same task. Merged: their mean,
weighted by samples. At the end every task's weights go to all devices, and those of the true task answer:
`router` is always resolved to `oracle`, which scenario.yaml then shows.
"""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from emulator.core.protocols.context import DeviceContext
from emulator.methods.full import start_full
from emulator.methods.lora_by_task import LoraByTaskDevice


class FullOracle(BaseModel):
    """One whole model per task, each asked only about its own task."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "tasks"
    routes: ClassVar[bool] = True
    own_router: ClassVar[str] = "oracle"
    kind: Literal["full_oracle"] = "full_oracle"
    learning_rate: float = Field(default=1e-3, gt=0, description="AdamW, constant")
    max_parameters: int = Field(
        default=50_000_000, gt=0, description="largest backbone of which every device gets a copy"
    )

    def start(self, ctx: DeviceContext) -> LoraByTaskDevice:
        """As lora_by_task, with weights for an adapter."""
        start_full(ctx, self.learning_rate, self.max_parameters)
        return LoraByTaskDevice(ctx)
