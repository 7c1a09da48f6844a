"""One device's part in sparse_orthogonal: setup, rounds and end.

Shapes: N coordinates of all B, L modules, M devices. Task groups and their leaders: see sparse_setup.py.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import Mask
from emulator.core.types.arrays import BoolArray, FloatArray
from emulator.core.types.message import Received
from emulator.core.types.records import SETUP_ROUND
from emulator.core.types.result import Expert
from emulator.core.types.steps import Inbox, State, Step
from emulator.methods.cluster_mean import ClusterMean
from emulator.methods.cluster_models import ClusterModels
from emulator.methods.expert_exchange import ExpertRing
from emulator.methods.mask_exchange import (
    Masks,
    choose_alone,
    choose_in_turn,
    send_to_cluster,
    warmup_steps,
)
from emulator.methods.messages import planned_message
from emulator.methods.sparse_setup import (
    WHEREABOUTS,
    Introductions,
    count_entries,
    layout_of,
    pack_introduction,
    read_introductions,
)

if TYPE_CHECKING:
    from emulator.methods.sparse_orthogonal import SparseOrthogonal


class SparseOrthogonalDevice:
    """One device's part in the method."""

    def __init__(self, config: SparseOrthogonal, ctx: DeviceContext) -> None:
        self.config = config
        self.ctx = ctx
        info = ctx.info
        self.task = info.task_names.index(info.shard.task)
        self.group = self.task if config.projection_by == "task" else info.id
        self.num_blocks = len(info.task_names) if config.projection_by == "task" else info.devices
        adapted = ctx.model.lora(
            config.lora_rank, config.lora_alpha or config.lora_rank, ("lora_B",)
        )
        if config.active_ranks is not None:
            adapted.keep_active(config.active_ranks)
        adapted.set_tensors(self._draw_projection(self.group))
        adapted.start_optimiser(config.learning_rate)
        self.layout = adapted.layout
        self.masks: Masks = {}
        self.expert_values: dict[int, FloatArray] = {}

    # ── setup ────────────────────────────────────────────────────────────────────────────────────

    def setup(self) -> Generator[Step, Inbox, None]:
        """Introduce -> clusters -> masks -> routing statistics."""
        ctx, config = self.ctx, self.config
        yield from self._introduce()
        clusters = self._form_clusters(0.0, SETUP_ROUND)
        self._use_ring(ExpertRing(ctx, clusters, self.known.groups, self.known.samples))
        if self._chooses_by_size():
            total_steps = ctx.progress.rounds * ctx.info.round_steps
            ctx.model.train(warmup_steps(config.mask_warmup_steps, total_steps))
        if config.mask_selection == "disjoint":
            self.masks = yield from choose_in_turn(ctx, self.ring, self._largest_free)
        else:
            self.masks = yield from choose_alone(ctx, self.ring, self._choose_mask)
        ctx.model.adapted.restrict(self.masks[self.group])
        ctx.model.adapted.start_optimiser(config.learning_rate)
        self._record_collisions(SETUP_ROUND)
        self.statistics_layout, self.own_statistics = ctx.router.statistics()
        self.statistics = yield from self.ring.gather(self.statistics_layout, self.own_statistics)

    def _use_ring(self, ring: ExpertRing) -> None:
        """Take part in the exchange between clusters."""
        self.ring = ring
        self.cluster_mean = ClusterMean(ring, self.config.aggregation, self.layout.size)
        self.cluster_models = ClusterModels(ring)

    def _introduce(self) -> Generator[Step, Inbox, None]:
        """Send what stands for A and what clusters are formed from; learn the same of all devices."""
        ctx, config = self.ctx, self.config
        counts_L = count_entries(config, ctx)
        sends_matrix = config.send_projection == "matrix"
        sent = self._draw_projection(self.group) if sends_matrix else {}
        bodies = yield from ctx.network.flood(pack_introduction(ctx, self.task, counts_L, sent))
        introductions = read_introductions(
            bodies,
            np.array(self.layout.sizes),
            config.projection_by,
            layout_of(sent) if sends_matrix else None,
        )
        self._take_introductions(introductions)
        ctx.log.per_module("density", self.known.densities_ML[ctx.info.id])
        if ctx.info.id == 0:
            overlap = ctx.sparsity.projection_overlap(
                config.projection, config.lora_rank, self.num_blocks
            )
            ctx.log.metric("projection_overlap", overlap, SETUP_ROUND)

    def _take_introductions(self, known: Introductions) -> None:
        """Use what devices introduced: how many entries are kept, and how long messages will be."""
        self.known = known
        self.counts_L = known.counts_ML[self.ctx.info.id]
        totals: list[int] = known.counts_ML.sum(axis=1).tolist()
        messages = {count: planned_message(self.ctx, count) for count in totals}
        self.planned = [messages[count] for count in totals]

    def _form_clusters(self, time_s: float, round_index: int) -> tuple[tuple[int, ...], ...]:
        """The clusters of all devices' places at a time."""
        known = self.known
        self.ctx.network.update_survey(
            known.samples, known.groups, known.densities_ML, self.planned, time_s
        )
        return self.ctx.network.form_clusters(round_index)

    def _chooses_by_size(self) -> bool:
        """Whether this device leads its group and has to know which entries of B grow large."""
        leads = self.ctx.info.id == self.known.groups.index(self.group)
        keeps_all = int(self.counts_L.sum()) == self.layout.size
        return leads and self.config.mask_selection != "random" and not keeps_all

    def _choose_mask(self) -> Mask:
        """The mask of the group that this device leads."""
        if self.config.mask_selection == "random":
            return self.ctx.sparsity.random_entries(self.counts_L)
        return self._largest_free(np.ones(self.layout.size, dtype=np.bool_))

    def _largest_free(self, free_N: BoolArray) -> Mask:
        """The largest entries of B, among those that are free."""
        return self.ctx.sparsity.largest_entries(self.counts_L, free_N)

    def _record_collisions(self, round_index: int) -> None:
        """Record the share of coordinates that several masks of the cluster keep."""
        writers_N = np.sum([mask.dense for mask in self.masks.values()], axis=0)
        self.ctx.log.metric("collision_rate", float((writers_N > 1).mean()), round_index)

    def state(self) -> State:
        """What devices introduced, masks, the clusters' exchange, their mean, and routing statistics."""
        return {
            "known": vars(self.known),
            "masks": self.masks,
            "ring": self.ring.state(),
            "mean": self.cluster_mean.values_N,
            "models": self.cluster_models.state(),
            "statistics_layout": self.statistics_layout,
            "own_statistics": self.own_statistics,
            "statistics": self.statistics,
        }

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self._take_introductions(Introductions(**state["known"]))
        self.masks = state["masks"]
        self._use_ring(ExpertRing.restored(self.ctx, state["ring"]))
        self.cluster_mean.values_N = state["mean"]
        self.cluster_models.restore(state["models"])
        self.statistics_layout = state["statistics_layout"]
        self.own_statistics, self.statistics = state["own_statistics"], state["statistics"]

    # ── one round ────────────────────────────────────────────────────────────────────────────────

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Send the kept entries to the cluster; average all as they were received, weighted by samples.

        Every member comes to the same mean, which is what it exchanges with other clusters later. Under
        mask_mean it trains on with what rounding held back of its own entries, too, so that disjoint
        masks give B back bit for bit and equal ones keep the mean of all. What is lost is left out, or
        completed as `wire.lost_coordinates` has it; where then no device writes, the mean of the last
        round in which one did stays.
        """
        if self._reclusters_before(round_index):
            yield from self._form_clusters_again(round_index)
        ctx, ring, mean, mine = self.ctx, self.ring, self.cluster_mean, self.masks[self.group]
        vector_N = ctx.model.adapted.vector()
        shared = yield from ctx.network.share(
            mine, vector_N, ring.others, ring.others, tuple(self.masks.values())
        )
        mean.record_agreement(mine, shared, round_index)
        merge = partial(mean.merged, mine, vector_N, shared.own_N)

        def merged(received: Sequence[Received]) -> FloatArray:
            return merge(received)[1]

        ctx.model.try_diluted(merged, shared.received)
        mean.values_N, merged_N = merge(shared.received)
        ctx.model.adapted.load(merged_N)
        if self._exchanges_experts_after(round_index):
            yield from self._exchange_experts(round_index, np.zeros(0, dtype=np.float32))

    def _form_clusters_again(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Form clusters of the present places; chosen masks and trained values stay."""
        ctx = self.ctx
        body = WHEREABOUTS.pack(ctx.progress.now_s, *ctx.network.position_m)
        bodies = yield from ctx.network.flood(body)
        latest_s = max(WHEREABOUTS.unpack(body)[0] for body in bodies.values())
        self.ring.regroup(self._form_clusters(latest_s, round_index))
        self.masks = yield from send_to_cluster(ctx, self.ring, self.masks[self.group])
        self._record_collisions(round_index)
        self.statistics = yield from self.ring.gather(self.statistics_layout, self.own_statistics)

    def _reclusters_before(self, round_index: int) -> bool:
        """Whether clusters are formed again now; the first round has those of the setup."""
        every = self.config.recluster_every
        return every is not None and round_index > 0 and round_index % every == 0

    def _exchanges_experts_after(self, round_index: int) -> bool:
        """Whether clusters exchange experts after this round; after the last one `finish` does it."""
        every, rounds_done = self.config.exchange_every, round_index + 1
        if every is None or rounds_done >= self.ctx.progress.rounds:
            return False
        return rounds_done % every == 0

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def finish(self) -> Generator[Step, Inbox, None]:
        """Exchange experts between clusters, then fit the router."""
        statistics = yield from self._exchange_experts(self.ctx.progress.rounds, self.statistics)
        if statistics.size:
            self.ctx.router.fit(statistics)

    def _exchange_experts(
        self, round_index: int, statistics: FloatArray
    ) -> Generator[Step, Inbox, FloatArray]:
        """Send the cluster's experts, receive all others; training does not see them.

        Returns the statistics summed over all clusters.
        """
        mean_N, layout = self.cluster_mean.values_N, self.statistics_layout
        if self.config.aggregation == "printed_24":
            self.expert_values, summed = yield from self.cluster_models.exchange_models(
                mean_N, layout, statistics, round_index
            )
            return summed
        experts = {
            group: self.ctx.wire.as_received(mean_N * mask.dense)
            for group, mask in sorted(self.masks.items())
        }
        self.expert_values, summed = yield from self.ring.exchange_experts(
            experts, layout, statistics, round_index
        )
        return summed

    def own_expert(self) -> Expert:
        """The expert of the own group."""
        return self._expert(self.group)

    def experts(self) -> Sequence[Expert]:
        """One expert per group that any device holds."""
        return tuple(self._expert(group) for group in sorted(self.expert_values))

    def _expert(self, group: int) -> Expert:
        """The expert of a group: its A and the received B."""
        ctx, known = self.ctx, self.known
        projection = known.projections.get(group) or self._draw_projection(group)
        tensors = {**projection, **self.layout.split(self.expert_values[group])}
        task = ctx.info.task_names[known.task_of_group[group]]
        scaling = ctx.model.adapted.scaling
        return Expert(task, self.ring.samples_of(group), scaling, tensors)

    def _draw_projection(self, group: int) -> dict[str, FloatArray]:
        """A of a group, by layer name, from its seed."""
        config = self.config
        return self.ctx.sparsity.projection(
            config.projection, config.lora_rank, self.num_blocks, group
        )
