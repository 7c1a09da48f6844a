"""Acknowledgements: which packets have them, their bytes, airtime, energy and round trips."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.core.types.packet import ack_bytes
from emulator.core.types.transmission import Grant
from emulator.core.units import linear_from_db, noise_w
from emulator.network.channel.access import Slots
from emulator.network.channel.energy import FixedPower
from emulator.network.channel.fading import NoFading, RayleighFading
from emulator.network.channel.losses import BernoulliLoss
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import NoPathLoss
from emulator.network.channel.rates import NrCqiRate

sys.path.append(str(Path(__file__).parents[4] / "support"))

from toy_air import GRANT, PACKET_BITS, packets_of, slow_link

LOSSY = BernoulliLoss(probability=0.4)
TURN_S = 0.002


def _link(bit_per_s=1e6, **fields):
    fields = {"acks": "charged", "ack_turnaround_s": TURN_S, "losses": LOSSY} | fields
    return slow_link(bit_per_s, **fields)


def _ack_s(packets, bit_per_s=1e6):
    return 8 * ack_bytes(packets) / bit_per_s


@pytest.mark.parametrize("tries", [1, 3])
def test_what_may_be_repeated_is_acknowledged(tries):
    """The reliable packets alone, or all of them where every packet may be repeated."""
    reliable = (0, 3, 7, 8, 9, 12)
    packets = packets_of(20, reliable)
    (reception,) = _link(arq_max_tries=tries).transmit(packets, GRANT)
    acked = list(range(20)) if tries > 1 else list(reliable)
    rounds = int(reception.attempts[acked].max())
    assert rounds > 1
    assert reception.acks.packets == len(acked)
    assert reception.acks.num_bytes == rounds * ack_bytes(len(acked))
    assert reception.acks.airtime_s == pytest.approx(rounds * _ack_s(len(acked)))
    assert reception.acks.energy_j == pytest.approx(0.1 * reception.acks.airtime_s)


def test_what_is_sent_once_is_not_acknowledged():
    (reception,) = _link().transmit(packets_of(20), GRANT)
    assert reception.acks.num_bytes == reception.acks.airtime_s == reception.acks.energy_j == 0.0
    assert reception.arrival_s == GRANT.start_s + reception.airtime_s


def test_every_repetition_waits_for_a_round_trip():
    packets = packets_of(20, reliable=(3,))
    (free,) = _link(acks="free", arq_max_tries=3).transmit(packets, GRANT)
    (charged,) = _link(arq_max_tries=3).transmit(packets, GRANT)
    trips = int(free.attempts.max()) - 1
    waits_s = trips * (2 * TURN_S + _ack_s(20))
    assert trips > 0
    assert charged.arrival_s == pytest.approx(free.arrival_s + waits_s)
    assert charged.airtime_s == free.airtime_s  # the sender listens while it waits
    assert np.array_equal(charged.attempts, free.attempts)
    assert np.array_equal(charged.arrived, free.arrived)
    assert free.acks.num_bytes == charged.acks.num_bytes > 0
    assert free.acks.airtime_s == free.acks.energy_j == 0.0


def test_the_sender_does_not_wait_for_the_last_acknowledgement():
    (reception,) = _link(losses=BernoulliLoss(probability=0.0)).transmit(packets_of(3, (0,)), GRANT)
    assert reception.arrival_s == pytest.approx(GRANT.start_s + 3 * PACKET_BITS / 1e6)
    assert reception.acks.num_bytes == ack_bytes(1)


def test_receivers_of_a_broadcast_answer_one_after_the_other():
    grant = replace(GRANT, receivers=(1, 2))
    packets = packets_of(10, reliable=tuple(range(10)))
    (first, second) = _link(devices=3).transmit(packets, grant)
    (free, _) = _link(devices=3, acks="free").transmit(packets, grant)
    trips = int(first.attempts.max()) - 1
    assert first.acks == second.acks
    assert first.acks.airtime_s == pytest.approx((trips + 1) * _ack_s(10))
    assert first.arrival_s == second.arrival_s
    assert first.arrival_s == pytest.approx(free.arrival_s + trips * (2 * TURN_S + 2 * _ack_s(10)))


def test_circuits_of_the_receiver_count_too():
    (reception,) = _link(circuit_power_w=0.05).transmit(packets_of(4, (0,)), GRANT)
    assert reception.acks.energy_j == pytest.approx(0.15 * reception.acks.airtime_s)


def test_round_trips_take_the_own_time_of_a_sender_in_slots():
    slots = Slots(0.0, 0.01, 0.04)
    grant = replace(GRANT, start_s=0.0, slots=slots)
    packets = packets_of(8, reliable=tuple(range(8)))
    (charged,) = _link().transmit(packets, grant)
    (free,) = _link(acks="free").transmit(packets, grant)
    trips = int(free.attempts.max()) - 1
    own_s = slots.carrying_s(charged.arrival_s) - slots.carrying_s(free.arrival_s)
    assert own_s == pytest.approx(trips * (2 * TURN_S + _ack_s(8)))


def test_an_acknowledgement_has_the_rate_of_the_last_bits():
    band_hz, rate = 25e3, NrCqiRate()
    channel = Wireless(
        path_loss=NoPathLoss(),
        fading=RayleighFading(coherence_s=0.05),
        rate=rate,
        power=FixedPower(power_w=0.1),
    ).bind(2, seed=1)
    power_w = linear_from_db(0.0) * noise_w(band_hz, 0.0)
    for start_s in np.arange(0.013, 3.0, 0.37):
        grant = Grant(0, (1,), float(start_s), band_hz, power_w, 0)
        (reception,) = channel.transmit(packets_of(3, reliable=(0,)), grant)
        block = int((reception.arrival_s - start_s + start_s % 0.05) / 0.05)
        bit_per_s = rate.bit_per_s(float(channel.signal.snr(grant, block)[0]), band_hz)
        assert bit_per_s > 0.0
        assert reception.acks.airtime_s == pytest.approx(_ack_s(1, bit_per_s))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.sampled_from([0.0, 0.3, 0.6]))
def test_packets_that_are_not_lost_arrive_by_the_deadline_with_their_round_trips(
    exchange_index, count, probability
):
    fields = {"losses": BernoulliLoss(probability=probability), "arq_max_tries": 3}
    grant = replace(GRANT, exchange_index=exchange_index)
    packets = packets_of(count)
    channel = _link(30 * PACKET_BITS, late="lose", ack_turnaround_s=0.05, **fields)
    (reception,) = channel.transmit(packets, grant)
    assert reception.arrival_s - grant.start_s <= 1.0 + 1e-9
    (waited,) = _link(30 * PACKET_BITS, ack_turnaround_s=0.05, **fields).transmit(packets, grant)
    assert reception.late == waited.late
    assert not (reception.arrived & ~waited.arrived).any()
    if not waited.late:
        assert np.array_equal(reception.arrived, waited.arrived)
        assert reception.arrival_s == waited.arrival_s


def test_round_trips_alone_can_make_a_transfer_late():
    channel = _link(100 * PACKET_BITS, ack_turnaround_s=0.4, arq_max_tries=3)
    receptions = [
        channel.transmit(packets_of(5), replace(GRANT, exchange_index=exchange))[0]
        for exchange in range(30)
    ]
    rounds = [int(reception.attempts.max()) for reception in receptions]
    assert set(rounds) == {1, 2, 3}
    assert [reception.late for reception in receptions] == [r > 2 for r in rounds]


def test_nothing_sent_nothing_acknowledged():
    (reception,) = _link().transmit((), GRANT)
    assert (reception.acks.num_bytes, reception.acks.airtime_s) == (0, 0.0)
    dead = Wireless(fading=NoFading(), power=FixedPower(power_w=0.1), arq_max_tries=2).bind(2, 0)
    (reception,) = dead.transmit(packets_of(2), Grant(0, (1,), 0.0, 1e4, 0.0, 0))
    assert not reception.arrived.any()
    assert (reception.acks.num_bytes, reception.acks.airtime_s) == (0, 0.0)
    assert math.isfinite(reception.arrival_s)
