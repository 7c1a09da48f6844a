"""The end of a run: clusters exchange experts without averaging different tasks (IV-C of 2602.20492).

Leaders send bundles around a ring of clusters, C - 1 steps for C clusters; then every leader sends its
members the experts that other clusters had a part in. Experts of one task from several clusters become
one, weighted by samples. A *task group* is named by its task's index; the *leader* of a cluster is its lowest member. An
expert is identified by its `origin`, the lowest member of its cluster that holds its group.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import numpy as np

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Kind, Message, Received, Traffic
from emulator.core.types.steps import Inbox, State, Step
from emulator.methods.messages import expert_message, statistics_message


@dataclass(frozen=True, eq=False)
class BundleItem:
    """One item of a bundle: an expert's vector [N] of a group, or (group None) statistics."""

    origin: int
    group: int | None
    values: FloatArray


class ExpertRing:
    """The exchange between clusters as one device takes part in it.

    masks: by group, those that this device knows. knows: by device, the groups whose masks it knows, the
    same list on all devices; so a mask is sent only to devices that do not know it.
    """

    def __init__(
        self,
        ctx: DeviceContext,
        clusters: tuple[tuple[int, ...], ...],
        groups: list[int],
        samples: list[int],
    ) -> None:
        """At first every device knows the mask of its own group only."""
        self.ctx = ctx
        self.groups = groups
        self.samples = samples
        self.masks: dict[int, Mask] = {}
        self.knows = [frozenset([group]) for group in groups]
        self._round_index = ctx.progress.rounds
        self.regroup(clusters)

    def state(self) -> State:
        """Clusters, masks, and who knows which of them."""
        return {
            "clusters": self.clusters,
            "groups": self.groups,
            "samples": self.samples,
            "masks": self.masks,
            "knows": self.knows,
        }

    @classmethod
    def restored(cls, ctx: DeviceContext, state: State) -> "ExpertRing":
        """The ring of a state."""
        ring = cls(ctx, state["clusters"], state["groups"], state["samples"])
        ring.masks, ring.knows = state["masks"], state["knows"]
        return ring

    def groups_of(self, cluster: int) -> set[int]:
        """The groups that some member of the cluster holds."""
        return {self.groups[i] for i in self.clusters[cluster]}

    def senders_of(self, cluster: int) -> dict[int, int]:
        """By group, its lowest member in a cluster, which sends for it."""
        return {self.groups[i]: i for i in reversed(self.clusters[cluster])}

    def regroup(self, clusters: tuple[tuple[int, ...], ...]) -> None:
        """Take part in other clusters; the masks that devices know stay known."""
        self.clusters = clusters
        self.index = next(c for c, members in enumerate(clusters) if self.ctx.info.id in members)
        self.leader = clusters[self.index][0]
        self.others = tuple(i for i in clusters[self.index] if i != self.ctx.info.id)

    def learn_masks(self, masks: Mapping[int, Mask]) -> None:
        """From now on every device knows the masks of its cluster's groups; this device, these."""
        self.masks.update(masks)
        for cluster, members in enumerate(self.clusters):
            for member in members:
                self.knows[member] |= self.groups_of(cluster)

    def samples_of(self, group: int) -> int:
        """Training samples of all devices that hold a group."""
        return sum(n for n, b in zip(self.samples, self.groups, strict=True) if b == group)

    def gather(
        self, layout: AdapterLayout, statistics: FloatArray
    ) -> Generator[Step, Inbox, FloatArray]:
        """Routing statistics are additive: the leader returns the sum of its cluster's.

        They may be empty (a router that needs none).
        """
        ctx = self.ctx
        if not statistics.size:
            return statistics
        if ctx.info.id != self.leader:
            message = statistics_message(
                ctx,
                Traffic.SETUP,
                ctx.info.id,
                ctx.progress.round_index,
                layout,
                statistics,
                (self.leader,),
            )
            yield from ctx.network.exchange([message], ())
            return statistics
        received = yield from ctx.network.exchange([], self.others)
        for each in sorted(received, key=lambda r: r.source):
            statistics = statistics + each.values.astype(np.float32)
        return statistics

    def exchange_experts(
        self,
        experts: Mapping[int, FloatArray],
        layout: AdapterLayout,
        statistics: FloatArray,
        round_index: int,
    ) -> Generator[Step, Inbox, tuple[dict[int, FloatArray], FloatArray]]:
        """From the own cluster's experts by group [N] and its summed statistics to those of all clusters.

        Statistics may be empty; `layout` is theirs. round_index: under which round it is accounted.
        """
        self._round_index = round_index
        mine = [BundleItem(self.senders_of(self.index)[b], b, v) for b, v in experts.items()]
        if statistics.size:
            rounded = self.ctx.wire.as_received(statistics, Kind.STATISTICS)
            mine.append(BundleItem(self.leader, None, rounded))
        everything, bundle = list(mine), mine
        for step in range(len(self.clusters) - 1):
            bundle = yield from self._pass_bundle(bundle, step, layout)
            everything += bundle
        of_clusters = sorted((p for p in everything if p.group is None), key=lambda p: p.origin)
        if of_clusters:  # in the same order on all devices, so with the same rounding
            total: FloatArray = np.sum([p.values for p in of_clusters], axis=0, dtype=np.float32)
            statistics = self.ctx.wire.as_received(total, Kind.STATISTICS)
        experts_and_sum = yield from self._send_to_members(
            self._merge(everything), layout, statistics
        )
        self.knows = [frozenset(self.groups)] * len(self.knows)
        return experts_and_sum

    def _merge(self, items: list[BundleItem]) -> dict[int, FloatArray]:
        """One expert per group: the mean of the clusters' experts, weighted by their samples."""
        merged: dict[int, FloatArray] = {}
        for group in sorted({p.group for p in items if p.group is not None}):
            of_group = sorted((p for p in items if p.group == group), key=lambda p: p.origin)
            weights = [self._samples_behind(item) for item in of_group]
            stacked = np.stack([p.values.astype(np.float64) for p in of_group])
            merged[group] = np.average(stacked, axis=0, weights=weights).astype(np.float32)
        return merged

    def _samples_behind(self, item: BundleItem) -> int:
        """Training samples of the cluster's members that share the expert's group."""
        members = next(m for m in self.clusters if item.origin in m)
        return sum(self.samples[i] for i in members if self.groups[i] == item.group)

    def _pass_bundle(
        self, bundle: list[BundleItem], step: int, layout: AdapterLayout
    ) -> Generator[Step, Inbox, list[BundleItem]]:
        """One step around the ring: send the last bundle to the next leader, receive the previous one's."""
        if self.ctx.info.id != self.leader:
            yield from self.ctx.network.exchange([], ())
            return []
        count = len(self.clusters)
        previous, following = (self.clusters[(self.index + side) % count][0] for side in (-1, 1))
        passed = [self.groups_of((self.index - back) % count) for back in range(step)]
        known_there = self.knows[following].union(*passed)
        messages = [self._message(p, (following,), known_there, layout) for p in bundle]
        received = yield from self.ctx.network.exchange(
            messages, (previous,), tuple(self.masks.values())
        )
        return [self._open(each) for each in received]

    def _send_to_members(
        self, merged: dict[int, FloatArray], layout: AdapterLayout, statistics: FloatArray
    ) -> Generator[Step, Inbox, tuple[dict[int, FloatArray], FloatArray]]:
        """The leader sends its members every expert that another cluster had a part in."""
        foreign = {
            b for c in range(len(self.clusters)) if c != self.index for b in self.groups_of(c)
        }
        if self.ctx.info.id == self.leader:
            items = [BundleItem(self.groups.index(b), b, merged[b]) for b in sorted(foreign)]
            if statistics.size:
                items.append(BundleItem(self.leader, None, statistics))
            known = frozenset(self.groups).intersection(*(self.knows[i] for i in self.others))
            messages = [self._message(p, self.others, known, layout) for p in items]
            yield from self.ctx.network.exchange(messages if self.others else [], ())
            rounded = {
                b: self.ctx.wire.as_received(v) if b in foreign else v for b, v in merged.items()
            }
            return rounded, statistics
        wait_for = (self.leader,) if foreign or statistics.size else ()
        received = yield from self.ctx.network.exchange([], wait_for, tuple(self.masks.values()))
        for item in map(self._open, received):
            if item.group is None:
                statistics = item.values
            else:
                merged[item.group] = item.values
        return merged, statistics

    def _open(self, received: Received) -> BundleItem:
        """What arrived; a mask that was sent along is kept."""
        values = np.asarray(received.values, dtype=np.float32)
        if received.kind is Kind.STATISTICS:
            return BundleItem(received.origin, None, values)
        group = self.groups[received.origin]
        self.masks.setdefault(group, Mask.from_dense(received.received))
        return BundleItem(received.origin, group, values)

    def _message(
        self,
        item: BundleItem,
        receivers: tuple[int, ...],
        known: frozenset[int],
        layout: AdapterLayout,
    ) -> Message:
        if item.group is None:
            return statistics_message(
                self.ctx,
                Traffic.INTER_CLUSTER,
                item.origin,
                self._round_index,
                layout,
                item.values,
                receivers,
            )
        mask = self.masks[item.group]
        return expert_message(
            self.ctx,
            item.origin,
            self._round_index,
            mask,
            item.values[mask.indices],
            receivers,
            mask_known=item.group in known,
        )
