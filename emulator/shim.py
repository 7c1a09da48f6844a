"""The channel shim: what stands between one device and all others.

A Send becomes packets (wire), asks for the air (access), gets its powers and suffers the channel;
what survives is what drivers carry. Every byte is accounted on the way.
"""

from collections.abc import Sequence

import numpy as np

from emulator.errors import ProtocolError
from emulator.protocols import BoundAccess, BoundChannel
from emulator.state import (
    IP_UDP_BYTES,
    SETUP_ROUND,
    Burst,
    Grant,
    Inbox,
    LinkRecord,
    Message,
    Packet,
    Reception,
    Request,
    Send,
    Traffic,
    air_bytes,
)
from emulator.wire import WireFormat, decode, split_burst

ACK_BYTES = IP_UDP_BYTES + 20
"""One acknowledgement: emulated IPv4+UDP and a header of ours; a bit per packet follows."""


class Shim:
    """The air around one device; see `protocols.Air`."""

    def __init__(
        self, device: int, wire: WireFormat, access: BoundAccess, channel: BoundChannel
    ) -> None:
        self._device = device
        self._wire = wire
        self._access = access
        self._channel = channel
        self._radio_free_s = 0.0
        self._sent_bytes = 0
        self._energy_j = 0.0

    def emit(
        self, send: Send, exchange_index: int
    ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
        """One burst and one record per receiver.

        A message is serialised once, however many receivers it has. The radio starts when the device
        is ready and its last transmission is over.
        """
        _check(self._device, send)
        packets_of = {id(message): self._wire.encode(message) for message in send.messages}
        receivers = sorted({r for message in send.messages for r in message.receivers})
        messages = {r: [m for m in send.messages if r in m.receivers] for r in receivers}
        outgoing = {r: [p for m in messages[r] for p in packets_of[id(m)]] for r in receivers}
        ready_s = max(send.now_s, self._radio_free_s)
        requests = [
            Request(self._device, (r,), air_bytes(outgoing[r]), ready_s, exchange_index)
            for r in receivers
        ]
        grants = self._channel.set_powers(self._access.plan(requests), requests)
        bursts, records = [], []
        for receiver, grant in zip(receivers, grants, strict=True):
            packets = outgoing[receiver]
            reception = self._channel.transmit(packets, grant)
            self._radio_free_s = max(self._radio_free_s, grant.start_s + reception.airtime_s)
            survivors = b"".join(
                packet.data
                for packet, arrived in zip(packets, reception.arrived, strict=True)
                if arrived
            )
            bursts.append(
                Burst(self._device, receiver, exchange_index, reception.arrival_s, survivors)
            )
            energy_j = self._channel.energy_j(grant, reception)
            record = _record(messages[receiver], packets, grant, reception, energy_j)
            self._sent_bytes += record.sent_bytes + record.ack_bytes
            self._energy_j += energy_j
            records.append(record)
        return tuple(bursts), tuple(records)

    def collect(self, send: Send, bursts: Sequence[Burst]) -> Inbox:
        """The messages of the bursts, in the order of (arrival_s, sender)."""
        ordered = sorted(bursts, key=lambda burst: (burst.arrival_s, burst.sender))
        received = tuple(
            decode(packets, send.known, burst.arrival_s)
            for burst in ordered
            for packets in split_burst(burst.data)
        )
        return Inbox(received, self._radio_free_s, self._sent_bytes, self._energy_j)


def _check(device: int, send: Send) -> None:
    """A Send speaks for its own device and belongs to one line of the account."""
    kinds = {(message.traffic, message.round_index) for message in send.messages}
    if len(kinds) > 1 or any(message.source != device for message in send.messages):
        raise ProtocolError(
            f"device {device}: got messages of {len(kinds)} kinds of traffic or another source, "
            "wanted one traffic and round per exchange, all its own"
        )


def _record(
    messages: Sequence[Message],
    packets: Sequence[Packet],
    grant: Grant,
    reception: Reception,
    energy_j: float,
) -> LinkRecord:
    """One burst in the account."""
    size_P = np.array([packet.air_bytes for packet in packets], dtype=np.int64)
    tried_P = reception.attempts > 0
    repeats = reception.attempts[[packet.reliable for packet in packets]]
    ack_bytes = ACK_BYTES + (len(repeats) + 7) // 8

    def first_tries(bytes_P: list[int]) -> int:
        return int(np.array(bytes_P, dtype=np.int64)[tried_P].sum())

    return LinkRecord(
        exchange_index=grant.exchange_index,
        round_index=(
            SETUP_ROUND if messages[0].traffic is Traffic.SETUP else messages[0].round_index
        ),
        traffic=messages[0].traffic.name.lower(),
        sender=grant.sender,
        receiver=grant.receivers[0],
        messages=len(messages),
        packets=len(packets),
        packets_lost=int((~reception.arrived).sum()),
        attempts=int(reception.attempts.sum()),
        header_bytes=first_tries([packet.header_bytes + IP_UDP_BYTES for packet in packets]),
        checksum_bytes=first_tries([packet.checksum_bytes for packet in packets]),
        mask_bytes=first_tries([packet.mask_bytes for packet in packets]),
        payload_bytes=first_tries([packet.payload_bytes for packet in packets]),
        retransmitted_bytes=int((size_P * np.maximum(reception.attempts - 1, 0)).sum()),
        ack_bytes=int(repeats.max()) * ack_bytes if repeats.size else 0,
        lost_bytes=int((size_P * (reception.attempts - reception.arrived)).sum()),
        delivered_bytes=int(size_P[reception.arrived].sum()),
        start_s=grant.start_s,
        arrival_s=reception.arrival_s,
        airtime_s=reception.airtime_s,
        bandwidth_hz=grant.bandwidth_hz,
        tx_power_w=grant.tx_power_w,
        energy_j=energy_j,
        late=reception.late,
    )
