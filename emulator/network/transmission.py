"""The transmitter of one device as a sender's shim models it: transmissions, their times and costs.

Shapes: P packets of a content.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from emulator.core.protocols.access import BoundAccess
from emulator.core.protocols.channel import BoundChannel
from emulator.core.types.arrays import BoolArray, IndexArray
from emulator.core.types.message import Kind, Message, ValueType
from emulator.core.types.packet import IP_UDP_BYTES, Packet, air_bytes
from emulator.core.types.records import LinkRecord
from emulator.core.types.steps import State
from emulator.core.types.transmission import Grant, Reception, Request
from emulator.network.channel.acknowledgements import Acking
from emulator.network.wire import count_tensors

COUNTED = (
    "values",
    "value_tensors",
    "mask_entries",
    "mask_coordinates",
    "known_entries",
    "known_coordinates",
)
"""The counts of a content that shrink when packets of it are lost."""


@dataclass(frozen=True, eq=False)
class Content:
    """All that a receiver is sent in one exchange. Receivers of the same messages share one object.

    bytes_P4: bytes of each packet by class: header (with IP and UDP), checksum, mask, payload.
    counts: values and mask entries of the messages, by column of a `LinkRecord`.
    """

    messages: tuple[Message, ...]
    packets: tuple[Packet, ...]
    bytes_P4: IndexArray
    reliable_P: BoolArray
    counts: Mapping[str, int]

    @classmethod
    def of(
        cls,
        messages: Sequence[Message],
        packets_of: Sequence[Sequence[Packet]],
        number_type: ValueType,
    ) -> "Content":
        """The content of messages in the order of sending; packets_of: the packets of each message."""
        packets = tuple(chain.from_iterable(packets_of))
        rows = [
            (p.header_bytes + IP_UDP_BYTES, p.checksum_bytes, p.mask_bytes, p.payload_bytes)
            for p in packets
        ]
        counts = Counter[str]()
        for message, its_packets in zip(messages, packets_of, strict=True):
            counts.update(_count(message, its_packets, number_type))
        return cls(
            tuple(messages),
            packets,
            np.array(rows, dtype=np.int64).reshape(-1, 4),
            np.array([packet.reliable for packet in packets], dtype=np.bool_),
            counts,
        )

    def keep_arrived(self, arrived_P: BoolArray) -> "Content":
        """The content of the packets that arrived, to be passed on.

        The counts shrink in proportion to the bytes of values and masks.
        """
        if arrived_P.all():
            return self
        content_P = self.bytes_P4[:, 2:].sum(axis=1)
        kept, whole = int(content_P[arrived_P].sum()), int(content_P.sum())
        shrunk = {n: round(self.counts[n] * kept / whole) for n in COUNTED} if whole else {}
        packets = tuple(p for p, arrived in zip(self.packets, arrived_P, strict=True) if arrived)
        return Content(
            self.messages,
            packets,
            self.bytes_P4[arrived_P],
            self.reliable_P[arrived_P],
            {**self.counts, **shrunk},
        )


@dataclass(frozen=True, eq=False)
class Transmission:
    """One content for some receivers, sent to all of them at once. flow: see `core.types.transmission.Grant`."""

    receivers: tuple[int, ...]
    content: Content
    flow: tuple[int, ...] = ()


class Transmitter:
    """The radio of one device. Transmissions follow each other, except those delayed by offline devices."""

    def __init__(self, device: int, access: BoundAccess, channel: BoundChannel) -> None:
        self._device = device
        self._access = access
        self._channel = channel
        self._put_off: list[tuple[float, float]] = []
        self.free_s = 0.0

    def send(
        self, transmissions: Sequence[Transmission], ready_s: float, exchange_index: int
    ) -> list[tuple[Grant, tuple[Reception, ...]]]:
        """Return the grant of each transmission, and its reception at each receiver.

        All transmissions start together, when the device is ready and its last transmission has ended.
        """
        ready_s = max(ready_s, self.free_s)
        self._put_off = [span for span in self._put_off if span[1] > ready_s]
        requests = [
            Request(
                self._device, t.receivers, air_bytes(t.content.packets), ready_s, exchange_index
            )
            for t in transmissions
        ]
        sent = self._on_air(requests, transmissions)
        for grant, receptions in sent:
            end_s = receptions[0].arrival_s
            if grant.start_s > ready_s:  # delayed until an offline device is back
                self._put_off.append((grant.start_s, end_s))
            else:
                self.free_s = max(self.free_s, end_s)
        return sent

    def state(self) -> State:
        """When it is free, and what it has put off."""
        return {"free_s": self.free_s, "put_off": self._put_off}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.free_s, self._put_off = state["free_s"], state["put_off"]

    def _on_air(
        self, requests: Sequence[Request], transmissions: Sequence[Transmission]
    ) -> list[tuple[Grant, tuple[Reception, ...]]]:
        while True:
            powered = self._channel.set_powers(self._access.plan(requests), requests)
            grants = [
                replace(grant, flow=t.flow) if t.flow else grant
                for grant, t in zip(powered, transmissions, strict=True)
            ]
            received = [
                self._channel.transmit(t.content.packets, grant)
                for grant, t in zip(grants, transmissions, strict=True)
            ]
            clear = [
                self._delay(request, grant.start_s, at_each[0].arrival_s)
                for request, grant, at_each in zip(requests, grants, received, strict=True)
            ]
            if clear == requests:
                return list(zip(grants, received, strict=True))
            requests = clear

    def _delay(self, request: Request, start_s: float, end_s: float) -> Request:
        """The request, delayed until the end of earlier delayed transmissions that it would overlap.

        A device has one radio: a transmission delayed by an offline device gets it alone when that
        device is back.
        """
        in_the_way = [to_s for from_s, to_s in self._put_off if from_s < end_s and start_s < to_s]
        return replace(request, ready_s=max(in_the_way, default=request.ready_s))


def _count(message: Message, packets: Sequence[Packet], number_type: ValueType) -> dict[str, int]:
    """Counts of the adapter values of a message, and of its mask if it is sent, or known and not full."""
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
        "value_tensors": count_tensors(mask.indices, message.layout) if valued else 0,
        "mask_entries": mask.count if travels else 0,
        "mask_coordinates": mask.size if travels else 0,
        "known_entries": mask.count if known else 0,
        "known_coordinates": mask.size if known else 0,
    }


@dataclass(frozen=True)
class Way:
    """The place of a hop in its path: columns of a `LinkRecord` of the same names."""

    origin: int
    destination: int
    hop: int


def make_link_record(
    content: Content,
    grant: Grant,
    receiver: int,
    reception: Reception,
    energy_j: float,
    way: Way,
) -> LinkRecord:
    """The record of one hop to one receiver. The first receiver of a broadcast bears its airtime and energy."""
    attempts_P, size_P = reception.attempts, content.bytes_P4.sum(axis=1)
    first_tries = content.bytes_P4[attempts_P > 0].sum(axis=0).tolist()
    on_air = receiver == grant.receivers[0]
    # If the channel does not model acknowledgements, they cost no time and no energy.
    acks = reception.acks or Acking(grant, content.reliable_P).acks(attempts_P, bit_per_s=0.0)
    return LinkRecord(
        exchange_index=grant.exchange_index,
        round_index=content.messages[0].round_index,
        traffic=content.messages[0].traffic.name.lower(),
        sender=grant.sender,
        receiver=receiver,
        messages=len(content.messages),
        packets=len(content.packets),
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
        reliable_packets=int(content.reliable_P.sum()),
        acked_packets=acks.packets,
        ack_airtime_s=acks.airtime_s,
        ack_energy_j=acks.energy_j,
        origin=way.origin,
        destination=way.destination,
        hop=way.hop,
        **content.counts,
    )
