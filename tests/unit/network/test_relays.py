"""Messages passed on hop by hop: four devices in a line, each in range of its neighbours only."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_messages import values_message

from emulator.analysis.ledger.what_if import list_alternatives
from emulator.core.records import check_account, check_carried
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import Coordinate, Known, ValueType
from emulator.core.types.steps import Send
from emulator.network.channel.access import OfdmaAccess, TdmaAccess, bind_access
from emulator.network.channel.aloha import AlohaAccess
from emulator.network.channel.availability import Offline
from emulator.network.channel.energy import FixedPower
from emulator.network.channel.fading import NoFading
from emulator.network.channel.ideal import Ideal
from emulator.network.channel.losses import BernoulliLoss
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import PowerLawPathLoss
from emulator.network.channel.placement import FixedPlacement
from emulator.network.channel.rates import ShannonRate
from emulator.network.shim import Shim
from emulator.network.wire import WireFormat

LAYOUT = AdapterLayout(("a", "b"), ((40, 50), (3000,)))
POWER_W, BAND_HZ = 0.04, 1e5
OFDMA = OfdmaAccess(bandwidth_hz=BAND_HZ)
ACCESSES = {
    "ofdma": OFDMA,
    "ofdma broadcast": OfdmaAccess(bandwidth_hz=BAND_HZ, cast="broadcast"),
    "tdma": TdmaAccess(bandwidth_hz=BAND_HZ),
    "tdma reused": TdmaAccess(bandwidth_hz=BAND_HZ, reuse="distance_2"),
    "tdma broadcast": TdmaAccess(bandwidth_hz=BAND_HZ, cast="broadcast"),
    "aloha": AlohaAccess(bandwidth_hz=BAND_HZ, send_probability=0.3),
}


def line(probability=0.0, apart_m=10.0, **fields):
    """20 dB of SNR between neighbours, -4 dB two places away: too little for a packet in the deadline."""
    return Wireless(
        placement=FixedPlacement(positions_m=tuple((apart_m * i, 0.0) for i in range(4))),
        path_loss=PowerLawPathLoss(gain_at_1m=1e-4, exponent=8.0),
        fading=NoFading(),
        rate=ShannonRate(),
        losses=BernoulliLoss(probability=probability),
        power=FixedPower(power_w=POWER_W),
        noise_figure_db=0.0,
        deadline_s=0.2,
        **fields,
    )


def shim(device=0, model=None, access=OFDMA, seed=0):
    channel = (model or line()).bind(4, seed)
    return Shim(device, WireFormat(), bind_access(access, channel, seed), channel)


def message(receivers, seed=0, **changes):
    draws = np.random.default_rng(seed)
    values = draws.standard_normal(LAYOUT.size).astype(np.float32)
    told = {"value_type": ValueType.BFLOAT16, "receivers": tuple(receivers)} | changes
    return values_message(LAYOUT, Mask.full(LAYOUT.size), values, **told)


def send(*messages, now_s=0.0):
    return Send(now_s, messages, (), Known.of(LAYOUT))


def ends(records):
    return [(r.sender, r.receiver, r.origin, r.destination, r.hop) for r in records]


# ── laws ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("access", ACCESSES.values(), ids=ACCESSES)
def test_three_hops_deliver_what_a_direct_link_would(access):
    said = send(message([3]), now_s=2.0)
    ideal = Shim(0, WireFormat(), OFDMA, Ideal().bind(4, 0))
    ((direct,), (once,)) = ideal.emit(said, 5)
    air = shim(access=access)
    (burst,), records = air.emit(said, 5)
    assert burst.data == direct.data
    assert (burst.sender, burst.receiver, burst.exchange_index) == (0, 3, 5)
    assert ends(records) == [(0, 1, 0, 3, 0), (1, 2, 0, 3, 1), (2, 3, 0, 3, 2)]
    check_account(records)
    assert [r.delivered_bytes for r in records] == 3 * [once.delivered_bytes]
    for before, after in pairwise(records):
        assert after.start_s >= before.arrival_s
    assert all(0.0 < r.airtime_s <= r.arrival_s - r.start_s + 1e-9 for r in records)
    assert (burst.start_s, burst.arrival_s) == (records[-1].start_s, records[-1].arrival_s)
    inbox = air.collect(said, [])
    assert inbox.sent_bytes == sum(r.air_bytes + r.ack_bytes for r in records)
    on_air_s = sum(r.airtime_s + r.ack_airtime_s for r in records)
    assert inbox.transmit_energy_j == pytest.approx(POWER_W * on_air_s)
    assert inbox.transmit_end_s == records[0].arrival_s
    (received,) = shim(3).collect(said, [burst]).received
    assert (received.source, received.complete) == (0, True)


@pytest.mark.parametrize("access", [ACCESSES["ofdma"], ACCESSES["tdma broadcast"]])
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    probability=st.floats(0.0, 0.7),
    tries=st.integers(1, 3),
    late=st.sampled_from(["wait", "lose"]),
    receivers=st.lists(
        st.lists(st.integers(1, 3), min_size=1, unique=True), min_size=1, max_size=3
    ),
)
def test_each_hop_carries_what_survived_the_one_before(
    access, seed, probability, tries, late, receivers
):
    model = line(probability, arq_max_tries=tries, late=late)
    said = send(*(message(each, index) for index, each in enumerate(receivers)))
    air = shim(0, model, access, seed)
    bursts, records = air.emit(said, 0)
    check_account(records)
    assert [burst.receiver for burst in bursts] == sorted({i for each in receivers for i in each})
    check_carried(
        0, records, [sum(len(b.data) for b in bursts if b.receiver == i) for i in range(4)]
    )
    arrived = {(r.receiver, r.hop, r.packets - r.packets_lost, r.arrival_s) for r in records}
    for r in records:
        if r.hop:
            before = [a for a in arrived if a[:3] == (r.sender, r.hop - 1, r.packets)]
            assert any(arrival_s <= r.start_s for *_, arrival_s in before)
    for burst in bursts:
        got = shim(burst.receiver, model).collect(said, [burst]).received
        sent = [m for m in said.messages if burst.receiver in m.receivers]
        assert len(got) == len(sent)
        for one, meant in zip(got, sent, strict=True):
            there = one.status == Coordinate.RECEIVED
            assert np.allclose(one.values[there], meant.values[there], rtol=2**-7)
    assert air.collect(said, []).sent_bytes == sum(r.air_bytes + r.ack_bytes for r in records)


# ── who passes what on ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("access", [ACCESSES["ofdma"], ACCESSES["ofdma broadcast"]])
def test_what_several_get_goes_once_over_the_hops_they_share(access):
    bursts, records = shim(access=access).emit(send(message([1, 2, 3])), 0)
    assert ends(records) == [(0, 1, 0, 1, 0), (1, 2, 0, 2, 1), (2, 3, 0, 3, 2)]
    assert len({burst.data for burst in bursts}) == 1
    assert all(record.last_hop for record in records)


def test_a_relay_that_is_no_receiver_passes_on_to_the_lowest_of_several():
    _, records = shim(1).emit(send(message([0, 3], source=1)), 0)
    assert ends(records) == [(1, 0, 1, 0, 0), (1, 2, 1, 3, 0), (2, 3, 1, 3, 1)]
    assert [record.first_hop for record in records] == [True, True, False]


def test_other_contents_share_the_first_senders_band_and_no_hop():
    said = send(message([1]), message([3], seed=1))
    _, records = shim().emit(said, 0)
    assert ends(records) == [
        (0, 1, 0, 1, 0), (0, 1, 0, 3, 0), (1, 2, 0, 3, 1), (2, 3, 0, 3, 2)
    ]  # fmt: skip
    assert [r.bandwidth_hz for r in records] == [BAND_HZ / 2, BAND_HZ / 2, BAND_HZ, BAND_HZ]


def test_a_relay_passes_a_senders_messages_on_in_turn():
    air = shim()
    _, first = air.emit(send(message([3])), 0)
    _, second = air.emit(send(message([2]), now_s=first[0].arrival_s), 1)
    assert second[0].start_s == first[0].arrival_s
    assert second[1].start_s == max(second[0].arrival_s, first[1].arrival_s)


def test_a_hop_waits_for_a_relay_that_is_offline():
    model = line(offline=(Offline(device=1, from_s=0.0, to_s=3.0),))
    _, records = shim(model=model).emit(send(message([2])), 0)
    assert records[0].start_s == 3.0
    assert records[0].late
    assert records[1].start_s == records[0].arrival_s


def test_a_relay_sends_in_its_own_slots():
    _, records = shim(access=ACCESSES["tdma"]).emit(send(message([3])), 0)
    for r in records:  # four slots of 10 ms; the last bit leaves in one of the sender's
        assert r.sender * 0.01 <= r.arrival_s % 0.04 + 1e-9 <= (r.sender + 1) * 0.01 + 2e-9


def test_losses_of_what_a_link_carries_beside_each_other_are_independent():
    """What device 1 sends itself to 2, and what it passes on to 2 in the same exchange."""
    model = line(0.3)
    first, relay = shim(0, model), shim(1, model)
    lost = []
    for exchange in range(40):
        _, (before, passed_on) = first.emit(send(message([2])), exchange)
        _, (own,) = relay.emit(send(message([2], source=1, origin=1)), exchange)
        if not before.packets_lost:
            lost.append((passed_on.packets_lost, own.packets_lost))
    assert any(passed_on != own for passed_on, own in lost)


class Later:
    """A channel that is another one from a time on."""

    def __init__(self, before, after, from_s):
        self._before, self._after, self._from_s = before, after, from_s

    def __getattr__(self, name):
        return getattr(self._after, name)

    def at(self, time_s):
        return (self._after if time_s >= self._from_s else self._before).at(time_s)


def test_the_path_is_that_of_the_moment_of_sending():
    channel = Later(line().bind(4, 0), line(apart_m=3.0).bind(4, 0), from_s=5.0)
    air = Shim(0, WireFormat(), OFDMA, channel)
    _, before = air.emit(send(message([3]), now_s=1.0), 0)
    _, after = air.emit(send(message([3]), now_s=5.0), 1)
    assert [r.receiver for r in before] == [1, 2, 3]
    assert [r.receiver for r in after] == [3]


def test_without_a_path_the_receiver_is_tried_directly():
    _, records = shim(model=line(apart_m=40.0)).emit(send(message([2])), 0)
    assert ends(records) == [(0, 2, 0, 2, 0)]
    assert records[0].late


# ── what else reads the records ──────────────────────────────────────────────────────────────────


def test_the_account_of_other_codecs_shrinks_with_what_is_passed_on():
    """Values as float32 cost about twice the payload of every hop, whatever was lost on the way."""
    _, records = shim(model=line(0.3), seed=2).emit(send(message([3])), 0)
    payloads = [r.payload_bytes for r in records]
    assert payloads[0] > payloads[1] > payloads[2]
    assert [r.values for r in records] == [payload // 2 for payload in payloads]
    total = sum(r.air_bytes + r.ack_bytes for r in records)
    told = {a.label: a for a in list_alternatives(records, WireFormat())}
    assert told["values as bfloat16"].total_bytes == total
    assert told["values as float32"].total_bytes == pytest.approx(total + sum(payloads), rel=0.05)
    assert "later hops carry what reached them" in told["everything until it arrives"].assumes


def test_what_is_passed_on_is_not_what_the_relay_itself_sends(burst):
    """For the alternative of a broadcast, which joins what one device sends alike."""
    own = burst(1, 2, origin=1, destination=2, hop=0)
    passed_on = burst(1, 2, origin=0, destination=2, hop=1)
    told = {a.label: a.total_bytes for a in list_alternatives([own, passed_on], WireFormat())}
    assert told["broadcast: once for all receivers of equal messages"] == 2 * (
        own.air_bytes + own.ack_bytes
    )
