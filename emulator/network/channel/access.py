"""Access schemes: when each device transmits, and on which band.

Schemes are pure: equal requests give equal grants. They leave powers at 0. A scheme is bound to the
in-range graph before the first exchange, and then plans every exchange from the sender's own requests,
without messages between devices. With `cast: broadcast` one transmission serves all receivers of the
same packets, and the weakest receiver sets its rate.
Shapes: M devices.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import networkx as nx
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.core.protocols.access import Access, BoundAccess
from emulator.core.protocols.channel import BoundChannel
from emulator.core.rng import stream
from emulator.core.types.arrays import BoolArray, DoubleArray
from emulator.core.types.transmission import Grant, Request, Turns

Cast = Literal["unicast", "broadcast"]

CASTS: tuple[Cast, ...] = ("unicast", "broadcast")
"""The casting modes of a scheme whose `cast` can be chosen."""

SLOT_ROUNDING = 1e-9
"""Rounding tolerance of the end of a slot, in slots."""

COLOURING_DRAWS = 200
"""Number of random orders of greedy colouring that are tried besides DSATUR; the fewest colours win."""


class IdealAccess(BaseModel):
    """All devices transmit at once, each on an infinite band: no device waits, and none shares a band."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["ideal"] = "ideal"

    @property
    def bandwidth_hz(self) -> float:
        """The band of one sender [Hz]."""
        return math.inf

    @property
    def cast(self) -> Cast:
        """unicast: every receiver is served separately."""
        return "unicast"

    def bind(self, in_range_MM: BoolArray, seed: int) -> Self:
        """The same for any graph."""
        return self

    @property
    def powers_add_up(self) -> bool:
        """True: all neighbours are served at the same time."""
        return True

    def share(self, neighbours: int) -> tuple[float, float]:
        """An infinite band, for the whole time."""
        return math.inf, 1.0

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """One grant for each request, in their order; all start at once."""
        return tuple(make_grant(request, math.inf) for request in requests)


class OfdmaAccess(BaseModel):
    """Each sender has its own band W and splits it equally: W/u for each of u requests.

    The bands of different senders are orthogonal, and a device receives all of them while it transmits
    (full duplex), so no device waits or interferes. Requests of one sender in one exchange share its
    band; a request with several receivers counts once.
    Source: arXiv 2602.20492, system model (W/‖u_i‖ for each neighbour).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    casts: ClassVar[tuple[Cast, ...]] = CASTS
    kind: Literal["ofdma"] = "ofdma"
    bandwidth_hz: FiniteFloat = Field(gt=0, description="W: the band of each sender [Hz].")
    cast: Cast = Field(
        default="unicast", description="Whether one transmission serves several receivers."
    )

    def bind(self, in_range_MM: BoolArray, seed: int) -> Self:
        """The same for any graph."""
        return self

    @property
    def powers_add_up(self) -> bool:
        """True for unicast: simultaneous requests have a power each."""
        return self.cast == "unicast"

    def share(self, neighbours: int) -> tuple[float, float]:
        """W/u for the whole time; all of W if one transmission serves all neighbours."""
        return self.bandwidth_hz / (neighbours if self.cast == "unicast" else 1), 1.0

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """One grant for each request, in their order."""
        sharing = Counter((request.sender, request.exchange_index) for request in requests)
        return tuple(
            make_grant(request, self.bandwidth_hz / sharing[request.sender, request.exchange_index])
            for request in requests
        )


class TdmaAccess(BaseModel):
    """All devices share one band in turns: every sender has one slot of each frame of n slots.

    `reuse: none`: n = M, one sender at a time. `reuse: distance_2`: two senders share a slot if no
    device is in range of both. The slots are a colouring of the square of the in-range graph. Then no
    device receives from two senders in range, or while it transmits (half duplex); senders of the same
    slot out of range interfere. The graph is that of the start: a later link may join two devices of
    one slot, and is served as if they took turns (`find_slot_conflicts`). Several requests of a sender
    share its slot in equal parts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    shares_time: ClassVar[bool] = True
    casts: ClassVar[tuple[Cast, ...]] = CASTS
    kind: Literal["tdma"] = "tdma"
    bandwidth_hz: FiniteFloat = Field(gt=0, description="The band that all share [Hz].")
    slot_s: FiniteFloat = Field(default=0.01, gt=0, description="Length of a slot [s].")
    reuse: Literal["none", "distance_2"] = Field(
        default="none", description="Whether senders without a common device in range share a slot."
    )
    cast: Cast = Field(
        default="unicast", description="Whether one transmission serves several receivers."
    )

    def bind(self, in_range_MM: BoolArray, seed: int) -> "TdmaSchedule":
        """The schedule of a run; devices that move keep their slots."""
        if self.reuse == "none":
            return TdmaSchedule(self, tuple(range(len(in_range_MM))))
        return TdmaSchedule(self, colour_two_hops(in_range_MM))


@dataclass(frozen=True)
class Slots:
    """A sender's own time: slot_s [s] of every frame of frame_s [s], from offset_s on.

    Implements `core.types.transmission.Turns`; times count from emulated time 0.
    """

    offset_s: float
    slot_s: float
    frame_s: float

    def carrying_s(self, time_s: float) -> float:
        """Own time [s] between 0 and a time >= 0."""
        if math.isinf(time_s):
            return time_s
        frames, within_s = divmod(time_s, self.frame_s)
        return frames * self.slot_s + min(max(within_s - self.offset_s, 0.0), self.slot_s)

    def in_vain_s(self, time_s: float) -> float:
        """0: there are no collisions."""
        return 0.0

    def times_at(self, carrying_s: DoubleArray) -> DoubleArray:
        """The times [s] at which so much own time has passed, element by element."""
        frames, within_s = count_parts(carrying_s, self.slot_s)
        return np.asarray(frames * self.frame_s + self.offset_s + within_s)


