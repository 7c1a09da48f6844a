"""The channel shim: what stands between one device and all others.

A Send becomes packets (wire), asks for the air (access), gets its powers and suffers the channel;
what survives is what drivers carry. Every byte is accounted on the way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace

import numpy as np

from emulator.errors import ProtocolError
from emulator.protocols import BoundAccess, BoundChannel
from emulator.state import (
    IP_UDP_BYTES,
    Burst,
    Grant,
    Inbox,
    Kind,
    LinkRecord,
    Message,
    Packet,
    Reception,
    Request,
    Send,
    ValueType,
    air_bytes,
)
from emulator.wire import WireFormat, ack_bytes, decode, split_burst, tensors_of


@dataclass(frozen=True)
class _Said:
    """What a message is about, in counts: columns of a `LinkRecord`, by their names."""

    value_messages: int
    values: int
    value_tensors: int
    mask_entries: int
    mask_coordinates: int
    known_entries: int
    known_coordinates: int

    @classmethod
    def of(cls, message: Message, packets: Sequence[Packet], number_type: ValueType) -> "_Said":
        """Its adapter values, if it has any, and its mask, if that leaves anything out or travels."""
        mask, sized = message.mask, (message.mask.count, message.mask.size)
        travels = any(packet.mask_bytes for packet in packets)
        known = message.mask_known and not mask.is_full and not travels
        valued = (
            message.kind in (Kind.VALUES, Kind.EXPERT)
            and message.values is not None
            and message.value_type is number_type
        )
        return cls(
            int(valued),
            mask.count if valued else 0,
            tensors_of(mask.indices, message.layout) if valued else 0,
            *(sized if travels else (0, 0)),
            *(sized if known else (0, 0)),
        )

    @classmethod
    def together(cls, messages: Sequence["_Said"]) -> "_Said":
        """Of all messages of a burst: sums."""
        return cls(*(sum(column) for column in zip(*map(astuple, messages), strict=True)))


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
        self._put_off: list[tuple[float, float]] = []
        self._sent_bytes = 0
        self._energy_j = 0.0

    def emit(
        self, send: Send, exchange_index: int
    ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
        """One burst and one record per receiver.

        A message is serialised once, however many receivers it has; under an access scheme that
        broadcasts, receivers of the same packets are served by one transmission. The radio starts when
        the device is ready and its last transmission is over.
        """
        _check(self._device, send)
        packets_of = {id(message): self._wire.encode(message) for message in send.messages}
        said_of = {
            id(message): _Said.of(message, packets_of[id(message)], self._wire.number_type)
            for message in send.messages
        }
        receivers = sorted({r for message in send.messages for r in message.receivers})
        messages = {r: [m for m in send.messages if r in m.receivers] for r in receivers}
        ready_s = max(send.now_s, self._radio_free_s)
        self._put_off = [span for span in self._put_off if span[1] > ready_s]
        outgoing, requests = [], []
        for group in self._served_together(messages):
            packets = [p for m in messages[group[0]] for p in packets_of[id(m)]]
            outgoing.append(packets)
            requests.append(
                Request(self._device, group, air_bytes(packets), ready_s, exchange_index)
            )
        bursts, records = [], []
        for packets, (grant, receptions) in zip(
            outgoing, self._on_air(requests, outgoing), strict=True
        ):
            end_s = receptions[0].arrival_s
            if grant.start_s > ready_s:  # what waits for somebody is sent when they are back
                self._put_off.append((grant.start_s, end_s))
            else:
                self._radio_free_s = max(self._radio_free_s, end_s)
            energy_j = self._channel.energy_j(grant, receptions[0])
            self._energy_j += energy_j
            for receiver, reception in zip(grant.receivers, receptions, strict=True):
                bursts.append(_burst(grant, receiver, packets, reception))
                told = messages[receiver]
                record = _record(told, packets, grant, receiver, reception, energy_j)
                record = replace(record, **asdict(_Said.together([said_of[id(m)] for m in told])))
                self._sent_bytes += record.air_bytes + record.ack_bytes
                records.append(record)
        order = sorted(range(len(bursts)), key=lambda index: bursts[index].receiver)
        return tuple(bursts[i] for i in order), tuple(records[i] for i in order)

    def _on_air(
        self, requests: Sequence[Request], outgoing: Sequence[Sequence[Packet]]
    ) -> list[tuple[Grant, tuple[Reception, ...]]]:
        """Each request's grant, and what becomes of its packets at each receiver."""
        while True:
            grants = self._channel.set_powers(self._access.plan(requests), requests)
            heard = [self._channel.transmit(*pair) for pair in zip(outgoing, grants, strict=True)]
            clear = [
                self._after_put_off(request, grant.start_s, told[0].arrival_s)
                for request, grant, told in zip(requests, grants, heard, strict=True)
            ]
            if clear == requests:
                return list(zip(grants, heard, strict=True))
            requests = clear

    def _after_put_off(self, request: Request, start_s: float, end_s: float) -> Request:
        """The request; after what an earlier send has put off, if it would run into that.

        There is one radio: what waits for somebody who is away has it for itself when they are back.
        """
        in_the_way = [to_s for from_s, to_s in self._put_off if from_s < end_s and start_s < to_s]
        return replace(request, ready_s=max(in_the_way, default=request.ready_s))

    def _served_together(self, messages: Mapping[int, Sequence[Message]]) -> list[tuple[int, ...]]:
        """Receivers by transmission: one each, or all that are told the same."""
        if self._access.cast == "unicast":
            return [(receiver,) for receiver in messages]
        groups: dict[tuple[int, ...], list[int]] = {}
        for receiver, told in messages.items():
            groups.setdefault(tuple(id(message) for message in told), []).append(receiver)
        return [tuple(group) for group in groups.values()]

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


