"""One transmission: the request for it, the grant, and the reception at each receiver.

Shapes: P packets of one message.
"""

from dataclasses import dataclass
from typing import Protocol

from emulator.core.types.arrays import BoolArray, DoubleArray, IndexArray


@dataclass(frozen=True)
class Request:
    """A sender asks for the air: so many bytes to these receivers, ready at this emulated time."""

    sender: int
    receivers: tuple[int, ...]
    num_bytes: int
    ready_s: float
    exchange_index: int


class Turns(Protocol):
    """When a sender that does not have the air for itself is on it, and what of that is any good.

    Both sums count from one moment, not after the start of the grant. Law: carrying_s(times_at(a)) = a
    for a > 0, and times_at is the earliest such time.
    """

    def carrying_s(self, time_s: float) -> float:
        """How much time that carries bits [s] has passed; inf has inf."""
        ...

    def in_vain_s(self, time_s: float) -> float:
        """How much time on the air [s] has passed that carries nothing."""
        ...

    def times_at(self, carrying_s: DoubleArray) -> DoubleArray:
        """When so much time that carries has passed [s], element by element."""
        ...


@dataclass(frozen=True)
class Grant:
    """What a request got: when, on which bandwidth, with which power, beside whom.

    slots: nothing else of its time is the sender's; None: it is on the air until it is done. interferers:
    who may be on the air in the same slots of the same band. wait_s: how long somebody's absence has
    put off the start; it counts against the deadline. flow: whose content it is and for whom, where that is
    not simply the sender's for its receivers: a link then carries it beside others in one exchange.
    """

    sender: int
    receivers: tuple[int, ...]
    start_s: float
    bandwidth_hz: float
    tx_power_w: float
    exchange_index: int
    slots: Turns | None = None
    interferers: tuple[int, ...] = ()
    wait_s: float = 0.0
    flow: tuple[int, ...] = ()


@dataclass(frozen=True)
class Acks:
    """All acknowledgements that one receiver sends for one grant, each of so many packets.

    num_bytes on the air; airtime_s and energy_j are the receiver's.
    """

    packets: int
    num_bytes: int
    airtime_s: float = 0.0
    energy_j: float = 0.0


@dataclass(frozen=True, eq=False)
class Reception:
    """What the air did to the P packets of one grant, on the way to one of its receivers.

    arrived [P] booleans; attempts [P] int64 >= 1 (0 when the deadline left no time to try), the same
    for all receivers, and so are the times. airtime_s: how long the sender was on the air. acks: None
    of a channel that says nothing of them; then reliable packets are acknowledged, for bytes only.
    """

    arrived: BoolArray
    attempts: IndexArray
    arrival_s: float
    airtime_s: float
    late: bool
    acks: Acks | None = None


@dataclass(frozen=True)
class Burst:
    """The surviving bytes of one sender for one receiver in one exchange: what drivers carry.

    Always sent, even empty: silence is never loss. start_s does not travel: only the sender knows it. To a
    receiver out of range it is what survives all hops; start_s and arrival_s are those of the last one.
    """

    sender: int
    receiver: int
    exchange_index: int
    arrival_s: float
    data: bytes
    start_s: float = 0.0
