"""The shim: it accounts for every byte, and only the channel loses packets."""

import math
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_messages import values_message

from emulator.analysis.ledger.account import account_of
from emulator.core.errors import ProtocolError
from emulator.core.records import check_account
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import Coordinate, Kind, Known, Traffic, ValueType
from emulator.core.types.packet import IP_UDP_BYTES, ack_bytes
from emulator.core.types.steps import Send
from emulator.network.channel.access import IdealAccess, OfdmaAccess
from emulator.network.channel.energy import FixedPower
from emulator.network.channel.fading import NoFading
from emulator.network.channel.ideal import Ideal
from emulator.network.channel.losses import BernoulliLoss
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import NoPathLoss
from emulator.network.channel.rates import FixedRate
from emulator.network.shim import Shim
from emulator.network.wire import WireFormat, decode, split_burst

DEVICES = 4
LAYOUT = AdapterLayout(("a", "b"), ((40, 50), (1000,)))


def message(seed=0, density=1.0, receivers=(1, 2), **changes):
    """A message of device 0 about some coordinates of LAYOUT."""
    draws = np.random.default_rng(seed)
    mask = Mask.from_dense(draws.random(LAYOUT.size) < density)
    values = draws.standard_normal(mask.count).astype(np.float32)
    return values_message(LAYOUT, mask, values, receivers=tuple(receivers), **changes)


def send(*messages, now_s=0.0):
    return Send(now_s, messages, (), Known.of(LAYOUT, *(each.mask for each in messages)))


def lossy(probability, bit_per_s=1e6, **fields):
    return Wireless(
        path_loss=NoPathLoss(),
        fading=NoFading(),
        rate=FixedRate(link_bit_per_s=bit_per_s),
        losses=BernoulliLoss(probability=probability),
        power=FixedPower(power_w=0.1),
        **fields,
    )


def shim(channel=None, seed=0, wire=None, access=None, device=0):
    air = (channel or Ideal()).bind(DEVICES, seed)
    return Shim(device, wire or WireFormat(), access or IdealAccess(), air)


sends = st.lists(
    st.builds(
        message,
        seed=st.integers(0, 2**32),
        density=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
        receivers=st.lists(st.integers(1, DEVICES - 1), min_size=1, unique=True),
        value_type=st.sampled_from([ValueType.FLOAT32, ValueType.BFLOAT16, ValueType.INT8]),
        mask_known=st.booleans(),
        reliable=st.booleans(),
    ),
    min_size=1,
    max_size=3,
).map(lambda messages: send(*messages))


# ── the ideal channel is no channel ──────────────────────────────────────────────────────────────


@settings(max_examples=30, deadline=None)
@given(sends)
def test_over_the_ideal_channel_all_devices_receive_exactly_what_was_sent(said):
    wire = WireFormat()
    bursts, records = shim(wire=wire).emit(replace(said, now_s=2.5), 7)
    assert [burst.receiver for burst in bursts] == sorted(
        {receiver for each in said.messages for receiver in each.receivers}
    )
    for burst, record in zip(bursts, records, strict=True):
        assert (burst.sender, burst.exchange_index, burst.arrival_s) == (0, 7, 2.5)
        assert (record.airtime_s, record.energy_j, record.late) == (0.0, 0.0, False)
        assert (record.packets_lost, record.lost_bytes, record.retransmitted_bytes) == (0, 0, 0)
        inbox = shim(device=burst.receiver).collect(said, [burst])
        meant = [each for each in said.messages if burst.receiver in each.receivers]
        assert len(inbox.received) == len(meant)
        for got, each in zip(inbox.received, meant, strict=True):
            alone = decode([packet.data for packet in wire.encode(each)], said.known, 2.5)
            assert got.complete
            assert np.array_equal(got.received, each.mask.dense)
            assert np.array_equal(got.values, alone.values)
            if each.value_type is ValueType.FLOAT32:
                assert np.array_equal(got.values[each.mask.indices], each.values)


def test_no_device_waits_for_the_radio_over_the_ideal_channel():
    air = shim()
    for exchange_index in range(3):
        bursts, _ = air.emit(send(message(), now_s=1.0), exchange_index)
        assert {burst.arrival_s for burst in bursts} == {1.0}
    assert air.collect(send(message()), []).transmit_end_s == 1.0


