"""LoRI (arXiv 2504.07448) over a graph: masked B over an A of one's own, averaged with the neighbours'.

Local: the kept entries of B over a random frozen A, each device its own of both. Sent each round: those
entries. Merged: `mean`, where what a neighbour does not keep counts as 0 and so shrinks what others do;
or `mask_mean` over those who keep a coordinate. LoRI itself merges once, at the end; over rounds, every
average mixes coordinates that mean different things under different A.
Shapes: N coordinates of all B.
"""

from collections.abc import Generator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emulator.core.protocols.method import Own
from emulator.core.types.adapter import Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Coordinate, Received
from emulator.core.types.records import SETUP_ROUND
from emulator.core.types.steps import Inbox, Step
from emulator.methods.averaging import all_at, collided_share, disagreement, held_back, mask_mean
from emulator.methods.gossip import Gossip, receivers_of, weights_at
from emulator.methods.loss_policies import listener_of
from emulator.methods.mask_exchange import warmup_steps
from emulator.methods.messages import mask_message, values_message


class Lori(BaseModel):
    """Masked B over frozen random A. Density 1.0 is the row of 2602.20492, 0.10 is LoRI-S."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "random_regular"
    routes: ClassVar[bool] = False
    kind: Literal["lori"] = "lori"
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float = Field(default=2e-2, gt=0, description="AdamW, constant")
    density: float = Field(default=0.10, gt=0, le=1, description="kept share of B over all modules")
    aggregation: Literal["mean", "mask_mean"] = Field(
        default="mean", description="what becomes of coordinates that a neighbour does not keep"
    )
    mask_warmup_steps: int | None = Field(
        default=None,
        gt=0,
        description="dense local steps before the mask, taken off the first rounds; default 5 % of all, "
        "at least 10, at most half",
    )

    def start(self, own: Own) -> "LoriDevice":
        """A random A of the device's own, B = 0."""
        return LoriDevice(self, own)


class LoriDevice:
    """One device's part in LoRI."""

    def __init__(self, config: Lori, own: Own) -> None:
        self.config = config
        self.own = own
        own.adapted = own.adapt(
            config.lora_rank, config.lora_alpha or config.lora_rank, ("lora_B",)
        )
        own.adapted.set_tensors(own.projection("gaussian", config.lora_rank, own.devices, own.id))
        own.adapted.start_optimiser(config.learning_rate)
        size = own.adapted.layout.size
        count = max(1, round(config.density * size))
        self.mask = Mask(size, np.arange(count, dtype=np.int64))  # as many as will be kept
        self.known_masks = {own.id: self.mask}
        self.listener = listener_of(own.lost_coordinates)
        self.gossip = Gossip(own, self.mask)
        self.finish = self.gossip.finish
        self.own_expert, self.experts = self.gossip.own_expert, self.gossip.experts

    def setup(self) -> Generator[Step, Inbox, None]:
        """Introduce; warm up, keep the largest entries of all B, tell the neighbours which."""
        own, config = self.own, self.config
        yield from self.gossip.setup()
        if not self.mask.is_full:
            own.train(warmup_steps(config.mask_warmup_steps, own.total_steps))
            self.mask = own.largest_of_all(self.mask.count)
            own.adapted.restrict(self.mask)
            own.adapted.start_optimiser(config.learning_rate)
        yield from self._learn_masks()
        writers_N = np.sum([mask.dense for mask in self.known_masks.values()], axis=0)
        own.measure("collision_rate", float((writers_N > 1).mean()), SETUP_ROUND)

    def _learn_masks(self) -> Generator[Step, Inbox, None]:
        """The own mask to all who will ever hear the values, and theirs; dense ones need no words."""
        own = self.own
        links = [link for r in range(own.rounds) for link in own.links(r)]
        senders = tuple(sorted(weights_at(own.id, links)))
        if self.mask.is_full:
            self.known_masks = dict.fromkeys((own.id, *senders), self.mask)
            return
        message = mask_message(own, self.mask, tuple(sorted(set(receivers_of(own.id, links)))))
        told = yield from own.exchange([message], senders)
        heard = {other.source: Mask.from_dense(other.received) for other in told}
        self.known_masks = {own.id: self.mask, **heard}

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Average with the neighbours and keep the own coordinates."""
        own = self.own
        links = own.links(round_index)
        weight = weights_at(own.id, links)
        told_N = own.to_send(own.adapted.vector())
        message = values_message(
            own, round_index, self.mask, told_N[self.mask.indices], receivers_of(own.id, links)
        )
        received = yield from own.exchange(
            [message], tuple(sorted(weight)), tuple(self.known_masks.values())
        )
        merge = self._mean if self.config.aggregation == "mean" else self._mask_mean
        rounded_N = own.as_received(told_N)
        newest = self.listener.newest(received)
        self._measure_distance(weight, rounded_N, newest, round_index)

        def merged(messages: Sequence[Received]) -> FloatArray:
            everywhere_N = merge(weight, rounded_N, messages)
            return np.where(self.mask.dense, everywhere_N, 0.0).astype(np.float32)

        own.try_diluted(lambda b0_N: merged(all_at(b0_N, newest)), round_index)
        own.adapted.load(merged(newest))

    def _measure_distance(
        self,
        weight: dict[int, float],
        rounded_N: FloatArray,
        heard: Sequence[Received],
        round_index: int,
    ) -> None:
        """What both ends keep: how far apart it is, and how much of the own mask."""
        shared = [
            (weight[o.source], o.values.astype(np.float32), o.received & self.mask.dense)
            for o in heard
        ]
        self.own.measure("consensus_distance", disagreement(rounded_N, shared), round_index)
        share = collided_share(self.mask.dense, [p for _, _, p in shared])
        self.own.measure("collided_mask_share", share, round_index)

    def _mean(
        self, weight: dict[int, float], rounded_N: FloatArray, received: Sequence[Received]
    ) -> FloatArray:
        """x + sum_j w_j (Q(x_j) - Q(x)), x_j = 0 outside its mask; lost ones as loss_policies.py says."""
        contributions = [
            (weight[o.source], o.values.astype(np.float32), o.status != Coordinate.LOST)
            for o in received
        ]
        return self.listener.step(self.own.adapted.vector(), rounded_N, contributions)

    def _mask_mean(
        self, weight: dict[int, float], rounded_N: FloatArray, received: Sequence[Received]
    ) -> FloatArray:
        """The weighted mean over those who keep a coordinate and were heard; see held_back."""
        own_weight = 1.0 - sum(weight.values())
        contributions = [
            (own_weight, rounded_N, self.mask.dense),
            *((weight[o.source], o.values.astype(np.float32), o.received) for o in received),
        ]
        mean_N, _ = mask_mean(contributions)
        return (mean_N + held_back(self.own.adapted.vector(), rounded_N)).astype(np.float32)