def _burst(grant: Grant, receiver: int, packets: Sequence[Packet], reception: Reception) -> Burst:
    """What survives on the way to one receiver."""
    survivors = b"".join(
        packet.data for packet, arrived in zip(packets, reception.arrived, strict=True) if arrived
    )
    return Burst(
        grant.sender,
        receiver,
        grant.exchange_index,
        reception.arrival_s,
        survivors,
        grant.start_s,
    )


def _record(
    messages: Sequence[Message],
    packets: Sequence[Packet],
    grant: Grant,
    receiver: int,
    reception: Reception,
    energy_j: float,
) -> LinkRecord:
    """One burst in the account; what was on the air, once for all receivers of a broadcast."""
    size_P = np.array([packet.air_bytes for packet in packets], dtype=np.int64)
    tried_P = reception.attempts > 0
    repeats = reception.attempts[[packet.reliable for packet in packets]]
    on_air = receiver == grant.receivers[0]

    def first_tries(bytes_P: list[int]) -> int:
        return int(np.array(bytes_P, dtype=np.int64)[tried_P].sum())

    return LinkRecord(
        exchange_index=grant.exchange_index,
        round_index=messages[0].round_index,
        traffic=messages[0].traffic.name.lower(),
        sender=grant.sender,
        receiver=receiver,
        messages=len(messages),
        packets=len(packets),
        packets_lost=int((~reception.arrived).sum()),
        attempts=int(reception.attempts.sum()),
        header_bytes=first_tries([packet.header_bytes + IP_UDP_BYTES for packet in packets]),
        checksum_bytes=first_tries([packet.checksum_bytes for packet in packets]),
        mask_bytes=first_tries([packet.mask_bytes for packet in packets]),
        payload_bytes=first_tries([packet.payload_bytes for packet in packets]),
        retransmitted_bytes=int((size_P * np.maximum(reception.attempts - 1, 0)).sum()),
        ack_bytes=int(repeats.max()) * ack_bytes(len(repeats)) if repeats.size else 0,
        lost_bytes=int((size_P * (reception.attempts - reception.arrived)).sum()),
        delivered_bytes=int(size_P[reception.arrived].sum()),
        start_s=grant.start_s,
        arrival_s=reception.arrival_s,
        airtime_s=reception.airtime_s if on_air else 0.0,
        bandwidth_hz=grant.bandwidth_hz,
        tx_power_w=grant.tx_power_w,
        energy_j=energy_j if on_air else 0.0,
        late=reception.late,
        on_air=on_air,
        reliable_packets=len(repeats),
    )
