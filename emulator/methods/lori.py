"""LoRI (arXiv 2504.07448) over a graph: masked B over random frozen A, averaged with the neighbours.

Local: the kept entries of B over a random frozen A; every device has its own A and mask. Sent each
round: those entries. Merged: `mean`, where a coordinate that a neighbour does not keep counts as 0 and
so shrinks the others' values; or `mask_mean` over the devices that keep a coordinate. LoRI itself merges
once, at the end; over rounds, every average mixes coordinates that mean different things under different
A.
Shapes: N coordinates of all B.
"""

from collections.abc import Generator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.exchange import Shared
from emulator.core.types.message import Coordinate, Received
from emulator.core.types.records import SETUP_ROUND
from emulator.core.types.steps import Inbox, State, Step
from emulator.methods.averaging import collided_share, disagreement, held_back, mask_mean
from emulator.methods.gossip import Gossip, receivers_of, share_with_neighbours, weights_at
from emulator.methods.loss_policies import gossip_step_of
from emulator.methods.mask_exchange import warmup_steps
from emulator.methods.messages import mask_message


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

    @property
    def planned_by_rounds(self) -> tuple[str, ...]:
        """The length of the warm-up by default, and who gets the mask."""
        if self.density == 1:
            return ()
        return ("mask_warmup_steps",) * (self.mask_warmup_steps is None) + ("receivers of masks",)

    def plan(self, total_steps: int) -> "Lori":
        """The same method with the length of its warm-up in a run of so many local steps."""
        if "mask_warmup_steps" not in self.planned_by_rounds:
            return self
        return self.model_copy(update={"mask_warmup_steps": warmup_steps(None, total_steps)})

    def start(self, ctx: DeviceContext) -> "LoriDevice":
        """A random A of the device's own, B = 0."""
        return LoriDevice(self, ctx)


class LoriDevice:
    """One device's part in LoRI."""

    def __init__(self, config: Lori, ctx: DeviceContext) -> None:
        self.config = config
        self.ctx = ctx
        info, rank = ctx.info, config.lora_rank
        adapted = ctx.model.lora(rank, config.lora_alpha or rank, ("lora_B",))
        adapted.set_tensors(ctx.sparsity.projection("gaussian", rank, info.devices, info.id))
        adapted.start_optimiser(config.learning_rate)
        size = adapted.layout.size
        count = max(1, round(config.density * size))
        self.mask = Mask(size, np.arange(count, dtype=np.int64))  # as many as will be kept
        self.known_masks = {info.id: self.mask}
        self._step = gossip_step_of(ctx.wire.lost_coordinates)
        self.gossip = Gossip(ctx, self.mask)
        self.finish = self.gossip.finish
        self.own_expert, self.experts = self.gossip.own_expert, self.gossip.experts

    def setup(self) -> Generator[Step, Inbox, None]:
        """Introduce; warm up, keep the largest entries of all B, send the neighbours the mask."""
        ctx, config = self.ctx, self.config
        yield from self.gossip.setup()
        if not self.mask.is_full:
            total_steps = ctx.progress.rounds * ctx.info.round_steps
            ctx.model.train(warmup_steps(config.mask_warmup_steps, total_steps))
            self.mask = ctx.sparsity.largest_of_all(self.mask.count)
            ctx.model.adapted.restrict(self.mask)
            ctx.model.adapted.start_optimiser(config.learning_rate)
        yield from self._exchange_masks()
        writers_N = np.sum([mask.dense for mask in self.known_masks.values()], axis=0)
        ctx.log.metric("collision_rate", float((writers_N > 1).mean()), SETUP_ROUND)

    def _exchange_masks(self) -> Generator[Step, Inbox, None]:
        """Send the own mask to all that receive its values in any round; a full one is not sent."""
        ctx, own_id = self.ctx, self.ctx.info.id
        links = [link for r in range(ctx.progress.rounds) for link in ctx.network.links(r)]
        senders = tuple(sorted(weights_at(own_id, links)))
        if self.mask.is_full:
            self.known_masks = dict.fromkeys((own_id, *senders), self.mask)
            return
        message = mask_message(ctx, self.mask, tuple(sorted(set(receivers_of(own_id, links)))))
        received = yield from ctx.network.exchange([message], senders)
        masks = {each.source: Mask.from_dense(each.received) for each in received}
        self.known_masks = {own_id: self.mask, **masks}

    def state(self) -> State:
        """The own mask and those of the neighbours."""
        return {"mask": self.mask, "known_masks": self.known_masks}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.mask, self.known_masks = state["mask"], state["known_masks"]

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Average with the neighbours and keep the own coordinates."""
        ctx = self.ctx
        known = tuple(self.known_masks.values())
        weight, shared = yield from share_with_neighbours(
            ctx, round_index, self.mask, ctx.model.adapted.vector(), known
        )
        merge = self._mean if self.config.aggregation == "mean" else self._mask_mean
        self._measure_distance(weight, shared, round_index)

        def merged(received: Sequence[Received]) -> FloatArray:
            everywhere_N = merge(weight, shared.own_N, received)
            return np.where(self.mask.dense, everywhere_N, 0.0).astype(np.float32)

        ctx.model.try_diluted(merged, shared.received)
        ctx.model.adapted.load(merged(shared.received))

    def _measure_distance(self, weight: dict[int, float], shared: Shared, round_index: int) -> None:
        """Record, over the entries that both ends of a link keep, how far apart they are, and their share
        of the own mask."""
        both = [
            (weight[r.source], r.values.astype(np.float32), r.received & self.mask.dense)
            for r in shared.received
        ]
        log = self.ctx.log
        log.metric("consensus_distance", disagreement(shared.own_N, both), round_index)
        share = collided_share(self.mask.dense, [present_N for _, _, present_N in both])
        log.metric("collided_mask_share", share, round_index)

    def _mean(
        self, weight: dict[int, float], rounded_N: FloatArray, received: Sequence[Received]
    ) -> FloatArray:
        """x + sum_j w_j (Q(x_j) - Q(x)), x_j = 0 outside its mask; lost ones as in loss_policies.py."""
        contributions = [
            (weight[r.source], r.values.astype(np.float32), r.status != Coordinate.LOST)
            for r in received
        ]
        return self._step(self.ctx.model.adapted.vector(), rounded_N, contributions)

    def _mask_mean(
        self, weight: dict[int, float], rounded_N: FloatArray, received: Sequence[Received]
    ) -> FloatArray:
        """The weighted mean over those that keep a coordinate and were received; see held_back."""
        own_weight = 1.0 - sum(weight.values())
        contributions = [
            (own_weight, rounded_N, self.mask.dense),
            *((weight[r.source], r.values.astype(np.float32), r.received) for r in received),
        ]
        mean_N, _ = mask_mean(contributions)
        return (mean_N + held_back(self.ctx.model.adapted.vector(), rounded_N)).astype(np.float32)
