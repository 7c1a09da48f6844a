"""Clusters of devices whose masks rarely collide: agglomerative nesting (AGNES).

The algorithm starts from single devices and repeatedly merges the feasible pair of clusters with the
lowest collision rate, until no pair is feasible. It is pure: every device computes the same clusters.
Source: arXiv 2602.20492, section IV-C; Eq 19 (collision rate), Eq 25 (power).
Shapes: M devices, L modules, J masks, C clusters (slots 0…M-1; a merged cluster keeps the slot of its
lowest device).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations, permutations
from typing import Literal

import numpy as np
from pydantic import Field

from emulator.core.types.arrays import DoubleArray
from emulator.core.types.survey import Link, Survey
from emulator.network.topology.graphs import FixedGraph
from emulator.network.topology.mixing import metropolis_links

TIE = 1e-9
"""Collision rates (absolute) and channel costs (relative) that differ by less than this count as equal,
so that rounding decides neither ties nor the limit."""

Clusters = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class _Occupancy:
    """Probabilities that none, and that exactly one, of a group of masks keeps a coordinate [..., L]."""

    none: DoubleArray
    one: DoubleArray

    def join(self, other: "_Occupancy") -> "_Occupancy":
        """The occupancy of two independent groups together, element by element."""
        return _Occupancy(self.none * other.none, self.one * other.none + self.none * other.one)

    @property
    def collision(self) -> DoubleArray:
        """Probability that at least two masks keep a coordinate [..., L]."""
        return 1.0 - self.none - self.one


def _occupancy(densities_JL: DoubleArray) -> _Occupancy:
    """The occupancy of J independent masks with these densities in L modules."""
    modules = densities_JL.shape[1]
    group = _Occupancy(np.ones(modules), np.zeros(modules))
    for density_L in densities_JL:
        group = group.join(_Occupancy(1.0 - density_L, density_L))
    return group


def expected_collision_rate(survey: Survey, members: Sequence[int]) -> float:
    """S(c) of a cluster: the expected share of coordinates that at least two of its masks keep.

    In a module S = 1 − Π(1−s_j) − Σ_j s_j Π_{z≠j}(1−s_z) (Eq 19) over the distinct task blocks, whose
    masks count as independent; S = 0 for fewer than two blocks. Modules are weighted by their entries.
    The masks are added one after the other, so that a density of 1 needs no division by 0.
    """
    lead_of = {int(survey.groups[i]): i for i in sorted(members, reverse=True)}
    collision_L = _occupancy(survey.densities[sorted(lead_of.values())]).collision
    return max(0.0, float(np.average(collision_L, weights=survey.module_sizes)))


def build_clusters(survey: Survey, max_collision_rate: float) -> Clusters:
    """Build sorted clusters of sorted device ids; every device is in exactly one cluster.

    S(c) = Σ n_l S_{c,l} / Σ n_l over the distinct task blocks of c: devices that share a block
    collide by design. A merge is feasible if S <= max_collision_rate, all pairs are in range, and
    Σ_j required_power_w[i, j, |c|-1] <= max_power_w[i] for every member i. The feasible pair with the
    least S is merged; ties are decided by the least Σ 1/mean_gain over the pairs of members, then by
    the lowest ids.
    """
    nest = _Nest(survey, max_collision_rate)
    while (pair := nest.best_pair()) is not None:
        nest.merge(*pair)
    return tuple(tuple(members) for members in nest.members if members)


class ClusterMesh(FixedGraph):
    """A full mesh in each cluster, weights 1/|c|; nothing between clusters."""

    kind: Literal["clusters"] = "clusters"
    max_collision_rate: float = Field(
        default=0.1, ge=0, le=1, description="S_max: largest collision rate of a cluster."
    )

    def clusters(self, survey: Survey) -> Clusters:
        """The clusters in which the links of every round lie."""
        return build_clusters(survey, self.max_collision_rate)

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links, sorted by (receiver, sender)."""
        meshes = (combinations(members, 2) for members in self.clusters(survey))
        return metropolis_links(chain.from_iterable(meshes), survey.devices)


