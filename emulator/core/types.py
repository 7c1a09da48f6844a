"""Plain data that travels between the rooms: NumPy and the standard library only.

Shapes: M devices, L adapted modules, N coordinates of the flat adapter vector, n coordinates that a
mask keeps, P packets of one message, k inputs, d outputs and r lora_rank of a module.

Words: a *message* is what a device says; a *packet* is what fits one datagram; a *burst* is all that
one device puts on the air for one other in one exchange; an *exchange* is one Send of every device.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.int64]
ByteArray = NDArray[np.uint8]


def _digest(*parts: bytes) -> bytes:
    """8 bytes of BLAKE2b over length-prefixed parts."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


# ── the adapter as one vector ────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class AdapterLayout:
    """Where named tensors lie, one after another and row by row, in one flat vector of N entries."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each tensor."""
        return tuple(int(np.prod(shape, dtype=np.int64)) for shape in self.shapes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First coordinate of each tensor, and N at the end."""
        return tuple(int(x) for x in np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)]))

    @property
    def size(self) -> int:
        """N, the entries of the whole vector."""
        return self.offsets[-1]

    @cached_property
    def digest(self) -> bytes:
        """8 bytes that differ when names or shapes do."""
        return _digest(repr((self.names, self.shapes)).encode())

    def split(self, vector_N: FloatArray) -> dict[str, FloatArray]:
        """Views of the vector by name, in their shapes. `join(split(v))` equals v."""
        return {
            name: vector_N[low : low + size].reshape(shape)
            for name, shape, low, size in zip(
                self.names, self.shapes, self.offsets, self.sizes, strict=False
            )
        }

    def part(self, ending: str) -> "Mask":
        """The coordinates of all tensors whose name ends so, e.g. `lora_A`."""
        spans = zip(self.names, self.offsets, self.sizes, strict=False)
        kept = [np.arange(low, low + n) for name, low, n in spans if name.endswith(ending)]
        return Mask(self.size, np.concatenate(kept).astype(np.int64))

    def join(self, tensors: Mapping[str, FloatArray]) -> FloatArray:
        """The flat vector of named tensors (copied)."""
        if not self.names:
            return np.zeros(0, dtype=np.float32)
        return np.concatenate(
            [np.asarray(tensors[name], dtype=np.float32).reshape(-1) for name in self.names]
        )


@dataclass(frozen=True, eq=False)
class Mask:
    """Which of `size` coordinates are kept: sorted, distinct indices [n]."""

    size: int
    indices: IndexArray

    @classmethod
    def full(cls, size: int) -> "Mask":
        """Every coordinate kept."""
        return cls(size, np.arange(size, dtype=np.int64))

    @classmethod
    def from_dense(cls, kept_N: BoolArray) -> "Mask":
        """From one boolean per coordinate."""
        return cls(int(kept_N.size), np.flatnonzero(kept_N).astype(np.int64))

    @cached_property
    def dense(self) -> BoolArray:
        """[N] booleans, True = kept."""
        kept_N = np.zeros(self.size, dtype=np.bool_)
        kept_N[self.indices] = True
        return kept_N

    @property
    def count(self) -> int:
        """n, the number of kept coordinates."""
        return int(self.indices.size)

    @property
    def density(self) -> float:
        """n / N; 0 for an empty vector."""
        return self.count / self.size if self.size else 0.0

    @property
    def is_full(self) -> bool:
        """Whether nothing is left out."""
        return self.count == self.size

    @cached_property
    def digest(self) -> bytes:
        """8 bytes that name this mask on the wire (its epoch)."""
        if self.is_full:
            return _digest(b"full", self.size.to_bytes(8, "little"))
        return _digest(self.size.to_bytes(8, "little"), self.indices.astype("<i8").tobytes())


LostCoordinates = Literal["keep_own", "renormalise", "last_received", "retransmit", "drop_message"]
"""What a receiver does about coordinates whose packets never came; methods/lost.py defines each."""


# ── what is said ─────────────────────────────────────────────────────────────────────────────────


class Kind(IntEnum):
    """What a message is about."""

    INTRODUCTION = 1
    MASK = 2
    STATISTICS = 3
    VALUES = 4
    EXPERT = 5


class Traffic(IntEnum):
    """To which part of the account a message belongs."""

    SETUP = 0
    IN_CLUSTER = 1
    INTER_CLUSTER = 2
    CONTROL = 3


class ValueType(IntEnum):
    """How one value is written on the wire."""

    FLOAT32 = 1
    BFLOAT16 = 2
    FLOAT16 = 3
    INT8 = 4
    BYTE = 5
    """Raw bytes (an introduction): `values` is uint8 and `layout` has one entry per byte."""


@dataclass(frozen=True, eq=False)
class Message:
    """What one device says to some others in one exchange.

    It speaks of the coordinates `mask` of a vector described by `layout`. `values` [n] are theirs, in
    coordinate order (float32, or uint8 for ValueType.BYTE); None sends the mask alone. With
    `mask_known` the receivers hold the mask already and only its digest is sent. `reliable` messages
    are repeated until they arrive; of the others, lost packets stay lost. `source` puts it on the
    air; `origin` is whose knowledge it is (they differ when it is relayed).
    """

    kind: Kind
    traffic: Traffic
    source: int
    origin: int
    round_index: int
    receivers: tuple[int, ...]
    layout: AdapterLayout
    mask: Mask
    values: FloatArray | ByteArray | None
    value_type: ValueType
    mask_known: bool
    reliable: bool


class Coordinate(IntEnum):
    """What a receiver knows of one coordinate of a message."""

    NOT_SENT = 0
    RECEIVED = 1
    LOST = 2


@dataclass(frozen=True, eq=False)
class Received:
    """A message as it arrived: never NaN, never a silent zero.

    values: [N], zero wherever status is not RECEIVED (float32; uint8 for ValueType.BYTE).
    status: [N] uint8 of `Coordinate`. Where a lost packet carried its own piece of mask, all
    coordinates of its range are LOST: nobody can know which of them it held.
    """

    kind: Kind
    traffic: Traffic
    source: int
    origin: int
    round_index: int
    arrival_s: float
    layout_digest: bytes
    values: FloatArray | ByteArray
    status: ByteArray

    @cached_property
    def received(self) -> BoolArray:
        """[N] True where a value (or, for a mask alone, a kept coordinate) arrived."""
        return np.equal(self.status, Coordinate.RECEIVED)

    @property
    def complete(self) -> bool:
        """Whether no coordinate was lost."""
        return not bool((self.status == Coordinate.LOST).any())


Fact = Mask | AdapterLayout
"""What a message may name by its digest where the receivers hold it."""


@dataclass(frozen=True)
class Known:
    """What a receiver holds already and needs for decoding, by digest."""

    masks: Mapping[bytes, Mask] = field(default_factory=dict)
    layouts: Mapping[bytes, AdapterLayout] = field(default_factory=dict)

    @classmethod
    def of(cls, *things: Fact) -> "Known":
        """Sort things by kind and digest."""
        return cls(
            {x.digest: x for x in things if isinstance(x, Mask)},
            {x.digest: x for x in things if isinstance(x, AdapterLayout)},
        )


IP_UDP_BYTES = 28
"""IPv4 and UDP headers of each packet: on the emulated air only."""


@dataclass(frozen=True)
class Packet:
    """One datagram's worth of a message; `data` begins with our own packet header.

    The classes of bytes add up: header + checksum + mask + payload == len(data).
    """

    data: bytes
    header_bytes: int
    checksum_bytes: int
    mask_bytes: int
    payload_bytes: int
    reliable: bool

    @property
    def air_bytes(self) -> int:
        """Bytes on the air of one transmission."""
        return len(self.data) + IP_UDP_BYTES


def air_bytes(packets: Sequence[Packet]) -> int:
    """Bytes on the air when each packet is sent once: what a Request's `num_bytes` means."""
    return sum(packet.air_bytes for packet in packets)


ACK_BYTES = IP_UDP_BYTES + 20
"""One acknowledgement: emulated IPv4+UDP and a head of our own packets; a bit per packet follows."""


def ack_bytes(packets: int) -> int:
    """An acknowledgement of so many packets on the air."""
    return ACK_BYTES + (packets + 7) // 8


# ── who reaches whom ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Link:
    """One directed link of a round and the mixing weight its receiver gives to its sender."""

    sender: int
    receiver: int
    weight: float


PowerSharing = Literal["as_needed", "equally", "in_turn"]
"""How a device shares its power out: each neighbour what it needs, all the same at once, or in turn."""


def spent_w(needed_w: DoubleArray, sharing: PowerSharing) -> DoubleArray:
    """Power [W] for neighbours who need [.., neighbours] each, so that it is enough for all."""
    if sharing == "as_needed":
        return np.asarray(needed_w.sum(axis=-1))
    at_once = needed_w.shape[-1] if sharing == "equally" else 1
    return np.asarray(at_once * needed_w.max(axis=-1, initial=0.0))


@dataclass(frozen=True, eq=False)
class Survey:
    """What every device knows of all after the introductions; the input of every topology.

    positions_m [M, 2]; mean_gain [M, M] (linear power gain, diagonal 0); in_range [M, M] booleans;
    max_power_w [M]; required_power_w: of the number u > 0 of neighbours that i serves at once, the
    least power of i towards j [M, M], worked out when asked for; samples [M]; blocks [M]: the task
    block (projection) of each device; densities [M, L]; module_sizes [L]: entries d*r of B in each
    module.
    Methods without masks leave densities at 1 and every block different.
    """

    positions_m: DoubleArray
    mean_gain: DoubleArray
    in_range: BoolArray
    max_power_w: DoubleArray
    required_power_w: Callable[[int], DoubleArray]
    samples: IndexArray
    blocks: IndexArray
    densities: DoubleArray
    module_sizes: IndexArray
    power_sharing: PowerSharing = "as_needed"

    def spent_w(self, needed_w: DoubleArray) -> DoubleArray:
        """Power that a device spends to serve neighbours who need [.., neighbours] each [W]."""
        return spent_w(needed_w, self.power_sharing)

    @property
    def devices(self) -> int:
        """M."""
        return int(self.samples.size)


# ── the air ──────────────────────────────────────────────────────────────────────────────────────


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


# ── one device's life, step by step ──────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Send:
    """A device speaks and waits: one exchange.

    All messages share traffic and round_index. `wait_for`: the devices that send to this one in the
    same exchange, sorted; exactly one burst comes from each.

    With `next_s` it speaks without waiting (asynchronous gossip): its inbox holds what came from
    `listen_to` before now_s and was in no inbox yet. It promises to speak next at next_s; inf ends this
    way of speaking, and what has not arrived by then is never heard.
    """

    now_s: float
    messages: tuple[Message, ...]
    wait_for: tuple[int, ...]
    known: Known
    listen_to: tuple[int, ...] = ()
    next_s: float | None = None


@dataclass(frozen=True, eq=False)
class Inbox:
    """Answers a Send: messages by (arrival_s, sender); when the own radio ends; sums so far.

    The sums are of all that the device's messages cost, on every hop: over all devices they are those of
    the ledger, which attributes each hop to the device that transmits.
    """

    received: tuple[Received, ...]
    transmit_end_s: float
    sent_bytes: int = 0
    transmit_energy_j: float = 0.0


SETUP_ROUND = -1
"""round_index of what is measured before the first round."""


@dataclass(frozen=True)
class MetricRecord:
    """One measured value. `task` is empty where it concerns no single task."""

    device: int
    round_index: int
    task: str
    metric: str
    value: float


UNRECORDED = -1
"""In a column that a ledger from before does not have."""


@dataclass(frozen=True)
class LinkRecord:
    """One burst in the account, bytes by class. Identities (checked at the end of every run):

    sent = header + checksum + mask + payload + retransmitted; sent = delivered + lost. packets_lost
    are the packets of which no try arrived at this receiver; lost_bytes are the bytes of all tries that
    brought it nothing: those tries that failed, also of packets that a later try delivered, and tries
    after its own that other receivers of a broadcast needed. ACKs travel from receiver to sender and are
    accounted here apart: their bytes, airtime and energy are the receiver's. Header bytes contain 28 emulated IPv4+UDP bytes per packet. round_index is
    SETUP_ROUND in the setup and the number of rounds in the exchange after the last one. on_air: of a
    broadcast every receiver has a record of what was sent to it, but only one of them is on the air
    and has its airtime and energy.

    Where a receiver is out of range there is a record for each hop, of the device that transmits:
    `origin` is whose exchange it is, `hop` counts from 0, and `destination` is the receiver itself if the
    messages are for it, otherwise for whom it passes them on (of several the lowest). A hop carries what
    survived the one before.

    What the messages say, in counts: values are those of adapters, in the scenario's number type, of
    which int8 would scale each tensor they lie in; mask_entries and mask_coordinates are n and N of
    the masks that travel, known_entries and known_coordinates of those that are known already.
    """

    exchange_index: int
    round_index: int
    traffic: str
    sender: int
    receiver: int
    messages: int
    packets: int
    packets_lost: int
    attempts: int
    header_bytes: int
    checksum_bytes: int
    mask_bytes: int
    payload_bytes: int
    retransmitted_bytes: int
    ack_bytes: int
    lost_bytes: int
    delivered_bytes: int
    start_s: float
    arrival_s: float
    airtime_s: float
    bandwidth_hz: float
    tx_power_w: float
    energy_j: float
    late: bool
    on_air: bool = True
    reliable_packets: int = UNRECORDED
    value_messages: int = UNRECORDED
    values: int = UNRECORDED
    value_tensors: int = UNRECORDED
    mask_entries: int = UNRECORDED
    mask_coordinates: int = UNRECORDED
    known_entries: int = UNRECORDED
    known_coordinates: int = UNRECORDED
    acked_packets: int = UNRECORDED
    ack_airtime_s: float = 0.0
    ack_energy_j: float = 0.0
    origin: int = UNRECORDED
    destination: int = UNRECORDED
    hop: int = UNRECORDED

    @property
    def acknowledged_packets(self) -> int:
        """How many packets each acknowledgement is about; in older ledgers the reliable ones."""
        return self.reliable_packets if self.acked_packets == UNRECORDED else self.acked_packets

    @property
    def first_hop(self) -> bool:
        """Whether the device transmits messages of its own."""
        return self.hop <= 0

    @property
    def last_hop(self) -> bool:
        """Whether the messages are for the receiver itself."""
        return self.destination in (self.receiver, UNRECORDED)

    @property
    def sent_bytes(self) -> int:
        """All that the sender put on the air, retransmissions included."""
        return (
            self.header_bytes
            + self.checksum_bytes
            + self.mask_bytes
            + self.payload_bytes
            + self.retransmitted_bytes
        )

    @property
    def air_bytes(self) -> int:
        """What of it counts on the air: all, or nothing where another record of a broadcast does."""
        return self.sent_bytes if self.on_air else 0


@dataclass(frozen=True, eq=False)
class DeviceState:
    """What a device would need to go on after this round: plain arrays by name."""

    round_index: int
    now_s: float
    arrays: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Commit:
    """A device has finished a round: its state, and what it measured in it."""

    state: DeviceState
    records: tuple[MetricRecord, ...]


Step = Send | Commit


ExpertForm = Literal["low_rank", "weights"]
"""What the tensors of an expert are."""


@dataclass(frozen=True, eq=False)
class Expert:
    """What answers for one task (`task` is "all" for a method that has a single model).

    tensors, float32. form low_rank: `<module>.lora_A` [r, k] and `<module>.lora_B` [d, r], B with 0
    where its mask (under `aggregation: printed_24` every mask of its cluster) keeps nothing. form weights: every parameter's difference from the frozen backbone's, by its name and in
    its shape; tied ones once. scaling multiplies B A, or the differences. samples: trained on.
    """

    task: str
    samples: int
    scaling: float
    tensors: Mapping[str, FloatArray]
    form: ExpertForm = "low_rank"


@dataclass(frozen=True, eq=False)
class DeviceResult:
    """What a device leaves behind: its own expert, all it can answer with, and its measurements.

    links: those of the last round that end at the device; clusters: empty under a topology without any.
    """

    device: int
    own_expert: Expert
    experts: tuple[Expert, ...]
    router: Mapping[str, FloatArray]
    records: tuple[MetricRecord, ...]
    links: tuple[Link, ...]
    clusters: tuple[tuple[int, ...], ...]
    emulated_s: float
    compute_energy_j: float
    train_cpu_s: float
    rounds: int


# ── data ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Example:
    """One item: a prompt and its answer.

    kind "choice": the answer is one of `choices`. "text": the answer is generated and compared whole.
    "number": the last number of what is generated is compared. `completion` is the text to learn
    from where the answer is generated (it may hold a worked solution).
    """

    task: str
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    completion: str = ""
    kind: str = "text"


@dataclass(frozen=True)
class Question:
    """An input as the router sees it.

    text: what the model reads, the answer not. task: index of its true task, None where it is none of
    the scenario's; only the oracle may look at it.
    """

    text: str
    task: int | None


@dataclass(frozen=True)
class Shard:
    """A device's own training data; `task` is the one most of it belongs to."""

    device: int
    task: str
    train: tuple[Example, ...]
