"""Relay paths: a message between devices out of range of each other goes over other devices, hop by hop.

Two devices in range use the direct link. Any other two use the path with the least sum of airtimes. Each
hop joins two devices in range; its airtime is that at the mean gain, with full power in the whole band
(as for `in_range`). Among paths of equal airtime the one with the fewest hops is taken, and among those the
one with the lowest ids. The paths depend on positions and gains only, so every device computes the same
paths.
Shapes: M devices.
"""

from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from emulator.core.protocols.access import BoundAccess
from emulator.core.protocols.channel import BoundChannel
from emulator.core.types.arrays import BoolArray, DoubleArray
from emulator.core.types.records import LinkRecord

RESOLUTION = 1e6
"""Units of the airtime of the fastest hop. Airtimes are whole numbers of units, so rounding decides no tie."""

LONGEST = 1e6
"""The largest ratio of the airtime of a hop to that of the fastest hop; a slower hop counts as this slow."""

Path = tuple[int, ...]
"""The devices of a path, from the first sender to the final receiver."""


class RelayPaths:
    """The paths between all devices at one moment.

    in_range_MM[i, j]: j is in range of i. rates: a function that returns the rate of each pair [bit/s],
    [M, M]; it is called once, and only when a path of several hops is wanted.
    """

    def __init__(self, in_range_MM: BoolArray, rates: Callable[[], DoubleArray]) -> None:
        self.in_range_MM = in_range_MM
        self._rates = rates
        self._left_M: dict[int, DoubleArray] = {}

    def find_path(self, sender: int, receiver: int) -> Path | None:
        """Find the devices from sender to receiver, both included; None if no path joins them.

        Law: of all paths over pairs in range, the path has the least sum of airtimes, then the fewest hops.
        """
        if self.in_range_MM[sender, receiver]:
            return sender, receiver
        left_M = self._left_to(receiver)
        if np.isinf(left_M[sender]):
            return None
        path = [sender]
        while path[-1] != receiver:
            path.append(int(np.argmin(self._cost[path[-1]] + left_M)))
        return tuple(path)

    def find_relayed(self) -> list[Path]:
        """Find the paths of all pairs out of range that have one, sorted by (sender, receiver)."""
        apart = np.argwhere(~self.in_range_MM & ~np.eye(len(self.in_range_MM), dtype=np.bool_))
        paths = (self.find_path(int(i), int(j)) for i, j in apart)
        return [path for path in paths if path is not None]

    def _left_to(self, receiver: int) -> DoubleArray:
        """Cost of the path from every device to a receiver [M]; inf where there is no path."""
        if receiver not in self._left_M:
            hops = csr_array(np.where(np.isinf(self._cost), 0.0, self._cost).T)
            self._left_M[receiver] = np.asarray(dijkstra(hops, indices=[receiver]))[0]
        return self._left_M[receiver]

    @cached_property
    def _cost(self) -> DoubleArray:
        """Cost of each hop [M, M]: its airtime in units, times M + 1, plus 1 for the hop; inf out of range.

        A path has fewer than M + 1 hops, so the number of hops decides only between equal airtimes.
        """
        bit_per_s_MM = self._rates()
        usable_MM = self.in_range_MM & (bit_per_s_MM > 0.0)
        fastest = bit_per_s_MM.max(where=usable_MM, initial=0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            airtime_MM = np.nan_to_num(fastest / bit_per_s_MM, nan=1.0, posinf=LONGEST)
        parts_MM = np.rint(np.minimum(airtime_MM, LONGEST) * RESOLUTION)
        cost_MM = parts_MM * (len(usable_MM) + 1) + 1.0
        return np.where(usable_MM, cost_MM, np.inf)


class Network:
    """The paths at any emulated time. They are computed again only when the gains have changed."""

    def __init__(self, channel: BoundChannel, access: BoundAccess) -> None:
        self._channel = channel
        self._access = access
        self._last: tuple[float, DoubleArray, RelayPaths] | None = None

    def at(self, time_s: float) -> RelayPaths:
        """The paths at an emulated time [s]."""
        if self._last is not None and self._last[0] == time_s:
            return self._last[2]
        snapshot, share = self._channel.at(time_s), self._access.share(1)
        gain_MM = snapshot.mean_gain
        if self._last is not None and self._last[1] is gain_MM:
            return self._last[2]
        paths = RelayPaths(snapshot.in_range(*share), lambda: snapshot.bit_per_s(share[0]))
        self._last = (time_s, gain_MM, paths)
        return paths


def find_paths_taken(records: Iterable[LinkRecord]) -> list[Path]:
    """Find the paths of more than one hop in the records of messages: each once, sorted."""
    hops: dict[tuple[int, int, int, int], int] = {}
    ends = []
    for r in records:
        hops[r.exchange_index, r.origin, r.hop, r.receiver] = r.sender
        if r.hop > 0 and r.receiver == r.destination:
            ends.append(r)
    taken = set()
    for r in ends:
        path = [r.receiver]
        for hop in range(r.hop, -1, -1):
            path.append(hops[r.exchange_index, r.origin, hop, path[-1]])
        taken.add(tuple(reversed(path)))
    return sorted(taken)
