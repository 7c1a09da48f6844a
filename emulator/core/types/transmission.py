"""One transmission: the request for it, the grant, and the reception at each receiver.

Shapes: P packets of one message.
"""

from dataclasses import dataclass
from typing import Protocol

from emulator.core.types.arrays import BoolArray, DoubleArray, IndexArray


@dataclass(frozen=True)
class Request:
    """What a sender asks an access scheme for: to send num_bytes to its receivers from ready_s on."""

    sender: int
    receivers: tuple[int, ...]
    num_bytes: int
    ready_s: float
    exchange_index: int


class Turns(Protocol):
    """The times at which a sender that shares its band transmits, and which of them carry bits.

    Both sums count from the same moment, at or before the start of the grant. Law:
    carrying_s(times_at(a)) = a for a > 0, and times_at is the earliest such time.
    """

    def carrying_s(self, time_s: float) -> float:
        """Time that carries bits [s], up to time_s; inf at inf."""
        ...

    def in_vain_s(self, time_s: float) -> float:
        """Time of transmission that carries nothing [s], up to time_s."""
        ...

    def times_at(self, carrying_s: DoubleArray) -> DoubleArray:
        """The times [s] at which carrying_s of the time that carries bits has passed, element by element."""
        ...


@dataclass(frozen=True)
class Grant:
    """The answer to a request: its start, bandwidth, power and interferers.

    slots: the only times at which the sender may transmit; None: it transmits until it is done.
    interferers: the devices that may transmit in the same slots of the same band. wait_s: how long the
    start was delayed because a device was offline; it counts against the deadline. flow: the first
    sender and the final receiver of relayed content, which tells apart several transfers of one link in
    one exchange; empty for content of the sender for its receivers.
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
    """All acknowledgements that one receiver sends for one grant.

    packets: how many packets each of them covers. num_bytes: on the air. airtime_s and energy_j are
    spent by the receiver.
    """

    packets: int
    num_bytes: int
    airtime_s: float = 0.0
    energy_j: float = 0.0


@dataclass(frozen=True, eq=False)
class Reception:
    """The fate of the P packets of one grant at one of its receivers.

    arrived [P] booleans; attempts [P] int64 >= 1 (0 when the deadline left no time to try). Attempts
    and times are the same for all receivers. airtime_s: how long the sender transmitted. acks: None
    if the channel does not model acknowledgements; then every reliable packet is acknowledged, and
    acknowledgements cost bytes only.
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

    A burst is always sent, even an empty one: silence never means loss. start_s is not sent: only the
    sender knows it. For a receiver out of range the data is what survives all hops, and start_s and
    arrival_s are the times of the last hop.
    """

    sender: int
    receiver: int
    exchange_index: int
    arrival_s: float
    data: bytes
    start_s: float = 0.0