# ── the account ──────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=40, deadline=None)
@given(
    sends,
    st.floats(0, 0.9),
    st.integers(0, 2**32),
    st.sampled_from([1e4, 1e6]),
    st.sampled_from(["wait", "lose"]),
    st.integers(1, 3),
)
def test_what_is_sent_is_delivered_or_lost(said, probability, seed, bit_per_s, late, tries):
    channel = lossy(probability, bit_per_s, late=late, arq_max_tries=tries, acks="free")
    bursts, records = shim(channel, seed).emit(said, 0)
    check_account(records)
    assert sum(record.tx_power_w for record in records) <= 0.1 + 1e-9
    for burst, record in zip(bursts, records, strict=True):
        survivors = sum(len(packets) for packets in split_burst(burst.data))
        assert survivors == record.packets - record.packets_lost
        assert len(burst.data) + IP_UDP_BYTES * survivors == record.delivered_bytes
        assert record.sent_bytes == record.delivered_bytes + record.lost_bytes
        assert record.attempts >= survivors
        assert record.arrival_s == burst.arrival_s == record.start_s + record.airtime_s
        assert record.energy_j == pytest.approx(record.tx_power_w * record.airtime_s)


@pytest.mark.parametrize("cast", ["unicast", "broadcast"])
def test_acknowledgements_are_accounted_apart_and_in_all_sums(cast):
    """Their airtime and energy are the receivers'; the sums of a device are of all that its sends cost."""
    access = OfdmaAccess(bandwidth_hz=1e5, cast=cast)
    air = shim(lossy(0.3, 1e5, arq_max_tries=3), seed=5, access=access)
    _, records = air.emit(send(message(receivers=(1, 2, 3))), 0)
    assert len(records) == 3
    for record in records:
        rounds = record.ack_bytes / ack_bytes(record.packets)
        assert rounds > 1
        assert record.acknowledged_packets == record.packets > record.reliable_packets == 1
        assert record.ack_airtime_s == pytest.approx(8 * record.ack_bytes / 1e5)
        assert record.ack_energy_j == pytest.approx(record.tx_power_w * record.ack_airtime_s)
        at_once = 3 if cast == "broadcast" else 1
        trips_s = (rounds - 1) * (2e-3 + at_once * record.ack_airtime_s / rounds)
        airtime_s = records[0].airtime_s if cast == "broadcast" else record.airtime_s
        assert record.arrival_s == pytest.approx(record.start_s + airtime_s + trips_s)
    inbox = air.collect(send(message()), [])
    assert inbox.transmit_energy_j == pytest.approx(account_of(records).energy_j)
    assert inbox.sent_bytes == account_of(records).total_bytes
    acks_j = [record.ack_energy_j for record in records]
    assert account_of(records).ack_energy_j == pytest.approx(sum(acks_j))


def test_packets_add_up_over_many_bursts():
    air, sent, lost = shim(lossy(0.2), seed=5), 0, 0
    for exchange_index in range(60):
        _, records = air.emit(send(message(receivers=(1,))), exchange_index)
        sent += records[0].packets
        lost += records[0].packets_lost
    header_packets = 60  # reliable, so never among the lost
    assert lost / (sent - header_packets) == pytest.approx(0.2, abs=0.06)


def test_a_record_counts_the_values_and_masks_of_its_messages():
    values = message(density=0.2)
    expert = message(1, 0.1, kind=Kind.EXPERT, mask_known=False, reliable=True)
    statistics = message(2, kind=Kind.STATISTICS, reliable=True)
    wire = WireFormat(value_type="float32")
    _, (both, _) = shim(wire=wire).emit(
        send(values, expert, replace(statistics, receivers=(2,))), 0
    )
    assert (both.value_messages, both.values) == (2, values.mask.count + expert.mask.count)
    assert both.value_tensors == 2 * len(LAYOUT.names)
    assert (both.mask_entries, both.mask_coordinates) == (expert.mask.count, LAYOUT.size)
    assert (both.known_entries, both.known_coordinates) == (values.mask.count, LAYOUT.size)
    assert both.reliable_packets == 1 + len(wire.encode(expert))
    _, (alone, _) = shim().emit(send(statistics), 0)
    assert (alone.values, alone.mask_entries, alone.known_entries) == (0, 0, 0)
    _, (other_type, _) = shim().emit(send(values), 0)
    assert other_type.values == 0


