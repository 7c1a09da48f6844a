"""The channel shim: what stands between one device and all others.

A Send becomes packets (wire), asks for the air (access), gets its powers and suffers the channel;
what survives is what drivers carry. Every byte is accounted on the way.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain

import numpy as np

from emulator.errors import ProtocolError
from emulator.protocols import BoundAccess, BoundChannel
from emulator.state import (
    IP_UDP_BYTES,
    Acks,
    BoolArray,
    Burst,
    Grant,
    Inbox,
    IndexArray,
    Kind,
    LinkRecord,
    Message,
    Packet,
    Reception,
    Request,
    Send,
    ValueType,
    ack_bytes,
    air_bytes,
)
from emulator.wire import WireFormat, decode, split_burst, tensors_of


@dataclass(frozen=True, eq=False)
class _Parcel:
    """All that a receiver is told in one exchange; what several are told is but one object.

    bytes_P4: each packet's bytes by class: header (with IP and UDP), checksum, mask, payload.
    said: what the messages are about, in counts: columns of a `LinkRecord`.
    """

    messages: tuple[Message, ...]
    packets: tuple[Packet, ...]
    bytes_P4: IndexArray
    reliable_P: BoolArray
    said: Mapping[str, int]

    @classmethod
    def of(
        cls,
        messages: Sequence[Message],
        packets_of: Sequence[Sequence[Packet]],
        number_type: ValueType,
    ) -> "_Parcel":
        """Of messages in the order they are sent, with the packets of each."""
        packets = tuple(chain.from_iterable(packets_of))
        rows = [
            (p.header_bytes + IP_UDP_BYTES, p.checksum_bytes, p.mask_bytes, p.payload_bytes)
            for p in packets
        ]
        said = Counter[str]()
        for message, its_packets in zip(messages, packets_of, strict=True):
            said.update(_said(message, its_packets, number_type))
        return cls(
            tuple(messages),
            packets,
            np.array(rows, dtype=np.int64).reshape(-1, 4),
            np.array([packet.reliable for packet in packets], dtype=np.bool_),
            said,
        )


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
        told = self._told(send)
        ready_s = max(send.now_s, self._radio_free_s)
        self._put_off = [span for span in self._put_off if span[1] > ready_s]
        served = self._served_together(told)
        requests = [
            Request(self._device, group, air_bytes(parcel.packets), ready_s, exchange_index)
            for group, parcel in served
        ]
        outgoing = [parcel for _, parcel in served]
        bursts, records = [], []
        for parcel, (grant, receptions) in zip(
            outgoing, self._on_air(requests, outgoing), strict=True
        ):
            end_s = receptions[0].arrival_s
            if grant.start_s > ready_s:  # what waits for somebody is sent when they are back
                self._put_off.append((grant.start_s, end_s))
            else:
                self._radio_free_s = max(self._radio_free_s, end_s)
            energy_j = self._channel.energy_j(grant, receptions[0])
            for receiver, reception in zip(grant.receivers, receptions, strict=True):
                bursts.append(_burst(grant, receiver, parcel.packets, reception))
                record = _record(parcel, grant, receiver, reception, energy_j)
                self._sent_bytes += record.air_bytes + record.ack_bytes
                self._energy_j += record.energy_j + record.ack_energy_j
                records.append(record)
        order = sorted(range(len(bursts)), key=lambda index: bursts[index].receiver)
        return tuple(bursts[i] for i in order), tuple(records[i] for i in order)

    def _told(self, send: Send) -> dict[int, _Parcel]:
        """What each receiver is told, by receiver; every message is serialised once."""
        messages: dict[int, list[int]] = {}
        for index, message in enumerate(send.messages):
            for receiver in dict.fromkeys(message.receivers):
                messages.setdefault(receiver, []).append(index)
        packets_of = [self._wire.encode(message) for message in send.messages]

        @cache
        def parcel(*indices: int) -> _Parcel:
            return _Parcel.of(
                [send.messages[i] for i in indices],
                [packets_of[i] for i in indices],
                self._wire.number_type,
            )

        return {receiver: parcel(*messages[receiver]) for receiver in sorted(messages)}

    def _on_air(
        self, requests: Sequence[Request], outgoing: Sequence[_Parcel]
    ) -> list[tuple[Grant, tuple[Reception, ...]]]:
        """Each request's grant, and what becomes of its packets at each receiver."""
        while True:
            grants = self._channel.set_powers(self._access.plan(requests), requests)
            heard = [
                self._channel.transmit(parcel.packets, grant)
                for parcel, grant in zip(outgoing, grants, strict=True)
            ]
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

    def _served_together(
        self, told: Mapping[int, _Parcel]
    ) -> list[tuple[tuple[int, ...], _Parcel]]:
        """Receivers by transmission: one each, or all that are told the same."""
        if self._access.cast == "unicast":
            return [((receiver,), parcel) for receiver, parcel in told.items()]
        groups: dict[_Parcel, list[int]] = {}
        for receiver, parcel in told.items():
            groups.setdefault(parcel, []).append(receiver)
        return [(tuple(group), parcel) for parcel, group in groups.items()]

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


