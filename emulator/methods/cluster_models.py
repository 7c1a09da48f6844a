"""What clusters exchange under `aggregation: printed_24`: one mean each, which no mask is put over again.

Eq 24 of 2602.20492 answers with sum_c sum_{j in c} ((1/|c|) sum_i B_i M_i) A_j,ref H: all experts of a
cluster share its one B, and it also holds what other members wrote. So a cluster sends that B
once, over the union of its masks, where mask_mean and Eq 29 send an expert of each group.

Shapes: N coordinates of all B. A task group shares an A and a mask, see sparse_orthogonal.py.
"""

from collections.abc import Generator, Mapping

import numpy as np

from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import BoolArray, FloatArray
from emulator.core.types.steps import Inbox, State, Step
from emulator.methods.expert_exchange import ExpertRing


class ClusterModels:
    """The exchange of one B for each cluster, on the leaders' ring.

    It is done by an ExpertRing in which each cluster is one group.
    """

    def __init__(self, ring: ExpertRing) -> None:
        """ring: of task groups; it holds which masks each device knows when an exchange begins."""
        self._ring = ring
        self._clusters: tuple[tuple[int, ...], ...] = ()

    def exchange_models(
        self,
        mean_N: FloatArray,
        layout: AdapterLayout,
        statistics: FloatArray,
        round_index: int,
    ) -> Generator[Step, Inbox, tuple[dict[int, FloatArray], FloatArray]]:
        """Send the own cluster's mean and statistics; return every group's B [N] and the sum of statistics.

        The B of a group that several clusters hold is the mean of theirs, weighted by the samples of
        its devices in each.
        """
        ring = self._ring
        if self._clusters != ring.clusters:
            self._regroup()
        mine_N = ring.ctx.wire.as_received(mean_N * union(ring.masks, ring.groups_of(ring.index)))
        of_clusters, summed = yield from self._cluster_ring.exchange_experts(
            {ring.index: mine_N}, layout, statistics, round_index
        )
        return {
            group: self._expert(group, of_clusters) for group in sorted(set(ring.groups))
        }, summed

    def state(self) -> State:
        """The exchange of clusters, once there was one."""
        return {
            "clusters": self._clusters,
            "ring": self._cluster_ring.state() if self._clusters else None,
        }

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self._clusters = state["clusters"]
        if self._clusters:
            self._cluster_ring = ExpertRing.restored(self._ring.ctx, state["ring"])

    def _regroup(self) -> None:
        """The union of a cluster's masks is known to devices that know all of them, and to its members."""
        ring = self._ring
        self._clusters = ring.clusters
        cluster_of = {i: c for c, members in enumerate(ring.clusters) for i in members}
        of_devices = [cluster_of[i] for i in range(len(ring.groups))]
        self._cluster_ring = ExpertRing(ring.ctx, ring.clusters, of_devices, ring.samples)
        for device in range(len(ring.groups)):
            self._cluster_ring.knows[device] |= self._known_to(device)
        for c in self._known_to(ring.ctx.info.id):
            self._cluster_ring.masks[c] = Mask.from_dense(union(ring.masks, ring.groups_of(c)))

    def _known_to(self, device: int) -> set[int]:
        """Of which clusters a device knows all masks."""
        ring = self._ring
        return {c for c in range(len(ring.clusters)) if ring.groups_of(c) <= ring.knows[device]}

    def _expert(self, group: int, of_clusters: Mapping[int, FloatArray]) -> FloatArray:
        """B of a group from the clusters that hold it [N]."""
        ring = self._ring
        holders = [c for c in sorted(of_clusters) if group in ring.groups_of(c)]
        weights = [
            sum(ring.samples[i] for i in ring.clusters[c] if ring.groups[i] == group)
            for c in holders
        ]
        stacked = np.stack([of_clusters[c].astype(np.float64) for c in holders])
        mean_N: FloatArray = np.average(stacked, axis=0, weights=weights).astype(np.float32)
        return mean_N


def union(masks: Mapping[int, Mask], groups: set[int]) -> BoolArray:
    """Where any of these groups keeps an entry [N]."""
    kept_N: BoolArray = np.any([masks[group].dense for group in sorted(groups)], axis=0)
    return kept_N
