"""Who is on the air when, and on which band. Pure: same requests, same grants; powers stay 0.

A scheme is bound to the graph of who hears whom before the first exchange and then plans every exchange
from the sender's own requests: nobody has to ask anybody. With `cast: broadcast` one transmission
serves all receivers of the same packets: the weakest of them sets its rate.
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
"""What ends so little after a slot, in slots, has ended with it."""

COLOURING_DRAWS = 200
"""Random orders in which nodes are coloured greedily besides DSATUR's; the fewest colours win."""


class IdealAccess(BaseModel):
    """Everybody at once on a band without end: nobody waits, nobody shares."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["ideal"] = "ideal"

    @property
    def bandwidth_hz(self) -> float:
        """The band of one sender [Hz]."""
        return math.inf

    @property
    def cast(self) -> Cast:
        """Every receiver is served for itself."""
        return "unicast"

    def bind(self, hears_MM: BoolArray, seed: int) -> Self:
        """The same for any graph."""
        return self

    @property
    def powers_add_up(self) -> bool:
        """Everybody is served at once."""
        return True

    def share(self, neighbours: int) -> tuple[float, float]:
        """Everything, always."""
        return math.inf, 1.0

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """Every request at once, in the order given."""
        return tuple(make_grant(request, math.inf) for request in requests)


class OfdmaAccess(BaseModel):
    """Each sender has a band W of its own and splits it equally: W/u for each of u requests.

    The bands of different senders are orthogonal and a device hears all of them while it speaks
    (full duplex), so nobody waits and nobody interferes. Requests of one sender in one exchange
    share its band; a request with several receivers counts once.
    Source: arXiv 2602.20492, system model (W/‖u_i‖ for each neighbour).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    casts: ClassVar[tuple[Cast, ...]] = CASTS
    kind: Literal["ofdma"] = "ofdma"
    bandwidth_hz: FiniteFloat = Field(gt=0, description="W: the band of each sender [Hz].")
    cast: Cast = Field(
        default="unicast", description="Whether one transmission serves several receivers."
    )

    def bind(self, hears_MM: BoolArray, seed: int) -> Self:
        """The same for any graph."""
        return self

    @property
    def powers_add_up(self) -> bool:
        """Each of several requests has its own power, all at once."""
        return self.cast == "unicast"

    def share(self, neighbours: int) -> tuple[float, float]:
        """W/u, always; all of W where one transmission serves all."""
        return self.bandwidth_hz / (neighbours if self.cast == "unicast" else 1), 1.0

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """One grant for each request, in the order given."""
        sharing = Counter((request.sender, request.exchange_index) for request in requests)
        return tuple(
            make_grant(request, self.bandwidth_hz / sharing[request.sender, request.exchange_index])
            for request in requests
        )


