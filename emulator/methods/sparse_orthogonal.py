"""Sparse-and-orthogonal LoRA with clusters and an implicit mixture of experts (arXiv 2602.20492).

Local: the kept entries of B over a frozen A. Sent each round: those entries, to the members of the
cluster. Merged: mask_mean. At the end clusters trade experts.

`aggregation` has the printed forms. Eq 10 divides by |c|, also where one member writes. With Eq 29
every device puts its own mask over that mean again (`printed`). Eq 24, the answer of the mixture, does
not: expert j is ((1/|c|) sum_i B_i M_i) A_j (`printed_24`; in the rounds a device still trains and
sends what its own mask keeps, as Eq 3 has it). On Eq 23 see averaging.py.

Shapes: N coordinates of all B, L modules, M devices. A *block* is an A and a mask: one per task, whose
devices then average their B exactly (or one per device, `projection_by`); its *lead* is its lowest
device and fixes densities and mask.
"""

import struct
from collections.abc import Generator, Sequence
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from emulator.core.protocols.method import Own
from emulator.core.types.adapter import AdapterLayout, LostCoordinates, Mask
from emulator.core.types.arrays import BoolArray, DoubleArray, FloatArray, IndexArray
from emulator.core.types.records import SETUP_ROUND
from emulator.core.types.result import Expert
from emulator.core.types.steps import Inbox, Step
from emulator.methods.averaging import all_at
from emulator.methods.cluster_mean import ClusterMean
from emulator.methods.cluster_models import ClusterModels
from emulator.methods.expert_exchange import ExpertRing
from emulator.methods.loss_policies import listener_of
from emulator.methods.mask_exchange import (
    Masks,
    choose_alone,
    choose_in_turn,
    tell_cluster,
    warmup_steps,
)
from emulator.methods.messages import planned_message, values_message

INTRODUCTION = struct.Struct("<QIIfff")
"""Seed of the projections, task, samples, position x and y [m], p_max [W]; L densities follow, and
A in float32 where it is asked for (`send_projection`)."""

WHEREABOUTS = struct.Struct("<dff")
"""A device's time [s] and position x and y [m], before clusters are formed again."""


class SparseOrthogonal(BaseModel):
    """The paper's method with the repairs that the README lists; each has its printed form as option."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "clusters"
    routes: ClassVar[bool] = True
    kind: Literal["sparse_orthogonal"] = "sparse_orthogonal"
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float = Field(default=2e-2, gt=0, description="AdamW, constant")
    density: float = Field(default=0.25, gt=0, le=1, description="kept share of B over all modules")
    budget: Literal["density", "device"] = Field(
        default="density",
        description="how many entries are kept: density, or what the device's local.compute_budget "
        "(Eq 7) and its radio (Eq 11a, 11b) allow",
    )
    budget_neighbours: int = Field(
        default=3,
        gt=0,
        description="neighbours that a device's budget must reach within the deadline",
    )
    density_allocation: Literal["spectral", "uniform", "printed"] = Field(
        default="spectral", description="how the budget is shared out among the modules"
    )
    density_temperature: float = Field(
        default=0.25,
        gt=0,
        description="tau of Eq 22's softmax: smaller gives high entropies more of the budget",
    )
    covariance_ridge: float = Field(
        default=0.01,
        ge=0,
        description="delta: ridge on the covariance of a module's inputs, over its mean eigenvalue",
    )
    projection: Literal["orthogonal", "gaussian"] = Field(
        default="orthogonal", description="how the frozen A are drawn"
    )
    projection_by: Literal["task", "device"] = Field(
        default="task", description="who has an A and a mask of its own"
    )
    send_projection: Literal["seed", "matrix"] = Field(
        default="seed",
        description="what introductions tell of A: the seed and block that make it, or its entries",
    )
    mask_selection: Literal["magnitude", "random", "disjoint"] = Field(
        default="magnitude",
        description="which entries are kept: the largest after a warm-up, random ones, or the largest "
        "that nobody in the cluster has taken",
    )
    mask_warmup_steps: int | None = Field(
        default=None,
        gt=0,
        description="dense local steps before the mask, taken off the first rounds; default 5 % of all, "
        "at least 10, at most half",
    )
    aggregation: Literal["mask_mean", "printed", "printed_24"] = Field(
        default="mask_mean",
        description="over those who keep a coordinate; printed: over the cluster's size, then the own "
        "mask again (Eq 10 with Eq 29); printed_24: the same rounds, but experts are not masked again "
        "(Eq 10 with Eq 24)",
    )
    active_ranks: int | None = Field(
        default=None, gt=0, description="largest entries of A h that pass on; default all"
    )
    exchange_every: int | None = Field(
        default=None,
        gt=0,
        description="clusters trade experts every so many rounds; default: only at the end",
    )
    recluster_every: int | None = Field(
        default=None,
        gt=0,
        description="U_t: clusters are formed again before every so many-th round, for devices that "
        "move; default: only once",
    )

    @model_validator(mode="after")
    def _stays_disjoint(self) -> "SparseOrthogonal":
        if self.recluster_every is not None and self.mask_selection == "disjoint":
            raise ValueError(
                f"recluster_every: got {self.recluster_every} with mask_selection disjoint, wanted "
                "another selection (masks are disjoint in the first clusters only)"
            )
        return self

    def loss_conflict(self, policy: LostCoordinates) -> str:
        """Why a policy for lost coordinates has no meaning here; empty where it has one."""
        if self.aggregation != "mask_mean" and policy == "renormalise":
            return (
                f"with method.aggregation {self.aggregation}, wanted mask_mean or another policy (Eq 10 "
                "divides by the size of the cluster, whoever was received)"
            )
        return ""

    def orthogonal_blocks(self, tasks: int, devices: int) -> int:
        """How many A of `lora_rank` rows must fit into one basis of a module's inputs."""
        if self.projection != "orthogonal":
            return 0
        return tasks if self.projection_by == "task" else devices

    def start(self, own: Own) -> "SparseOrthogonalDevice":
        """A frozen from the device's block, B = 0."""
        return SparseOrthogonalDevice(self, own)