def _said(message: Message, packets: Sequence[Packet], number_type: ValueType) -> dict[str, int]:
    """Its adapter values, if it has any, and its mask, if that leaves anything out or travels."""
    mask = message.mask
    travels = any(packet.mask_bytes for packet in packets)
    known = message.mask_known and not mask.is_full and not travels
    valued = (
        message.kind in (Kind.VALUES, Kind.EXPERT)
        and message.values is not None
        and message.value_type is number_type
    )
    return {
        "value_messages": int(valued),
        "values": mask.count if valued else 0,
        "value_tensors": tensors_of(mask.indices, message.layout) if valued else 0,
        "mask_entries": mask.count if travels else 0,
        "mask_coordinates": mask.size if travels else 0,
        "known_entries": mask.count if known else 0,
        "known_coordinates": mask.size if known else 0,
    }


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
    parcel: _Parcel, grant: Grant, receiver: int, reception: Reception, energy_j: float
) -> LinkRecord:
    """One burst in the account; what was on the air, once for all receivers of a broadcast."""
    attempts_P, size_P = reception.attempts, parcel.bytes_P4.sum(axis=1)
    first_tries = parcel.bytes_P4[attempts_P > 0].sum(axis=0).tolist()
    on_air = receiver == grant.receivers[0]
    acks = reception.acks or _acks_of_reliable(parcel, attempts_P)
    return LinkRecord(
        exchange_index=grant.exchange_index,
        round_index=parcel.messages[0].round_index,
        traffic=parcel.messages[0].traffic.name.lower(),
        sender=grant.sender,
        receiver=receiver,
        messages=len(parcel.messages),
        packets=len(parcel.packets),
        packets_lost=int((~reception.arrived).sum()),
        attempts=int(attempts_P.sum()),
        header_bytes=first_tries[0],
        checksum_bytes=first_tries[1],
        mask_bytes=first_tries[2],
        payload_bytes=first_tries[3],
        retransmitted_bytes=int(size_P @ np.maximum(attempts_P - 1, 0)),
        ack_bytes=acks.num_bytes,
        lost_bytes=int(size_P @ (attempts_P - reception.arrived)),
        delivered_bytes=int(size_P[reception.arrived].sum()),
        start_s=grant.start_s,
        arrival_s=reception.arrival_s,
        airtime_s=reception.airtime_s if on_air else 0.0,
        bandwidth_hz=grant.bandwidth_hz,
        tx_power_w=grant.tx_power_w,
        energy_j=energy_j if on_air else 0.0,
        late=reception.late,
        on_air=on_air,
        reliable_packets=int(parcel.reliable_P.sum()),
        acked_packets=acks.packets,
        ack_airtime_s=acks.airtime_s,
        ack_energy_j=acks.energy_j,
        **parcel.said,
    )


def _acks_of_reliable(parcel: _Parcel, attempts_P: IndexArray) -> Acks:
    """Where a channel does not say: one for each round of tries of the reliable packets."""
    count = int(parcel.reliable_P.sum())
    rounds = int(np.max(attempts_P[parcel.reliable_P], initial=0))
    return Acks(count, rounds * ack_bytes(count))
