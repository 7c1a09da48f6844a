"""Records of measurements and costs: one per measured value, one per transmission on a link."""

from dataclasses import dataclass

SETUP_ROUND = -1
"""round_index of measurements and transmissions before the first round."""


@dataclass(frozen=True)
class MetricRecord:
    """One measured value. `task` is empty if the value does not belong to a single task."""

    device: int
    round_index: int
    task: str
    metric: str
    value: float


UNRECORDED = -1
"""The value in columns that an older ledger lacks."""


@dataclass(frozen=True)
class LinkRecord:
    """One burst in the account, bytes by class. Identities (checked at the end of every run):

    sent = header + checksum + mask + payload + retransmitted; sent = delivered + lost. packets_lost
    counts the packets of which no attempt arrived at this receiver. lost_bytes counts the bytes of all
    attempts that delivered nothing new to it: failed attempts (also of packets that a later attempt
    delivered), and attempts after its own success that other receivers of a broadcast needed. ACKs go
    from the receiver to the sender and have columns of their own: their bytes, airtime and energy are
    the receiver's. Header bytes include 28 emulated IPv4+UDP bytes per packet. round_index is
    SETUP_ROUND in the setup, and the number of rounds in the exchange after the last round. on_air: each
    receiver of a broadcast has a record of the bytes sent to it; exactly one of these records counts
    on the channel and has the airtime and the energy.

    If a receiver is out of range, there is one record per hop, with the transmitting device as sender.
    `origin` is the device whose exchange it is, and `hop` counts from 0. `destination` is the receiver
    itself if the messages are for it, otherwise the device to which it relays them (the lowest id of
    several). A hop carries the packets that arrived over the hop before.

    Counts of the content: values are adapter values in the scenario's number type, value_tensors the
    tensors that they belong to (int8 has one scale for each). mask_entries and mask_coordinates are n
    and N of the masks that are sent, known_entries and known_coordinates those of masks that the
    receivers already know.
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
        """Number of packets that each acknowledgement covers; in older ledgers the reliable packets."""
        return self.reliable_packets if self.acked_packets == UNRECORDED else self.acked_packets

    @property
    def first_hop(self) -> bool:
        """Whether the sender transmits its own messages."""
        return self.hop <= 0

    @property
    def last_hop(self) -> bool:
        """Whether the messages are for the receiver itself."""
        return self.destination in (self.receiver, UNRECORDED)

    @property
    def sent_bytes(self) -> int:
        """All bytes that the sender transmitted, with retransmissions."""
        return (
            self.header_bytes
            + self.checksum_bytes
            + self.mask_bytes
            + self.payload_bytes
            + self.retransmitted_bytes
        )

    @property
    def air_bytes(self) -> int:
        """Bytes that count on the channel: all, or 0 if another record of the same broadcast counts."""
        return self.sent_bytes if self.on_air else 0
