"""Packets and acknowledgements, in bytes on the air."""

from collections.abc import Sequence
from dataclasses import dataclass

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