class TdmaAccess(BaseModel):
    """One band for all, in turns: every sender has one slot of each frame, of n slots.

    `reuse: none`: n = M, one sender at a time. `reuse: distance_2`: senders that no device hears
    both of share a slot: a colouring of the square of the graph of who hears whom. Nobody then
    receives from two, or while it sends (half duplex); what is left of those who share its slot, from
    further away, disturbs it. That holds for who hears whom at the start: a link beyond that graph may
    join two of a slot and is served as if they took turns (`find_slot_conflicts`). Several requests of a
    sender share its slot in equal parts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    shares_time: ClassVar[bool] = True
    casts: ClassVar[tuple[Cast, ...]] = CASTS
    kind: Literal["tdma"] = "tdma"
    bandwidth_hz: FiniteFloat = Field(gt=0, description="The band that all share [Hz].")
    slot_s: FiniteFloat = Field(default=0.01, gt=0, description="Length of a slot [s].")
    reuse: Literal["none", "distance_2"] = Field(
        default="none", description="Whether senders that nobody hears both of share a slot."
    )
    cast: Cast = Field(
        default="unicast", description="Whether one transmission serves several receivers."
    )

    def bind(self, hears_MM: BoolArray, seed: int) -> "TdmaSchedule":
        """The schedule of a run; who moves keeps its slot."""
        if self.reuse == "none":
            return TdmaSchedule(self, tuple(range(len(hears_MM))))
        return TdmaSchedule(self, colour_two_hops(hears_MM))


@dataclass(frozen=True)
class Slots:
    """A sender's own time: from offset_s on, slot_s [s] of every frame of frame_s, for ever.

    See `state.Turns`; counted from emulated time 0.
    """

    offset_s: float
    slot_s: float
    frame_s: float

    def carrying_s(self, time_s: float) -> float:
        """How much own time [s] lies between 0 and a time >= 0."""
        if math.isinf(time_s):
            return time_s
        frames, within_s = divmod(time_s, self.frame_s)
        return frames * self.slot_s + min(max(within_s - self.offset_s, 0.0), self.slot_s)

    def in_vain_s(self, time_s: float) -> float:
        """None: nobody else is heard in it."""
        return 0.0

    def times_at(self, carrying_s: DoubleArray) -> DoubleArray:
        """When so much own time has passed since 0 [s], element by element."""
        frames, within_s = count_parts(carrying_s, self.slot_s)
        return np.asarray(frames * self.frame_s + self.offset_s + within_s)


def count_parts(own_s: DoubleArray, part_s: float) -> tuple[DoubleArray, DoubleArray]:
    """How many whole parts of a length own time holds, and the rest of it, element by element.

    An end of a part is its end, and no start of the next: the rest is 0 for no own time only.
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
        """The whole band, in so many parts of a slot in each frame; in all of it to serve all at once."""
        parts = neighbours if self.cast == "unicast" else 1
        return self.scheme.bandwidth_hz, 1.0 / (parts * (1 + max(self.slot_of)))

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """The whole band in the sender's slots, one part of each slot for each request."""
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
    """A scheme with those who hear each other at the start of a run."""
    return scheme.bind(channel.at(0.0).in_range(scheme.bandwidth_hz, 1.0), seed)


def find_slots(access: BoundAccess) -> tuple[int, ...] | None:
    """The slot of each device [M], if the scheme has slots (`slot_of`); None otherwise."""
    slot_of: tuple[int, ...] | None = getattr(access, "slot_of", None)
    return slot_of


def find_slot_conflicts(
    access: BoundAccess, links: Iterable[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Of links (sender, receiver), those whose ends share a slot, each once, sorted.

    The receiver could not hear in a slot in which it sends: such a link is served as if the two took
    turns, with the rate of a slot of its own.
    """
    if (slot_of := find_slots(access)) is None:
        return []
    return sorted({(i, j) for i, j in links if i != j and slot_of[i] == slot_of[j]})


def split_slots(
    requests: Sequence[Request], slot_s: float
) -> Iterator[tuple[Request, float, float]]:
    """Each request, where in its sender's slots its own part begins, and how long that is [s]."""
    sharing = Counter((request.sender, request.exchange_index) for request in requests)
    served: Counter[tuple[int, int]] = Counter()
    for request in requests:
        of_sender = (request.sender, request.exchange_index)
        part_s = slot_s / sharing[of_sender]
        yield request, served[of_sender] * part_s, part_s
        served[of_sender] += 1


def colour_two_hops(hears_MM: BoolArray) -> tuple[int, ...]:
    """A colour 0 ... n-1 for each device; no two within two hops of each other have the same.

    The best of DSATUR and COLOURING_DRAWS greedy colourings in random order: the least n possible on
    small graphs, near it on large ones (the problem is NP-hard). Source: Ramanathan, "A unified
    framework and algorithm for channel assignment in wireless networks", 1999.
    """
    graph = nx.from_numpy_array(hears_MM | hears_MM.T)
    near = nx.power(graph, 2)
    draws = stream(0, "colouring")
    orders = [draws.permutation(len(hears_MM)).tolist() for _ in range(COLOURING_DRAWS)]
    colourings = [nx.greedy_color(near, strategy="DSATUR")]
    colourings += [nx.greedy_color(near, strategy=lambda *_, o=order: o) for order in orders]
    best = min(colourings, key=lambda colour_of: max(colour_of.values()))
    return tuple(best[device] for device in range(len(hears_MM)))


def make_grant(
    request: Request,
    bandwidth_hz: float,
    slots: Turns | None = None,
    interferers: tuple[int, ...] = (),
) -> Grant:
    """The air from the moment a request is ready."""
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
