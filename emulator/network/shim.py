"""The channel shim: it turns what a device sends into what its receivers get.

The wire format splits the messages of a Send into packets, the access scheme grants them time and band,
and the channel sets powers and decides which packets survive. Drivers carry the survivors. The shim
records every byte.

A receiver out of range is reached hop by hop along its path (`relay_paths.py`). Channel, access and paths
are pure, so the shim of the first sender computes all hops. Each hop is planned by the access scheme for
the device that passes the messages on, with its slots, band and power. It begins when the hop before has
ended, carries what survived that hop, and has its own record. torch.distributed then carries the messages
once, from the first sender to the final receiver, with the bytes that the last hop delivers. Therefore
drivers know nothing of hops. A relay passes on the messages of one sender one after the other. Messages
of several senders, and its own, do not delay each other, because no sender knows what the others send.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from emulator.core.errors import ProtocolError
from emulator.core.protocols.access import BoundAccess
from emulator.core.protocols.channel import BoundChannel
from emulator.core.types.packet import Packet
from emulator.core.types.records import LinkRecord
from emulator.core.types.steps import Inbox, Send, State
from emulator.core.types.transmission import Burst, Reception
from emulator.network.relay_paths import Network, Path
from emulator.network.transmission import Content, Transmission, Transmitter, Way, make_link_record
from emulator.network.wire import WireFormat, decode, split_burst


@dataclass(frozen=True, eq=False)
class _Held:
    """A content, and the device that holds it and passes it on.

    so_far: the devices that the content has passed; the last one holds it. path_to: for each final
    receiver, the devices that the content has still to pass, the receiver included.
    """

    content: Content
    so_far: Path
    path_to: Mapping[int, Path]
    since_s: float

    def to_next(self) -> dict[int, dict[int, Path]]:
        """The rest of each path behind the next device, by next device and by final receiver."""
        onward: dict[int, dict[int, Path]] = {}
        for receiver, path in sorted(self.path_to.items()):
            onward.setdefault(path[0], {})[receiver] = path[1:]
        return dict(sorted(onward.items()))


class Shim:
    """The shim of one device; see `core.protocols.driver.ChannelShim`.

    network: the relay paths, shared by the shims that are given the same object.
    """

    def __init__(
        self,
        device: int,
        wire: WireFormat,
        access: BoundAccess,
        channel: BoundChannel,
        network: Network | None = None,
    ) -> None:
        self._device = device
        self._wire = wire
        self._access = access
        self._channel = channel
        self._network = network or Network(channel, access)
        self._transmitters: dict[int, Transmitter] = {}
        self._sent_bytes = 0
        self._energy_j = 0.0
        self.next_exchange = 0

    def emit(
        self, send: Send, exchange_index: int
    ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
        """Send the messages: one burst for each final receiver, and one record for each hop and its receiver.

        Each message is serialised once, whatever the number of its receivers. Under broadcast, one
        transmission serves all receivers of the same packets. The transmission starts when the device
        is ready and its last transmission has ended.
        """
        _check(self._device, send)
        self.next_exchange = exchange_index + 1
        ready_s = max(send.now_s, self._transmitter(self._device).free_s)
        bursts: list[Burst] = []
        records: list[LinkRecord] = []
        passed_on: list[tuple[float, Path, int, _Held]] = []
        held = self._find_first_holdings(send, ready_s)
        while held:
            for burst, record, onward in self._send_hop(held, exchange_index):
                records.append(record)
                bursts += [burst] if burst else []
                if onward:
                    order = (onward.since_s, onward.so_far, min(onward.path_to))
                    heapq.heappush(passed_on, (*order, onward))
            held = [heapq.heappop(passed_on)[-1]] if passed_on else []
        bursts.sort(key=lambda burst: burst.receiver)
        records.sort(key=lambda record: (record.hop, record.receiver))
        return tuple(bursts), tuple(records)

    def _find_first_holdings(self, send: Send, ready_s: float) -> list[_Held]:
        """Each content of the device itself once, with the paths at the time of sending.

        If there is no path, the device sends to the receiver directly: devices that move may come into
        range.
        """
        if not send.messages:
            return []
        paths = self._network.at(ready_s)
        paths_of: dict[Content, dict[int, Path]] = {}
        for receiver, content in self._contents(send).items():
            path = paths.find_path(self._device, receiver) or (self._device, receiver)
            paths_of.setdefault(content, {})[receiver] = path[1:]
        return [
            _Held(content, (self._device,), path_to, ready_s)
            for content, path_to in paths_of.items()
        ]

    def _contents(self, send: Send) -> dict[int, Content]:
        """The content for each receiver, by receiver; every message is serialised once."""
        messages: dict[int, list[int]] = {}
        for index, message in enumerate(send.messages):
            for receiver in dict.fromkeys(message.receivers):
                messages.setdefault(receiver, []).append(index)
        packets_of = [self._wire.encode(message) for message in send.messages]

        @cache
        def content(*indices: int) -> Content:
            return Content.of(
                [send.messages[i] for i in indices],
                [packets_of[i] for i in indices],
                self._wire.number_type,
            )

        return {receiver: content(*messages[receiver]) for receiver in sorted(messages)}

    def _send_hop(
        self, held: Sequence[_Held], exchange_index: int
    ) -> Iterator[tuple[Burst | None, LinkRecord, _Held | None]]:
        """Send the contents that one device holds to the next devices.

        Yields for each next device: its burst if it is a final receiver, the record of the hop, and the
        content that it passes on, if any.
        """
        holder = self._transmitter(held[0].so_far[-1])
        legs = sorted(
            (leg for each in held for leg in self._legs(each)),
            key=lambda leg: (leg[0].receivers, leg[0].flow),
        )
        sent = holder.send([leg for leg, _ in legs], held[0].since_s, exchange_index)
        for (leg, each), (grant, receptions) in zip(legs, sent, strict=True):
            energy_j = self._channel.energy_j(grant, receptions[0])
            onward = each.to_next()
            for receiver, reception in zip(leg.receivers, receptions, strict=True):
                path_to = onward[receiver]
                destination = receiver if receiver in path_to else min(path_to)
                way = Way(self._device, destination, len(each.so_far) - 1)
                record = make_link_record(leg.content, grant, receiver, reception, energy_j, way)
                self._sent_bytes += record.air_bytes + record.ack_bytes
                self._energy_j += record.energy_j + record.ack_energy_j
                burst = None
                if path_to.pop(receiver, None) is not None:
                    data = _survivors(leg.content.packets, reception)
                    ends = (self._device, receiver, exchange_index)
                    burst = Burst(*ends, reception.arrival_s, data, grant.start_s)
                yield burst, record, self._find_passed_on(each, receiver, path_to, reception)

    def _legs(self, held: _Held) -> Iterator[tuple[Transmission, _Held]]:
        """The transmissions of a content: one to each next device, or one broadcast to all of them."""
        onward = held.to_next()
        together = self._access.cast == "broadcast"
        for receivers in [tuple(onward)] if together else [(receiver,) for receiver in onward]:
            own = len(held.so_far) == 1 and all(r in onward[r] for r in receivers)
            first = min(min(onward[receiver]) for receiver in receivers)
            yield Transmission(receivers, held.content, () if own else (self._device, first)), held

    def _find_passed_on(
        self, held: _Held, receiver: int, path_to: Mapping[int, Path], reception: Reception
    ) -> _Held | None:
        """The content that a receiver passes on; None if it is the last one of its path."""
        if not path_to:
            return None
        content = held.content.keep_arrived(reception.arrived)
        return _Held(content, (*held.so_far, receiver), path_to, reception.arrival_s)

    def state(self) -> State:
        """What later exchanges depend on: their index, when transmitters are free, and the sums so far."""
        return {
            "next_exchange": self.next_exchange,
            "transmitters": {i: t.state() for i, t in self._transmitters.items()},
            "sent_bytes": self._sent_bytes,
            "energy_j": self._energy_j,
        }

    def restore(self, state: State) -> None:
        """Go on from a state."""
        for device, of_transmitter in state["transmitters"].items():
            self._transmitter(device).restore(of_transmitter)
        self.next_exchange = state["next_exchange"]
        self._sent_bytes, self._energy_j = state["sent_bytes"], state["energy_j"]

    def _transmitter(self, device: int) -> Transmitter:
        if device not in self._transmitters:
            self._transmitters[device] = Transmitter(device, self._access, self._channel)
        return self._transmitters[device]

    def collect(self, send: Send, bursts: Sequence[Burst]) -> Inbox:
        """Decode the messages of the bursts, in the order of the bursts."""
        received = tuple(
            decode(packets, send.known, burst.arrival_s)
            for burst in bursts
            for packets in split_burst(burst.data)
        )
        free_s = self._transmitter(self._device).free_s
        return Inbox(received, free_s, self._sent_bytes, self._energy_j)


def _check(device: int, send: Send) -> None:
    """Raise ProtocolError unless a Send has its own device as source, and one traffic and round."""
    kinds = {(message.traffic, message.round_index) for message in send.messages}
    if len(kinds) > 1 or any(message.source != device for message in send.messages):
        raise ProtocolError(
            f"device {device}: got messages of {len(kinds)} kinds of traffic or another source, "
            "wanted one traffic and round per exchange, all its own"
        )


def _survivors(packets: Sequence[Packet], reception: Reception) -> bytes:
    """The bytes of the packets that arrived, one packet after the other."""
    return b"".join(
        packet.data for packet, arrived in zip(packets, reception.arrived, strict=True) if arrived
    )
