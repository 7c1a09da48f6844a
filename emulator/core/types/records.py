"""What is measured and accounted: one record per value, one per transmission on a link."""

from dataclasses import dataclass

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
