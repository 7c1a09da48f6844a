"""Each device alone: A and B are trained and nothing is sent, not even an introduction."""

from collections.abc import Generator, Sequence
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.result import Expert
from emulator.core.types.steps import Inbox, State, Step
from emulator.methods.gossip import whole_adapter
from emulator.methods.lora import start_dense


class LocalOnly(BaseModel):
    """LoRA without a network: what collaboration has to beat."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "none"
    routes: ClassVar[bool] = False
    kind: Literal["local"] = "local"
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float = Field(default=5e-3, gt=0, description="AdamW, constant")

    def start(self, ctx: DeviceContext) -> "LocalDevice":
        """An adapter that no other device sees."""
        start_dense(ctx, self.lora_rank, self.lora_alpha, self.learning_rate)
        return LocalDevice(ctx)


class LocalDevice:
    """One device's part: it sends nothing."""

    def __init__(self, ctx: DeviceContext) -> None:
        self.ctx = ctx

    def setup(self) -> Generator[Step, Inbox, None]:
        """Send nothing."""
        yield from ()

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Send nothing."""
        yield from ()

    def finish(self) -> Generator[Step, Inbox, None]:
        """Send nothing."""
        yield from ()

    def state(self) -> State:
        """Nothing: all that changes is in the adapter."""
        return None

    def restore(self, state: State) -> None:
        """Go on; the adapter is restored already."""

    def own_expert(self) -> Expert:
        """The own adapter."""
        return whole_adapter(self.ctx)

    def experts(self) -> Sequence[Expert]:
        """The own adapter answers everything."""
        return (self.own_expert(),)
