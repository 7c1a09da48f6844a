"""Packets and acknowledgements, in bytes on the air."""

from collections.abc import Sequence
from dataclasses import dataclass

IP_UDP_BYTES = 28
"""IPv4 and UDP headers of each packet; they exist on the emulated channel only."""


@dataclass(frozen=True)
class Packet:
    """One datagram of a message; `data` begins with the packet header of `network.wire`.

    Law: header_bytes + checksum_bytes + mask_bytes + payload_bytes == len(data).
    """

    data: bytes
    header_bytes: int
    checksum_bytes: int
    mask_bytes: int
    payload_bytes: int
    reliable: bool

    @property
    def air_bytes(self) -> int:
        """Bytes that one transmission of the packet puts on the air."""
        return len(self.data) + IP_UDP_BYTES


def air_bytes(packets: Sequence[Packet]) -> int:
    """Bytes on the air when each packet is sent once: the `num_bytes` of a `Request`."""
    return sum(packet.air_bytes for packet in packets)


ACK_BYTES = IP_UDP_BYTES + 20
"""An acknowledgement without its bits: emulated IPv4 and UDP headers, and a head as packets have it.
One bit for each packet follows."""


def ack_bytes(packets: int) -> int:
    """Bytes on the air of one acknowledgement that covers a number of packets."""
    return ACK_BYTES + (packets + 7) // 8