class TaskMesh(FixedGraph):
    """A full mesh among the devices of each task; nothing between tasks.

    Weights follow the samples, w_ij = N_j / Σ N over the task, so that all its data count equally. Laws:
    after one exchange all devices of a task hold the mean weighted by N, and they keep it; Σ N_i x_i is
    preserved; for equal shards every weight is 1/|group|.
    """

    kind: Literal["tasks"] = "tasks"

    def clusters(self, survey: Survey) -> Clusters:
        """One cluster for each task block that some device holds, sorted by the lowest device."""
        groups: dict[int, list[int]] = {}
        for device, block in enumerate(survey.groups):
            groups.setdefault(int(block), []).append(device)
        return tuple(tuple(members) for members in groups.values())

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links, sorted by (receiver, sender)."""
        groups = [
            (members, int(survey.samples[list(members)].sum())) for members in self.clusters(survey)
        ]
        links = [
            Link(sender, receiver, int(survey.samples[sender]) / total)
            for members, total in groups
            for sender, receiver in permutations(members, 2)
        ]
        return tuple(sorted(links, key=lambda link: (link.receiver, link.sender)))


class _Nest:
    """The clusters so far and, for every pair of slots, the result of a merge.

    Slot i holds the cluster whose lowest device is i, or nothing. All matrices [C, C] are symmetric,
    and valid for slots that hold a cluster.
    """

    def __init__(self, survey: Survey, max_collision_rate: float) -> None:
        devices = survey.devices
        self._survey = survey
        self._limit = max_collision_rate + TIE
        self._weights_L = survey.module_sizes / survey.module_sizes.sum()
        self._first_of_block = {
            int(block): int(np.flatnonzero(survey.groups == block)[0])
            for block in np.unique(survey.groups)
        }
        self._known: dict[frozenset[int], _Occupancy] = {}
        self._blocks = [frozenset([int(block)]) for block in survey.groups]
        self.members: list[list[int]] = [[device] for device in range(devices)]
        with np.errstate(divide="ignore"):
            cost = 1.0 / survey.mean_gain
        np.fill_diagonal(cost, 0.0)
        self._inside_C = np.zeros(devices)
        self._between_CC = (cost + cost.T) / 2.0
        self._reach_CC = survey.in_range & survey.in_range.T
        self._rate_CC = np.zeros((devices, devices))
        for slot in range(devices):
            self._rate_CC[slot] = self._rates(slot)
        self._open_CC = self._reach_CC & (self._rate_CC <= self._limit)
        # Single devices have too many pairs to check one by one, as `best_pair` does for larger clusters.
        served_CC = survey.required_power_w(1) <= survey.max_power_w[:, None]
        self._open_CC &= np.triu(served_CC & served_CC.T, k=1)

    def best_pair(self) -> tuple[int, int] | None:
        """The feasible pair to merge next, lower slot first; None if there is none."""
        cost_CC = self._inside_C[:, None] + self._inside_C + self._between_CC
        while self._open_CC.any():
            least = self._rate_CC[self._open_CC].min()
            best_CC = self._open_CC & (self._rate_CC <= least + TIE)
            best_CC &= cost_CC <= cost_CC[best_CC].min() * (1.0 + TIE)
            low, high = divmod(int(np.flatnonzero(best_CC)[0]), len(self.members))
            if self._powers_fit(self.members[low] + self.members[high]):
                return low, high
            self._open_CC[low, high] = False
        return None

    def merge(self, low: int, high: int) -> None:
        """Move the cluster of the higher slot into the lower one."""
        self.members[low] = sorted(self.members[low] + self.members[high])
        self.members[high] = []
        self._blocks[low] |= self._blocks[high]
        self._inside_C[low] += self._inside_C[high] + self._between_CC[low, high]
        self._between_CC[low] += self._between_CC[high]
        self._between_CC[:, low] = self._between_CC[low]
        self._reach_CC[low] &= self._reach_CC[high]
        self._reach_CC[:, low] = self._reach_CC[low]
        self._rate_CC[low] = self._rates(low)
        self._rate_CC[:, low] = self._rate_CC[low]
        held_C = np.array([bool(members) for members in self.members])
        open_C = held_C & self._reach_CC[low] & (self._rate_CC[low] <= self._limit)
        self._open_CC[low, low + 1 :] = open_C[low + 1 :]
        self._open_CC[:low, low] = open_C[:low]
        self._open_CC[high, :] = False
        self._open_CC[:, high] = False

    def _rates(self, slot: int) -> DoubleArray:
        """S [C] of the cluster in a slot merged with that of every other slot."""
        own = self._blocks[slot]
        others = [self._of(blocks - own) for blocks in self._blocks]
        together = self._of(own).join(
            _Occupancy(
                np.stack([other.none for other in others]),
                np.stack([other.one for other in others]),
            )
        )
        return np.asarray(together.collision @ self._weights_L)

    def _of(self, blocks: frozenset[int]) -> _Occupancy:
        """Occupancy of a set of task blocks; results are cached."""
        if blocks not in self._known:
            devices = [self._first_of_block[block] for block in sorted(blocks)]
            self._known[blocks] = _occupancy(self._survey.densities[devices])
        return self._known[blocks]

    def _powers_fit(self, members: list[int]) -> bool:
        """Whether every member has enough power to serve all other members."""
        others = len(members) - 1
        needed_cc = self._survey.required_power_w(others)[np.ix_(members, members)]
        needed_w = needed_cc[~np.eye(others + 1, dtype=np.bool_)].reshape(others + 1, others)
        return bool((self._survey.spent_w(needed_w) <= self._survey.max_power_w[members]).all())