def test_the_classes_of_bytes_are_those_of_the_packets():
    said = message(density=0.2, mask_known=False, receivers=(1,))
    wire = WireFormat()
    packets = wire.encode(said)
    _, (record,) = shim(wire=wire).emit(send(said), 0)
    assert record.packets == record.attempts == len(packets)
    assert record.payload_bytes == sum(packet.payload_bytes for packet in packets)
    assert record.mask_bytes == sum(packet.mask_bytes for packet in packets) > 0
    assert record.checksum_bytes == 4 * len(packets)
    assert record.sent_bytes == sum(len(packet.data) + IP_UDP_BYTES for packet in packets)
    assert (record.traffic, record.round_index, record.messages) == ("in_cluster", 3, 1)


# ── loss and reliability ─────────────────────────────────────────────────────────────────────────


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.1, 1.0]), st.floats(0.05, 0.8))
def test_lost_coordinates_are_exactly_those_of_lost_packets(seed, density, probability):
    said = message(seed, density, receivers=(2,))
    packets = WireFormat().encode(said)[1:]
    counts = [struct.unpack_from("<H", packet.data, 10)[0] for packet in packets]
    carried = np.split(said.mask.indices, np.cumsum(counts)[:-1])
    (burst,), (record,) = shim(lossy(probability), seed).emit(send(said), 0)
    arrived = set(split_burst(burst.data)[0][1:])
    wanted_N = np.full(LAYOUT.size, Coordinate.NOT_SENT, dtype=np.uint8)
    for packet, indices in zip(packets, carried, strict=True):
        state = Coordinate.RECEIVED if packet.data in arrived else Coordinate.LOST
        wanted_N[indices] = state
    (got,) = shim(device=2).collect(send(said), [burst]).received
    assert np.array_equal(got.status, wanted_N)
    assert record.packets_lost == len(packets) - len(arrived)
    assert not got.values[wanted_N != Coordinate.RECEIVED].any()
    kept = got.received[said.mask.indices]
    assert np.array_equal(got.values[said.mask.indices][kept], said.values[kept])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.3, 0.9), st.sampled_from(["wait", "lose"]))
def test_reliable_messages_always_arrive_whole(seed, probability, late):
    said = send(message(seed, 0.3, reliable=True), message(seed + 1, 0.3, reliable=True))
    channel = lossy(probability, bit_per_s=1e4, late=late)
    bursts, records = shim(channel, seed).emit(said, 0)
    for burst, record in zip(bursts, records, strict=True):
        received = shim(device=burst.receiver).collect(said, [burst]).received
        assert len(received) == 2
        assert all(each.complete for each in received)
        assert record.packets_lost == 0
        assert record.ack_bytes > 0


def test_every_burst_has_its_message_headers_however_much_is_lost():
    said = send(message(receivers=(1,)), message(1, receivers=(1,)))
    for seed in range(20):
        (burst,), _ = shim(lossy(0.95), seed).emit(said, 0)
        assert len(shim(device=1).collect(said, [burst]).received) == 2


# ── the radio ────────────────────────────────────────────────────────────────────────────────────


def test_a_second_send_starts_when_the_first_transmission_is_over():
    air = shim(lossy(0.0))
    first, (one, _) = air.emit(send(message(), now_s=1.0), 0)
    _, (other, _) = air.emit(send(message(), now_s=1.0 + one.airtime_s / 2), 1)
    assert one.airtime_s > 0
    assert one.start_s == 1.0
    assert other.start_s == one.start_s + one.airtime_s == first[0].arrival_s
    assert air.collect(send(message()), []).transmit_end_s == other.arrival_s


def test_a_device_that_is_later_than_its_radio_starts_when_it_is_ready():
    air = shim(lossy(0.0))
    air.emit(send(message(), now_s=1.0), 0)
    _, records = air.emit(send(message(), now_s=500.0), 1)
    assert {record.start_s for record in records} == {500.0}