class SparseOrthogonalDevice:
    """One device's part in the method."""

    def __init__(self, config: SparseOrthogonal, own: Own) -> None:
        self.config = config
        self.own = own
        self.task = own.task_names.index(own.shard.task)
        self.block = self.task if config.projection_by == "task" else own.id
        self.num_blocks = len(own.task_names) if config.projection_by == "task" else own.devices
        adapted = own.adapt(config.lora_rank, config.lora_alpha or config.lora_rank, ("lora_B",))
        if config.active_ranks is not None:
            adapted.keep_active(config.active_ranks)
        own.adapted = adapted
        mine = self._drawn(self.block)
        own.adapted.set_tensors(mine)
        own.adapted.start_optimiser(config.learning_rate)
        self.layout = own.adapted.layout
        self.layout_of_A = AdapterLayout(tuple(mine), tuple(a.shape for a in mine.values()))
        self.listener = listener_of(own.lost_coordinates)
        self.told_projections: dict[int, dict[str, FloatArray]] = {}
        self.masks: Masks = {}
        self.expert_values: dict[int, FloatArray] = {}

    # ── setup: introduce, cluster, masks, statistics ─────────────────────────────────────────────

    def setup(self) -> Generator[Step, Inbox, None]:
        """Introduce -> clusters -> masks -> routing statistics."""
        own = self.own
        counts_L = own.kept_counts(
            self.config.density_allocation,
            self._budget(),
            self.config.density_temperature,
            self.config.covariance_ridge,
        )
        self._meet((yield from own.introduce(self._introduction(counts_L))))
        clusters = self._clusters_at(0.0, SETUP_ROUND)
        self.ring = ExpertRing(own, clusters, self.blocks, self.samples)
        self.cluster_mean = ClusterMean(self.ring, self.config.aggregation, self.layout.size)
        self.cluster_models = ClusterModels(self.ring)
        if self._chooses_by_size():
            own.train(warmup_steps(self.config.mask_warmup_steps, own.total_steps))
        if self.config.mask_selection == "disjoint":
            self.masks = yield from choose_in_turn(own, self.ring, self._largest_free)
        else:
            self.masks = yield from choose_alone(own, self.ring, self._choose_mask)
        self._start_masked()
        self.statistics_layout, self.own_statistics = own.router_statistics()
        self.statistics = yield from self.ring.gather(self.statistics_layout, self.own_statistics)

    def _budget(self) -> int:
        """Q: how many entries of B to train and send."""
        if self.config.budget == "device":
            return self.own.parameter_budget(self.config.budget_neighbours)
        return max(1, round(self.config.density * self.layout.size))

    def _introduction(self, counts_L: IndexArray) -> bytes:
        """What stands for A (12 bytes: seed and block), what clusters are formed from, and A if asked."""
        own = self.own
        densities_L = counts_L / np.array(self.layout.sizes)
        head = INTRODUCTION.pack(
            own.seed, self.task, len(own.shard.train), *own.position_m, own.max_power_w
        )
        told = [densities_L]
        if self.config.send_projection == "matrix":
            told.append(self.layout_of_A.join(self._drawn(self.block)))
        return head + np.concatenate(told).astype("<f4").tobytes()

    def _meet(self, bodies: dict[int, bytes]) -> None:
        """Everybody's block and samples, its block's densities, and what it will send.

        A block's densities are those of its poorest member, of equals the lowest.
        """
        own, config = self.own, self.config
        heads = [INTRODUCTION.unpack_from(bodies[i]) for i in range(own.devices)]
        tasks, samples = [head[1] for head in heads], [head[2] for head in heads]
        blocks = tasks if config.projection_by == "task" else list(range(own.devices))
        tails = [
            np.frombuffer(bodies[i], "<f4", offset=INTRODUCTION.size).copy()
            for i in range(own.devices)
        ]
        sizes_L = np.array(self.layout.sizes)
        wished_ML = np.rint(np.stack([tail[: sizes_L.size] for tail in tails]) * sizes_L)
        wishes_M = wished_ML.sum(axis=1)
        poorest = {
            block: min((i for i, b in enumerate(blocks) if b == block), key=wishes_M.__getitem__)
            for block in set(blocks)
        }
        counts_ML = wished_ML[[poorest[block] for block in blocks]].astype(np.int64)
        self.counts_L: IndexArray = counts_ML[own.id]
        self.densities_ML: DoubleArray = counts_ML / sizes_L
        own.measure_modules("density", self.densities_ML[own.id])
        if config.send_projection == "matrix":
            self.told_projections = {
                block: self.layout_of_A.split(tail[sizes_L.size :])
                for block, tail in zip(blocks, tails, strict=True)
            }
        totals: list[int] = counts_ML.sum(axis=1).tolist()
        messages = {count: planned_message(own, count) for count in totals}
        self.planned = [messages[count] for count in totals]
        self.blocks, self.samples = blocks, samples
        self.task_of_block = dict(zip(blocks, tasks, strict=True))
        if own.id == 0:
            overlap = own.projection_overlap(config.projection, config.lora_rank, self.num_blocks)
            own.measure("projection_overlap", overlap, SETUP_ROUND)

    def _clusters_at(self, time_s: float, round_index: int) -> tuple[tuple[int, ...], ...]:
        """The clusters of everybody's places at a time."""
        own = self.own
        own.survey = own.survey_of(
            self.samples, self.blocks, self.densities_ML, self.planned, time_s
        )
        return own.clusters(round_index)

    def _chooses_by_size(self) -> bool:
        """Whether this device leads its block and has to know which entries of B grow large."""
        leads = self.own.id == self.blocks.index(self.block)
        keeps_all = int(self.counts_L.sum()) == self.layout.size
        return leads and self.config.mask_selection != "random" and not keeps_all

    def _choose_mask(self) -> Mask:
        """The lead's mask."""
        if self.config.mask_selection == "random":
            return self.own.random_entries(self.counts_L)
        return self._largest_free(np.ones(self.layout.size, dtype=np.bool_))

    def _largest_free(self, free_N: BoolArray) -> Mask:
        """The largest entries of B, among those that are free."""
        return self.own.largest_entries(self.counts_L, free_N)

    def _start_masked(self) -> None:
        """From now on only the kept entries of B, from 0; and what the cluster's masks share."""
        own, mine = self.own, self.masks[self.block]
        own.adapted.restrict(mine)
        own.adapted.start_optimiser(self.config.learning_rate)
        self._measure_collisions(SETUP_ROUND)

    def _measure_collisions(self, round_index: int) -> None:
        """What the masks of the cluster share."""
        writers_N = np.sum([mask.dense for mask in self.masks.values()], axis=0)
        self.own.measure("collision_rate", float((writers_N > 1).mean()), round_index)

    # ── one round ────────────────────────────────────────────────────────────────────────────────

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Send the kept entries to the cluster; average all as they were heard, weighted by samples.

        Every member comes to the same mean, which is what it trades later; under mask_mean it goes on
        with what rounding held back of its own entries, too, so that disjoint masks give B back bit for
        bit and equal ones keep the mean of all. What is lost is left out, or as `wire.lost_coordinates`
        says; where then nobody writes, the mean of the last round in which somebody did stays.
        """
        if self._reclusters_before(round_index):
            yield from self._form_clusters_again(round_index)
        own, ring, mine = self.own, self.ring, self.masks[self.block]
        vector_N = own.adapted.vector()
        told_N = own.to_send(vector_N) if ring.others else vector_N
        rounded_N = own.as_received(told_N)
        message = values_message(own, round_index, mine, told_N[mine.indices], ring.others)
        received = yield from own.exchange(
            [message] if ring.others else [], ring.others, tuple(self.masks.values())
        )
        newest = self.listener.newest(received)
        mean = self.cluster_mean
        mean.measure_agreement(mine, rounded_N, newest, round_index)
        merged = partial(mean.merged, mine, vector_N, rounded_N)
        own.try_diluted(lambda b0_N: merged(all_at(b0_N, newest))[1], round_index)
        mean.values_N, merged_N = merged(newest)
        own.adapted.load(merged_N)
        if self._trades_after(round_index):
            yield from self._trade(round_index, np.zeros(0, dtype=np.float32))

    def _form_clusters_again(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Where is everybody now? Clusters follow; what was chosen and learnt stays."""
        own = self.own
        bodies = yield from own.introduce(WHEREABOUTS.pack(own.now_s, *own.position_m))
        latest_s = max(WHEREABOUTS.unpack(body)[0] for body in bodies.values())
        self.ring.regroup(self._clusters_at(latest_s, round_index))
        self.masks = yield from tell_cluster(own, self.ring, self.masks[self.block])
        self._measure_collisions(round_index)
        self.statistics = yield from self.ring.gather(self.statistics_layout, self.own_statistics)

    def _reclusters_before(self, round_index: int) -> bool:
        """Whether clusters are formed again now; the first round has those of the setup."""
        every = self.config.recluster_every
        return every is not None and round_index > 0 and round_index % every == 0

    def _trades_after(self, round_index: int) -> bool:
        """Whether clusters trade after this round, the last one apart: `finish` does it then."""
        every, rounds_done = self.config.exchange_every, round_index + 1
        return every is not None and rounds_done % every == 0 and rounds_done < self.own.rounds

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def finish(self) -> Generator[Step, Inbox, None]:
        """Trade the cluster's experts for everybody's, then fit the router."""
        statistics = yield from self._trade(self.own.rounds, self.statistics)
        if statistics.size:
            self.own.use_router_statistics(statistics)

    def _trade(
        self, round_index: int, statistics: FloatArray
    ) -> Generator[Step, Inbox, FloatArray]:
        """The cluster's experts for everybody's; they never enter training. Returns the statistics."""
        if self.config.aggregation == "printed_24":
            self.expert_values, summed = yield from self.cluster_models.trade(
                self.cluster_mean.values_N, self.statistics_layout, statistics, round_index
            )
            return summed
        experts = {
            block: self.own.as_received(self.cluster_mean.values_N * mask.dense)
            for block, mask in sorted(self.masks.items())
        }
        self.expert_values, summed = yield from self.ring.trade(
            experts, self.statistics_layout, statistics, round_index
        )
        return summed

    def own_expert(self) -> Expert:
        """The expert of the own block."""
        return self._expert(self.block)

    def experts(self) -> Sequence[Expert]:
        """One expert per block that any device holds."""
        return tuple(self._expert(block) for block in sorted(self.expert_values))

    def _expert(self, block: int) -> Expert:
        own = self.own
        projection = self.told_projections.get(block) or self._drawn(block)
        tensors = {**projection, **self.layout.split(self.expert_values[block])}
        task = own.task_names[self.task_of_block[block]]
        return Expert(task, self.ring.samples_of(block), own.adapted.scaling, tensors)

    def _drawn(self, block: int) -> dict[str, FloatArray]:
        """A of a block, by layer name, from its seed."""
        config = self.config
        return self.own.projection(config.projection, config.lora_rank, self.num_blocks, block)
