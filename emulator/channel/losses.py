"""Which packets get through, and after how many tries.

Every packet has its own limit of tries; it is repeated until it arrives or the limit is reached.
Shapes: P packets of one transfer, in order.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emulator.state import BoolArray, IndexArray
from emulator.streams import Stream, stream


@dataclass(frozen=True, eq=False)
class Outcome:
    """arrived [P] booleans; attempts [P] tries made, 1 <= attempts <= limit."""

    arrived: BoolArray
    attempts: IndexArray


class Lossless(BaseModel):
    """Every packet arrives at the first try."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["lossless"] = "lossless"

    def outcome(
        self, limits_P: IndexArray, seed: int, exchange_index: int, sender: int, receiver: int
    ) -> Outcome:
        """All arrive, one attempt each."""
        return Outcome(np.ones(limits_P.size, dtype=np.bool_), np.ones_like(limits_P))


class BernoulliLoss(BaseModel):
    """Each try of each packet is lost independently with the same probability p.

    The try that gets through is geometric: 1 + floor(ln u / ln p) for a uniform u in (0, 1], since
    P(tries > k) = p^k. One u per packet, in packet order: packet k meets the same luck however many
    follow it and whatever its limit. With `symmetry: joint` both directions of a link share the
    draws, so what i loses from j, j loses from i.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["bernoulli"] = "bernoulli"
    probability: float = Field(ge=0, lt=1, description="Probability that one try is lost.")
    symmetry: Literal["independent", "joint"] = Field(
        default="independent",
        description="Whether the two directions of a link lose independently or the same packets.",
    )

    def outcome(
        self, limits_P: IndexArray, seed: int, exchange_index: int, sender: int, receiver: int
    ) -> Outcome:
        """Arrivals and attempts of the packets of one transfer."""
        if self.probability == 0.0:
            return Outcome(np.ones(limits_P.size, dtype=np.bool_), np.ones_like(limits_P))
        source = self._stream(seed, exchange_index, sender, receiver)
        uniform_P = 1.0 - source.random(limits_P.size)
        tries_P = 1 + np.floor(np.log(uniform_P) / math.log(self.probability)).astype(np.int64)
        return Outcome(tries_P <= limits_P, np.minimum(tries_P, limits_P))

    def _stream(self, seed: int, exchange_index: int, sender: int, receiver: int) -> Stream:
        if self.symmetry == "joint":
            low, high = min(sender, receiver), max(sender, receiver)
            return stream(seed, "joint_loss", exchange_index, low, high)
        return stream(seed, "loss", exchange_index, sender, receiver)


Losses = Annotated[Lossless | BernoulliLoss, Field(discriminator="kind")]
