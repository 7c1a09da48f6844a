"""Sparse-and-orthogonal LoRA with clusters and an implicit mixture of experts (arXiv 2602.20492).

Local: the kept entries of B over a frozen A of one's own task. Sent each round: those entries, to the
members of the cluster. Merged: mask_mean. At the end clusters trade experts.

Shapes: N coordinates of all B, L modules, M devices. A *block* is a task's index: its devices share A
and mask, so averaging their B is exact; its *lead* is its lowest device and fixes densities and mask.
"""

import struct
from collections.abc import Generator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emulator.methods.expert_ring import ExpertRing
from emulator.methods.merging import mask_mean
from emulator.methods.speech import mask_message, statistics_message, values_message
from emulator.protocols import Own
from emulator.state import (
    SETUP_ROUND,
    DoubleArray,
    Expert,
    FloatArray,
    Inbox,
    IndexArray,
    Mask,
    Message,
    Step,
    Traffic,
)

INTRODUCTION = struct.Struct("<QIIfff")
"""Seed of the projections, block, samples, position x and y [m], p_max [W]; L densities follow."""


class SparseOrthogonal(BaseModel):
    """The paper's method with the repairs that the README lists."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "clusters"
    routes: ClassVar[bool] = True
    kind: Literal["sparse_orthogonal"] = "sparse_orthogonal"
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float = Field(default=2e-2, gt=0, description="AdamW, constant")
    density: float = Field(default=0.25, gt=0, le=1, description="kept share of B over all modules")
    density_allocation: Literal["spectral", "uniform"] = Field(
        default="spectral", description="how the budget is shared out among the modules"
    )
    projection: Literal["orthogonal", "gaussian"] = Field(
        default="orthogonal", description="how the frozen A are drawn"
    )
    mask_warmup_steps: int | None = Field(
        default=None,
        gt=0,
        description="dense steps before the mask; default 5 % of all, at least 10",
    )

    def start(self, own: Own) -> "SparseOrthogonalDevice":
        """A frozen from the device's block, B = 0."""
        return SparseOrthogonalDevice(self, own)


