"""One round's mean over a cluster, as `aggregation` has it. Shapes: N coordinates of all B."""

from collections.abc import Sequence

import numpy as np

from emulator.core.types.adapter import Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.exchange import Shared
from emulator.core.types.message import Received
from emulator.methods.averaging import (
    collided_share,
    disagreement,
    held_back,
    mask_mean,
    printed_mean,
)
from emulator.methods.expert_exchange import ExpertRing


class ClusterMean:
    """A cluster's mean B, the same at every member that received all; at first 0.

    mask_mean gives a device what rounding held back of its own entries, too; Eq 10 as printed takes the
    values that were sent. Where no device writes, the mean of the last round in which somebody did stays.
    """

    def __init__(self, ring: ExpertRing, aggregation: str, size: int) -> None:
        self._ring = ring
        self._over_writers = aggregation == "mask_mean"
        self.values_N = np.zeros(size, dtype=np.float32)

    def merged(
        self, mine: Mask, vector_N: FloatArray, rounded_N: FloatArray, received: Sequence[Received]
    ) -> tuple[FloatArray, FloatArray]:
        """The next mean [N] and the vector that the device goes on with [N]; changes nothing.

        mine: the own mask; vector_N and rounded_N: the own entries, and as others receive them.
        """
        ring, device = self._ring, self._ring.ctx.info.id
        written = {device: (float(ring.samples[device]), rounded_N, mine.dense)}
        for each in received:
            values_N = np.asarray(each.values, dtype=np.float32)
            written[each.source] = (float(ring.samples[each.source]), values_N, each.received)
        contributions = [written[i] for i in sorted(written)]  # the same order, so the same mean
        if self._over_writers:
            mean_N, written_N = mask_mean(contributions)
            kept_N = held_back(vector_N, rounded_N)
        else:
            mean_N, written_N = printed_mean(contributions, len(ring.others) + 1)
            kept_N = np.zeros(len(vector_N))
        next_N = np.where(written_N, mean_N, self.values_N).astype(np.float32)
        return next_N, np.where(mine.dense, next_N + kept_N, 0.0).astype(np.float32)

    def record_agreement(self, mine: Mask, shared: Shared, round_index: int) -> None:
        """Record how far received vectors are from the own one, over entries that both keep, and the
        share of the own mask that devices with another A write, too."""
        log, device, groups = self._ring.ctx.log, self._ring.ctx.info.id, self._ring.groups
        both = [
            (r.source, r.values.astype(np.float32), r.received & mine.dense)
            for r in shared.received
        ]
        apart = disagreement(
            shared.own_N, [(1.0, values_N, kept_N) for _, values_N, kept_N in both]
        )
        log.metric("consensus_distance", apart, round_index)
        foreign = [kept_N for source, _, kept_N in both if groups[source] != groups[device]]
        log.metric("collided_mask_share", collided_share(mine.dense, foreign), round_index)
