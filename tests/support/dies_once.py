"""A method whose device 2 is killed in its second round, once: the file that DIES_ONCE names is then there.

It dies when all devices have their first checkpoints in the run folder that DIES_IN names.
"""

import os
import signal
import time
from collections.abc import Generator
from pathlib import Path

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.steps import Inbox, Step
from emulator.methods.gossip import Gossip
from emulator.methods.lora import Lora, start_dense


class DiesOnce(Lora):
    """Dec-LoRA, but for its end."""

    kind: str

    def start(self, ctx: DeviceContext) -> "MortalGossip":
        """A and B, both averaged."""
        start_dense(ctx, self.lora_rank, self.lora_alpha, self.learning_rate)
        return MortalGossip(ctx, shared=ctx.model.adapted.layout.part("lora_B"))


class MortalGossip(Gossip):
    """Averages B with the neighbours."""

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """End this process before the exchange, the first time."""
        mark = Path(os.environ["DIES_ONCE"])
        if (self.ctx.info.id, round_index) == (2, 1) and not mark.exists():
            first = Path(os.environ["DIES_IN"]) / "checkpoints" / "round-0000"
            while len(list(first.glob("*.json"))) < self.ctx.info.devices:
                time.sleep(0.01)
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().exchange(round_index)
