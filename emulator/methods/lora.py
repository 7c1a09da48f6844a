"""Dec-LoRA (arXiv 2501.15361): A and B trained, sent to the neighbours and gossip-averaged.

Local: A and B. Sent each round: A and B, dense. Merged: Metropolis-weighted mean of each.
"""

import struct
from collections.abc import Generator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emulator.methods.merging import gossip_step
from emulator.methods.speech import values_message
from emulator.protocols import Own
from emulator.state import SETUP_ROUND, Expert, Inbox, Mask, Message, Step

INTRODUCTION = struct.Struct("<Ifff")
"""Samples, position x and y [m], p_max [W]."""


class Lora(BaseModel):
    """One adapter for all tasks, averaged over the neighbours every round."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "random_regular"
    routes: ClassVar[bool] = False
    kind: Literal["lora"] = "lora"
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float = Field(default=5e-3, gt=0, description="AdamW, constant")

    def start(self, own: Own) -> "LoraDevice":
        """All devices start from the same A and from B = 0."""
        return LoraDevice(self, own)


class LoraDevice:
    """One device's part in Dec-LoRA."""

    def __init__(self, config: Lora, own: Own) -> None:
        self.own = own
        rank = config.lora_rank
        own.adapted = own.adapt(rank, config.lora_alpha or rank, ("lora_A", "lora_B"))
        own.adapted.set_tensors(own.common_start(rank))
        own.adapted.start_optimiser(config.learning_rate)
        self.everything = Mask.full(own.adapted.layout.size)

    def setup(self) -> Generator[Step, Inbox, None]:
        """Introduce: who is where, and with how many samples."""
        own = self.own
        body = INTRODUCTION.pack(len(own.shard.train), *own.position_m, own.max_power_w)
        bodies = yield from own.introduce(body)
        samples = [INTRODUCTION.unpack(bodies[i])[0] for i in range(own.devices)]
        dense = np.ones((own.devices, len(own.adapted.module_names)))
        own.survey = own.survey_of(samples, range(own.devices), dense, self._message(0, ()))
        own.measure("collision_rate", 1.0, SETUP_ROUND)  # everybody writes everywhere

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """x_i += sum_j w_ij (Q(x_j) - Q(x_i)); a lost coordinate keeps the own value."""
        own = self.own
        links = own.links(round_index)
        weight = {link.sender: link.weight for link in links if link.receiver == own.id}
        receivers = tuple(sorted(link.receiver for link in links if link.sender == own.id))
        vector_N = own.adapted.vector()
        message = self._message(round_index, receivers)
        received = yield from own.exchange([message], tuple(sorted(weight)))
        contributions = [
            (weight[other.source], np.asarray(other.values, dtype=np.float32), other.received)
            for other in sorted(received, key=lambda r: r.source)
        ]
        own.adapted.load(gossip_step(vector_N, own.as_received(vector_N), contributions))

    def finish(self) -> Generator[Step, Inbox, None]:
        """Nothing more to say: the last round's averaging was the final exchange."""
        yield from ()

    def own_expert(self) -> Expert:
        """The averaged adapter."""
        own = self.own
        return Expert("all", len(own.shard.train), own.adapted.scaling, own.adapted.tensors())

    def experts(self) -> Sequence[Expert]:
        """One adapter answers everything."""
        return (self.own_expert(),)

    def _message(self, round_index: int, receivers: tuple[int, ...]) -> Message:
        return values_message(
            self.own, round_index, self.everything, self.own.adapted.vector(), receivers
        )