def count_parts(own_s: DoubleArray, part_s: float) -> tuple[DoubleArray, DoubleArray]:
    """Count the whole parts of a length in own time [s], and return them with the rest, element by element.

    The end of a part belongs to that part, not to the next one: the rest is 0 only if own time is 0.
    """
    parts, within_s = np.divmod(own_s, part_s)
    ended = (within_s < SLOT_ROUNDING * part_s) & (parts > 0.0)
    return parts - ended, np.where(ended, part_s, within_s)


@dataclass(frozen=True)
class TdmaSchedule:
    """`TdmaAccess` with the slot of every device."""

    scheme: TdmaAccess
    slot_of: tuple[int, ...]

    @property
    def cast(self) -> Cast:
        """Whether one transmission serves several receivers."""
        return self.scheme.cast

    @property
    def slot_s(self) -> float:
        """Length of a slot [s]."""
        return self.scheme.slot_s

    @property
    def details(self) -> str:
        """The setting of the scheme."""
        return f"reuse {self.scheme.reuse}"

    @property
    def powers_add_up(self) -> bool:
        """False: a sender serves its neighbours one after the other."""
        return False

    def share(self, neighbours: int) -> tuple[float, float]:
        """The whole band, and a part of one slot per frame for each neighbour; a whole slot for a broadcast."""
        parts = neighbours if self.cast == "unicast" else 1
        return self.scheme.bandwidth_hz, 1.0 / (parts * (1 + max(self.slot_of)))

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """Grants of the whole band in the sender's slots: one part of each slot for each request."""
        slot_s = self.scheme.slot_s
        frame_s = slot_s * (1 + max(self.slot_of))
        sharers: dict[int, tuple[int, ...]] = {
            slot: tuple(i for i, own in enumerate(self.slot_of) if own == slot)
            for slot in self.slot_of
        }
        grants = []
        for request, offset_s, part_s in split_slots(requests, slot_s):
            slots = Slots(self.slot_of[request.sender] * slot_s + offset_s, part_s, frame_s)
            same_slot = sharers[self.slot_of[request.sender]]
            others = tuple(i for i in same_slot if i != request.sender)
            grants.append(make_grant(request, self.scheme.bandwidth_hz, slots, others))
        return tuple(grants)


def bind_access(scheme: Access, channel: BoundChannel, seed: int) -> BoundAccess:
    """Bind a scheme to the in-range graph at the start of a run."""
    return scheme.bind(channel.at(0.0).in_range(scheme.bandwidth_hz, 1.0), seed)


def find_slots(access: BoundAccess) -> tuple[int, ...] | None:
    """The slot of each device [M], if the scheme has slots (`slot_of`); None otherwise."""
    slot_of: tuple[int, ...] | None = getattr(access, "slot_of", None)
    return slot_of


def find_slot_conflicts(
    access: BoundAccess, links: Iterable[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Find the links (sender, receiver) whose ends share a slot: each once, sorted.

    The receiver transmits in that slot and cannot receive. Such a link is served as if the two devices
    took turns, with the rate of a slot of its own.
    """
    if (slot_of := find_slots(access)) is None:
        return []
    return sorted({(i, j) for i, j in links if i != j and slot_of[i] == slot_of[j]})


def split_slots(
    requests: Sequence[Request], slot_s: float
) -> Iterator[tuple[Request, float, float]]:
    """Split the slots of each sender equally: yield each request with offset and length of its part [s]."""
    sharing = Counter((request.sender, request.exchange_index) for request in requests)
    served: Counter[tuple[int, int]] = Counter()
    for request in requests:
        of_sender = (request.sender, request.exchange_index)
        part_s = slot_s / sharing[of_sender]
        yield request, served[of_sender] * part_s, part_s
        served[of_sender] += 1


def colour_two_hops(in_range_MM: BoolArray) -> tuple[int, ...]:
    """Colour the devices with 0 ... n-1, so that no two devices within two hops have the same colour.

    The result is the best of DSATUR and COLOURING_DRAWS greedy colourings in random order. n is the least
    possible number on small graphs, and close to it on large ones (the problem is NP-hard). Source:
    Ramanathan, "A unified framework and algorithm for channel assignment in wireless networks", 1999.
    """
    graph = nx.from_numpy_array(in_range_MM | in_range_MM.T)
    near = nx.power(graph, 2)
    draws = stream(0, "colouring")
    orders = [draws.permutation(len(in_range_MM)).tolist() for _ in range(COLOURING_DRAWS)]
    colourings = [nx.greedy_color(near, strategy="DSATUR")]
    colourings += [nx.greedy_color(near, strategy=lambda *_, o=order: o) for order in orders]
    best = min(colourings, key=lambda colour_of: max(colour_of.values()))
    return tuple(best[device] for device in range(len(in_range_MM)))


def make_grant(
    request: Request,
    bandwidth_hz: float,
    slots: Turns | None = None,
    interferers: tuple[int, ...] = (),
) -> Grant:
    """Make the grant of a request, which starts when the request is ready."""
    return Grant(
        sender=request.sender,
        receivers=request.receivers,
        start_s=request.ready_s,
        bandwidth_hz=bandwidth_hz,
        tx_power_w=0.0,
        exchange_index=request.exchange_index,
        slots=slots,
        interferers=interferers,
    )