def test_neighbours_share_the_band_at_the_same_time():
    air = shim(lossy(0.0), access=OfdmaAccess(bandwidth_hz=3e4))
    _, records = air.emit(send(message(receivers=(1, 2, 3))), 0)
    assert [record.bandwidth_hz for record in records] == [1e4] * 3
    assert len({record.start_s for record in records}) == 1


def test_a_message_is_serialised_once_for_any_number_of_receivers(monkeypatch):
    encoded = []
    encode = WireFormat.encode
    monkeypatch.setattr(
        WireFormat, "encode", lambda self, said: encoded.append(said) or encode(self, said)
    )
    said = send(message(receivers=(1, 2, 3)), message(1, receivers=(2,)))
    bursts, _ = shim().emit(said, 0)
    assert [id(each) for each in encoded] == [id(each) for each in said.messages]
    assert bursts[0].data == bursts[2].data != bursts[1].data


def test_a_silent_device_puts_nothing_on_the_air():
    assert shim().emit(send(), 0) == ((), ())


# ── order and refusal ────────────────────────────────────────────────────────────────────────────


def test_an_inbox_keeps_the_order_of_the_bursts_which_the_driver_sorts():
    def burst_of(sender, arrival_s):
        said = message(receivers=(0,), source=sender, origin=sender)
        (burst,), _ = shim(device=sender).emit(send(said), 0)
        return replace(burst, arrival_s=arrival_s)

    bursts = [burst_of(3, 1.0), burst_of(1, 2.0), burst_of(2, 1.0)]
    received = shim().collect(send(message()), bursts).received
    assert [(each.arrival_s, each.source) for each in received] == [(1.0, 3), (2.0, 1), (1.0, 2)]


@pytest.mark.parametrize(
    "changes",
    [{"traffic": Traffic.SETUP}, {"round_index": 4}, {"source": 1}],
    ids=["traffic", "round", "source"],
)
def test_messages_of_two_accounts_are_refused(changes):
    with pytest.raises(ProtocolError, match=r"^device 0: got messages .* wanted one traffic"):
        shim().emit(send(message(), replace(message(1), **changes)), 0)


def test_same_send_same_bytes():
    def emitted():
        return shim(lossy(0.5), seed=3).emit(send(message()), 2)

    assert emitted() == emitted()
    other_exchange = shim(lossy(0.5), seed=3).emit(send(message()), 3)
    assert [burst.data for burst in other_exchange[0]] != [burst.data for burst in emitted()[0]]
    assert math.isinf(emitted()[1][0].bandwidth_hz)


def test_an_absent_neighbour_does_not_keep_the_radio_from_others():
    model = lossy(0.0, offline=({"device": 2, "from_s": 0.5, "to_s": 100.0},))
    air = shim(model)
    arrivals = []
    for exchange_index in range(3):
        said = send(message(receivers=(1, 2)), now_s=float(exchange_index))
        bursts, _ = air.emit(said, exchange_index)
        arrivals.append([burst.arrival_s for burst in bursts])
    assert [near < index + 0.5 for index, (near, _) in enumerate(arrivals)] == [True] * 3
    assert [far > 100.0 for _, far in arrivals] == [False, True, True]
    assert bursts[1].start_s == arrivals[1][1]


@pytest.mark.parametrize("cast", ["unicast", "broadcast"])
def test_a_delayed_transmission_has_the_radio_alone(cast):
    """Three messages for a device that is offline until 100 s, and one that is sent meanwhile."""
    model = lossy(0.0, offline=({"device": 2, "from_s": 0.5, "to_s": 100.0},))
    air = shim(model, access=OfdmaAccess(bandwidth_hz=1e6, cast=cast))
    spans = []
    for exchange_index, (now_s, receivers) in enumerate(
        [(1.0, (2,)), (2.0, (2,)), (3.0, (1,)), (4.0, (2,)), (100.0 + 1e-6, (1,))]
    ):
        (burst,), _ = air.emit(send(message(receivers=receivers), now_s=now_s), exchange_index)
        spans.append((burst.start_s, burst.arrival_s))
    assert spans[0][0] == 100.0
    assert spans[2][0] == 3.0  # a device that is online does not wait
    first, second, _, third, last = spans
    assert second[0] == first[1]
    assert third[0] == second[1]
    assert last[0] == third[1]