class SparseOrthogonalDevice:
    """One device's part in the method."""

    def __init__(self, config: SparseOrthogonal, own: Own) -> None:
        self.config = config
        self.own = own
        self.block = own.task_names.index(own.shard.task)
        own.adapted = own.adapt(
            config.lora_rank, config.lora_alpha or config.lora_rank, ("lora_B",)
        )
        own.adapted.set_tensors(self._projection(self.block))
        own.adapted.start_optimiser(config.learning_rate)
        self.layout = own.adapted.layout
        self.budget = max(1, round(config.density * self.layout.size))
        self.cluster_mean_N = np.zeros(self.layout.size, dtype=np.float32)
        self.masks: dict[int, Mask] = {}
        self.expert_values: dict[int, FloatArray] = {}

    # ── setup: introduce, cluster, masks, statistics ─────────────────────────────────────────────

    def setup(self) -> Generator[Step, Inbox, None]:
        """Introduce -> clusters -> masks -> routing statistics."""
        counts_L = self.own.kept_counts(self.config.density_allocation, self.budget)
        bodies = yield from self.own.introduce(self._introduction(counts_L))
        self._form_clusters(bodies)
        yield from self._agree_on_mask(counts_L)
        yield from self._tell_masks_in_cluster()
        yield from self._sum_statistics_at_leader()

    def _introduction(self, counts_L: IndexArray) -> bytes:
        """12 bytes stand for A (seed and block); then what clusters are formed from."""
        own = self.own
        densities_L = counts_L / np.array(self.layout.sizes)
        head = INTRODUCTION.pack(
            own.seed, self.block, len(own.shard.train), *own.position_m, own.max_power_w
        )
        return b"".join((head, densities_L.astype("<f4").tobytes()))

    def _form_clusters(self, bodies: dict[int, bytes]) -> None:
        """Everybody's block and samples, the lead's densities for its block, and the clusters."""
        own = self.own
        heads = [INTRODUCTION.unpack_from(bodies[i]) for i in range(own.devices)]
        blocks, samples = [head[1] for head in heads], [head[2] for head in heads]
        densities_ML: DoubleArray = np.stack(
            [
                np.frombuffer(bodies[blocks.index(block)], "<f4", offset=INTRODUCTION.size)
                for block in blocks
            ]
        ).astype(np.float64)
        own.survey = own.survey_of(samples, blocks, densities_ML, self._planned_message())
        clusters = own.clusters()
        self.ring = ExpertRing(own, clusters, blocks, samples, {})
        self.lead = blocks.index(self.block)
        if own.id == 0:
            overlap = own.projection_overlap(
                self.config.projection, self.config.lora_rank, len(own.task_names)
            )
            own.measure("projection_overlap", overlap, SETUP_ROUND)

    def _planned_message(self) -> Message:
        """A round's message before masks are known: as many entries, so as many bytes."""
        planned = Mask(self.layout.size, np.arange(self.budget, dtype=np.int64))
        return values_message(self.own, 0, planned, np.zeros(self.budget, dtype=np.float32), ())

    def _agree_on_mask(self, counts_L: IndexArray) -> Generator[Step, Inbox, None]:
        """The lead warms B up, keeps the largest entries and tells the others of its task."""
        own = self.own
        if own.id == self.lead:
            own.train(self.config.mask_warmup_steps or max(10, round(0.05 * own.total_steps)))
            mask = own.largest_entries(counts_L)
            peers = tuple(
                i for i, block in enumerate(self.ring.blocks) if block == self.block and i != own.id
            )
            yield from own.exchange([mask_message(own, mask, peers)] if peers else [], ())
        else:
            (told,) = yield from own.exchange([], (self.lead,))
            mask = Mask.from_dense(told.received)
        self.masks[self.block] = mask
        own.adapted.restrict(mask)
        own.adapted.start_optimiser(self.config.learning_rate)

    def _tell_masks_in_cluster(self) -> Generator[Step, Inbox, None]:
        """In each cluster the lowest member of every block tells its mask to the other blocks."""
        own, ring, mine = self.own, self.ring, self.masks[self.block]
        tellers = ring.tellers(ring.index)
        strangers = tuple(i for i in ring.others if ring.blocks[i] != self.block)
        speaks = bool(strangers) and tellers[self.block] == own.id
        wait_for = tuple(sorted(i for block, i in tellers.items() if block != self.block))
        messages = [mask_message(own, mine, strangers)] if speaks else []
        for told in (yield from own.exchange(messages, wait_for)):
            self.masks[ring.blocks[told.source]] = Mask.from_dense(told.received)
        ring.masks.update(self.masks)
        writers_N = np.sum([mask.dense for mask in self.masks.values()], axis=0)
        own.measure("collision_rate", float((writers_N > 1).mean()), SETUP_ROUND)
        own.measure("collided_mask_share", float((writers_N[mine.indices] > 1).mean()), SETUP_ROUND)

    def _sum_statistics_at_leader(self) -> Generator[Step, Inbox, None]:
        """Routing statistics are additive: the leader sums those of its cluster."""
        own, ring = self.own, self.ring
        self.statistics_layout, self.statistics = own.router_statistics()
        if not self.statistics.size:
            return
        if own.id != ring.leader:
            message = statistics_message(
                own, Traffic.SETUP, own.id, self.statistics_layout, self.statistics, (ring.leader,)
            )
            yield from own.exchange([message], ())
            return
        told = yield from own.exchange([], ring.others)
        for other in sorted(told, key=lambda r: r.source):
            self.statistics = self.statistics + other.values

    # ── one round ────────────────────────────────────────────────────────────────────────────────

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Send the kept entries to the cluster; mask_mean of all, weighted by samples.

        Where masks are disjoint everybody's B comes back bit for bit; of what is lost, the last value
        received stays.
        """
        own, ring, mine = self.own, self.ring, self.masks[self.block]
        vector_N = own.adapted.vector()
        message = values_message(own, round_index, mine, vector_N[mine.indices], ring.others)
        received = yield from own.exchange(
            [message] if ring.others else [], ring.others, tuple(self.masks.values())
        )
        contributions = [(float(ring.samples[own.id]), vector_N, mine.dense, own.id)]
        contributions += [
            (float(ring.samples[o.source]), o.values.astype(np.float32), o.received, o.source)
            for o in received
        ]
        contributions.sort(key=lambda c: c[3])  # one order at every member: one rounding
        mean_N, written_N = mask_mean([c[:3] for c in contributions])
        self.cluster_mean_N[written_N] = mean_N[written_N]
        own.adapted.load(self.cluster_mean_N * mine.dense)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def finish(self) -> Generator[Step, Inbox, None]:
        """Trade the cluster's experts for everybody's, then fit the router."""
        own, ring = self.own, self.ring
        experts = {
            block: own.as_received(self.cluster_mean_N * mask.dense)
            for block, mask in sorted(self.masks.items())
        }
        self.expert_values, statistics = yield from ring.trade(
            experts, self.statistics_layout, self.statistics
        )
        if statistics.size:
            own.use_router_statistics(statistics)

    def own_expert(self) -> Expert:
        """The expert of the own task."""
        return self._expert(self.block)

    def experts(self) -> Sequence[Expert]:
        """One expert per task that any device holds."""
        return tuple(self._expert(block) for block in sorted(self.expert_values))

    def _expert(self, block: int) -> Expert:
        own, ring = self.own, self.ring
        samples = sum(n for n, b in zip(ring.samples, ring.blocks, strict=True) if b == block)
        tensors = {**self._projection(block), **self.layout.split(self.expert_values[block])}
        return Expert(own.task_names[block], samples, own.adapted.scaling, tensors)

    def _projection(self, block: int) -> dict[str, FloatArray]:
        own, config = self.own, self.config
        return own.projection(config.projection, config.lora_rank, len(own.task_names), block)
