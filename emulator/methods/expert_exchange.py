"""The end of a run: clusters trade experts without averaging different tasks (IV-C of 2602.20492).

Leaders pass bundles around a ring of clusters, C - 1 steps for C clusters; then every leader gives its
members what other clusters had a part in. Experts of one task from several clusters become one,
weighted by samples. A *block* is a task's index; the *leader* of a cluster is its lowest member; an
expert on its way is named by its `origin`, the lowest member of its cluster that holds its block.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import numpy as np

from emulator.core.protocols.method import Own
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Kind, Message, Received, Traffic
from emulator.core.types.steps import Inbox, Step
from emulator.methods.messages import expert_message, statistics_message


@dataclass(frozen=True, eq=False)
class Parcel:
    """One item of a bundle: an expert's vector [N] of a block, or (block None) statistics."""

    origin: int
    block: int | None
    values: FloatArray


class ExpertRing:
    """The exchange between clusters as one device takes part in it.

    masks: by block, those this device knows. knows: by device, the blocks whose masks it knows, the
    same list everywhere; so a mask travels only to those to whom it is news.
    """

    def __init__(
        self,
        own: Own,
        clusters: tuple[tuple[int, ...], ...],
        blocks: list[int],
        samples: list[int],
    ) -> None:
        """Nobody knows any mask but its own block's."""
        self.own = own
        self.blocks = blocks
        self.samples = samples
        self.masks: dict[int, Mask] = {}
        self.knows = [frozenset([block]) for block in blocks]
        self._round_index = own.rounds
        self.regroup(clusters)

    def blocks_of(self, cluster: int) -> set[int]:
        """The blocks that some member of the cluster holds."""
        return {self.blocks[i] for i in self.clusters[cluster]}

    def tellers(self, cluster: int) -> dict[int, int]:
        """The lowest member of each block in a cluster, who speaks for it."""
        return {self.blocks[i]: i for i in reversed(self.clusters[cluster])}

    def regroup(self, clusters: tuple[tuple[int, ...], ...]) -> None:
        """Other clusters; who knows which mask stays."""
        self.clusters = clusters
        self.index = next(c for c, members in enumerate(clusters) if self.own.id in members)
        self.leader = clusters[self.index][0]
        self.others = tuple(i for i in clusters[self.index] if i != self.own.id)

    def meet(self, masks: Mapping[int, Mask]) -> None:
        """From now on every device knows the masks of its cluster's blocks, this one these."""
        self.masks.update(masks)
        for cluster, members in enumerate(self.clusters):
            for member in members:
                self.knows[member] |= self.blocks_of(cluster)

    def samples_of(self, block: int) -> int:
        """Training samples of all devices that hold a block."""
        return sum(n for n, b in zip(self.samples, self.blocks, strict=True) if b == block)

    def gather(
        self, layout: AdapterLayout, statistics: FloatArray
    ) -> Generator[Step, Inbox, FloatArray]:
        """Routing statistics are additive: the leader returns the sum of its cluster's.

        They may be empty (a router that needs none).
        """
        own = self.own
        if not statistics.size:
            return statistics
        if own.id != self.leader:
            message = statistics_message(
                own,
                Traffic.SETUP,
                own.id,
                own.round_index,
                layout,
                statistics,
                (self.leader,),
            )
            yield from own.exchange([message], ())
            return statistics
        told = yield from own.exchange([], self.others)
        for other in sorted(told, key=lambda r: r.source):
            statistics = statistics + other.values.astype(np.float32)
        return statistics

    def trade(
        self,
        experts: Mapping[int, FloatArray],
        layout: AdapterLayout,
        statistics: FloatArray,
        round_index: int,
    ) -> Generator[Step, Inbox, tuple[dict[int, FloatArray], FloatArray]]:
        """Own cluster's experts by block [N] and its summed statistics in; everybody's out.

        Statistics may be empty; `layout` is theirs. round_index: under which round it is accounted.
        """
        self._round_index = round_index
        mine = [Parcel(self.tellers(self.index)[b], b, v) for b, v in experts.items()]
        if statistics.size:
            told = self.own.as_received(statistics, Kind.STATISTICS)
            mine.append(Parcel(self.leader, None, told))
        everything, bundle = list(mine), mine
        for step in range(len(self.clusters) - 1):
            bundle = yield from self._pass_on(bundle, step, layout)
            everything += bundle
        of_clusters = sorted((p for p in everything if p.block is None), key=lambda p: p.origin)
        if of_clusters:  # in one order everywhere: one rounding
            total: FloatArray = np.sum([p.values for p in of_clusters], axis=0, dtype=np.float32)
            statistics = self.own.as_received(total, Kind.STATISTICS)
        spread = yield from self._spread(self._merge(everything), layout, statistics)
        self.knows = [frozenset(self.blocks)] * len(self.knows)
        return spread

    def _merge(self, parcels: list[Parcel]) -> dict[int, FloatArray]:
        """One expert per block: the mean of the clusters' experts, weighted by their samples."""
        merged: dict[int, FloatArray] = {}
        for block in sorted({p.block for p in parcels if p.block is not None}):
            of_block = sorted((p for p in parcels if p.block == block), key=lambda p: p.origin)
            weights = [self._samples_behind(parcel) for parcel in of_block]
            stacked = np.stack([p.values.astype(np.float64) for p in of_block])
            merged[block] = np.average(stacked, axis=0, weights=weights).astype(np.float32)
        return merged

    def _samples_behind(self, parcel: Parcel) -> int:
        """Training samples of the cluster's members that share the expert's block."""
        members = next(m for m in self.clusters if parcel.origin in m)
        return sum(self.samples[i] for i in members if self.blocks[i] == parcel.block)

    def _pass_on(
        self, bundle: list[Parcel], step: int, layout: AdapterLayout
    ) -> Generator[Step, Inbox, list[Parcel]]:
        """One step around the ring: the last bundle to the next leader, the previous one's from its."""
        if self.own.id != self.leader:
            yield from self.own.exchange([], ())
            return []
        count = len(self.clusters)
        previous, following = (self.clusters[(self.index + side) % count][0] for side in (-1, 1))
        passed = [self.blocks_of((self.index - back) % count) for back in range(step)]
        known_there = self.knows[following].union(*passed)
        messages = [self._message(p, (following,), known_there, layout) for p in bundle]
        received = yield from self.own.exchange(messages, (previous,), tuple(self.masks.values()))
        return [self._open(told) for told in received]

    def _spread(
        self, merged: dict[int, FloatArray], layout: AdapterLayout, statistics: FloatArray
    ) -> Generator[Step, Inbox, tuple[dict[int, FloatArray], FloatArray]]:
        """The leader gives its members every expert that another cluster had a part in."""
        abroad = {
            b for c in range(len(self.clusters)) if c != self.index for b in self.blocks_of(c)
        }
        if self.own.id == self.leader:
            parcels = [Parcel(self.blocks.index(b), b, merged[b]) for b in sorted(abroad)]
            if statistics.size:
                parcels.append(Parcel(self.leader, None, statistics))
            known = frozenset(self.blocks).intersection(*(self.knows[i] for i in self.others))
            messages = [self._message(p, self.others, known, layout) for p in parcels]
            yield from self.own.exchange(messages if self.others else [], ())
            rounded = {b: self.own.as_received(v) if b in abroad else v for b, v in merged.items()}
            return rounded, statistics
        wait_for = (self.leader,) if abroad or statistics.size else ()
        received = yield from self.own.exchange([], wait_for, tuple(self.masks.values()))
        for parcel in map(self._open, received):
            if parcel.block is None:
                statistics = parcel.values
            else:
                merged[parcel.block] = parcel.values
        return merged, statistics

    def _open(self, told: Received) -> Parcel:
        """What arrived; a mask that came along is remembered."""
        values = np.asarray(told.values, dtype=np.float32)
        if told.kind is Kind.STATISTICS:
            return Parcel(told.origin, None, values)
        block = self.blocks[told.origin]
        self.masks.setdefault(block, Mask.from_dense(told.received))
        return Parcel(told.origin, block, values)

    def _message(
        self,
        parcel: Parcel,
        receivers: tuple[int, ...],
        known: frozenset[int],
        layout: AdapterLayout,
    ) -> Message:
        if parcel.block is None:
            return statistics_message(
                self.own,
                Traffic.INTER_CLUSTER,
                parcel.origin,
                self._round_index,
                layout,
                parcel.values,
                receivers,
            )
        mask = self.masks[parcel.block]
        return expert_message(
            self.own,
            parcel.origin,
            self._round_index,
            mask,
            parcel.values[mask.indices],
            receivers,
            mask_known=parcel.block in known,
        )
