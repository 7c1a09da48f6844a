"""Slotted ALOHA against its closed form, and its times against slots counted one by one."""

from functools import cache

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.core.types.packet import Packet, air_bytes
from emulator.core.types.transmission import Request
from emulator.network.channel.aloha import CHUNK_SLOTS, AlohaAccess
from emulator.network.channel.energy import FixedPower
from emulator.network.channel.fading import NoFading
from emulator.network.channel.flow import BlockFlow, Blocks
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import NoPathLoss
from emulator.network.channel.rates import FixedRate

SLOT_S = 0.01
CHUNK_S = CHUNK_SLOTS * SLOT_S
LINE = nx.to_numpy_array(nx.path_graph(5)) > 0.0


def _everybody(devices):
    return ~np.eye(devices, dtype=bool)


def _bound(in_range_MM, probability, seed=1, slot_s=SLOT_S):
    access = AlohaAccess(bandwidth_hz=1e6, slot_s=slot_s, send_probability=probability)
    return access.bind(in_range_MM, seed)


def _turns(schedule, sender, *receivers, ready_s=0.0):
    requests = [Request(sender, (r,), 1000, ready_s, 0) for r in receivers]
    return [grant.slots for grant in schedule.plan(requests)]


@cache
def _sends(schedule, chunks):
    """Whether each device sends in each slot [M, S]."""
    return np.array(
        [
            np.concatenate([schedule.sends(device, chunk) for chunk in range(chunks)])
            for device in range(len(schedule.in_range_of))
        ]
    )


def _carries(schedule, sender, receiver, chunks):
    """Slot by slot, by the rule [S]."""
    sends_MS = _sends(schedule, chunks)
    others = set(schedule.in_range_of[receiver]) - {sender}
    return np.array(
        [
            sends_S[sender] and not sends_S[receiver] and not any(sends_S[i] for i in others)
            for sends_S in sends_MS.T
        ]
    )


# ── the closed form ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("in_range_MM", "link", "disturbers"),
    [
        (_everybody(2), (1, 0), 1),
        (_everybody(8), (3, 5), 7),
        (LINE, (1, 0), 1),  # only 1 is in range of 0
        (LINE, (1, 2), 2),  # 3 is in range of 2 as well
        (LINE, (0, 2), 3),  # out of range, and both neighbours of 2 interfere
    ],
)
def test_the_share_that_carries_is_p_times_1_minus_p_to_the_n(in_range_MM, link, disturbers):
    for probability in (0.1, 0.35):
        (turns,) = _turns(_bound(in_range_MM, probability), *link)
        slots = 60 * CHUNK_SLOTS
        good = round(turns.carrying_s(60 * CHUNK_S) / SLOT_S)
        sent = good + round(turns.in_vain_s(60 * CHUNK_S) / SLOT_S)
        wanted = probability * (1.0 - probability) ** disturbers
        assert stats.binomtest(good, slots, wanted).pvalue > 1e-3
        assert stats.binomtest(sent, slots, probability).pvalue > 1e-3


def test_the_expected_share_against_the_references(references):
    for row in references("closed_forms")["slotted_aloha_link"]["rows"]:
        schedule = _bound(_everybody(row["receiver_degree"] + 1), row["p"])
        assert schedule.share(1)[1] == pytest.approx(row["p_link"], abs=1e-8)


def test_most_slots_carry_at_p_of_one_over_the_number_of_senders():
    factors = (0.4, 0.7, 1.0, 1.4, 2.5)
    through = [
        _turns(_bound(_everybody(8), factor / 8), 0, 1)[0].carrying_s(150 * CHUNK_S)
        for factor in factors
    ]
    assert factors[int(np.argmax(through))] == 1.0


def test_the_expected_share_is_that_of_the_receiver_with_most_devices_in_range():
    schedule = _bound(LINE, 0.25)
    assert schedule.share(1) == (1e6, 0.25 * 0.75**2)
    assert schedule.share(3) == (1e6, pytest.approx(0.25 * 0.75**2 / 3))
    assert _bound(_everybody(5), 0.2).share(1)[1] == pytest.approx(0.2 * 0.8**4)
    assert not schedule.powers_add_up


# ── collisions ───────────────────────────────────────────────────────────────────────────────────


@given(st.integers(2, 6), st.floats(0.2, 1.0), st.integers(0, 1000))
def test_no_slot_carries_while_the_receiver_or_a_device_in_its_range_sends(devices, density, seed):
    in_range_MM = nx.to_numpy_array(nx.gnp_random_graph(devices, density, seed=seed)) > 0.0
    schedule = _bound(in_range_MM, 0.3, seed)
    (turns,) = _turns(schedule, 0, 1)
    carries_S = _carries(schedule, 0, 1, 1)
    ends_s = (np.arange(CHUNK_SLOTS) + 1) * SLOT_S
    got_S = np.diff([turns.carrying_s(end_s) for end_s in (0.0, *ends_s)]) > 0.5 * SLOT_S
    vain_S = np.diff([turns.in_vain_s(end_s) for end_s in (0.0, *ends_s)]) > 0.5 * SLOT_S
    assert np.array_equal(got_S, carries_S)
    assert np.array_equal(got_S | vain_S, _sends(schedule, 1)[0])
    assert not (got_S & _sends(schedule, 1)[1]).any()


def test_same_requests_same_grants_and_another_seed_other_ones():
    requests = [Request(0, (r,), 1000, 77.7, 4) for r in (1, 2)]
    one, same = (_bound(LINE, 0.2, seed=5) for _ in range(2))
    late_first = one.plan(requests)[0].slots.carrying_s(5000.0)
    assert one.plan(requests) == same.plan(requests)
    assert same.plan(requests)[0].slots.carrying_s(90.0) > 0.0
    assert same.plan(requests)[0].slots.carrying_s(5000.0) == late_first
    other = _bound(LINE, 0.2, seed=6).plan(requests)
    assert other[0].slots.carrying_s(5000.0) != late_first


def test_more_devices_leave_the_draws_of_others_alone():
    few, many = (_bound(_everybody(devices), 0.2) for devices in (3, 7))
    assert np.array_equal(few.sends(2, 9), many.sends(2, 9))
    assert not np.array_equal(few.sends(2, 9), few.sends(2, 10))
    assert not np.array_equal(few.sends(2, 9), few.sends(1, 9))


# ── times ────────────────────────────────────────────────────────────────────────────────────────


@given(
    st.floats(0.0, 25.0),
    st.integers(1, 3),
    st.lists(st.floats(1e-4, 0.5), min_size=1, max_size=5),
    st.integers(0, 20),
)
def test_a_transfer_ends_when_enough_slots_have_carried(start_s, receivers, marks_s, seed):
    schedule = _bound(_everybody(4), 0.3, seed)
    all_turns = _turns(schedule, 0, *range(1, receivers + 1), ready_s=start_s)
    turns, part_s = all_turns[-1], SLOT_S / receivers
    carried_s = np.sort(np.array(marks_s))
    flow = BlockFlow(lambda block: 1.0, Blocks(np.inf), turns, start_s)
    ends_s = start_s + flow.finish_times_s(carried_s)
    carries_S = _carries_once(seed, receivers)
    wanted = []
    for mark_s in carried_s:
        left_s = mark_s
        for slot in np.flatnonzero(carries_S):
            from_s = max(slot * SLOT_S + (receivers - 1) * part_s, start_s)
            to_s = (slot + 1) * SLOT_S
            if to_s > from_s:
                if left_s <= (to_s - from_s) * (1.0 + 1e-9):
                    wanted.append(from_s + left_s)
                    break
                left_s -= to_s - from_s
    assert ends_s == pytest.approx(wanted, abs=1e-9)
    assert turns.times_at(carried_s) == pytest.approx(
        [turns.times_at(np.array([mark_s]))[0] for mark_s in carried_s]
    )


@cache
def _carries_once(seed, receiver):
    return _carries(_bound(_everybody(4), 0.3, seed), 0, receiver, 8)


@given(st.floats(1e-3, 30.0), st.integers(1, 3))
def test_time_that_carries_and_emulated_time_are_inverse(carrying_s, receivers):
    turns = _turns(_bound(LINE, 0.2), 2, *range(receivers), ready_s=333.0)[0]
    (time_s,) = turns.times_at(np.array([carrying_s]))
    assert turns.carrying_s(float(time_s)) == pytest.approx(carrying_s, rel=1e-9)
    assert turns.carrying_s(float(time_s) - 1e-3 * turns.part_s) < carrying_s


def test_bits_by_the_end_of_a_transfer_are_its_bits_whatever_the_rate_does():
    (turns,) = _turns(_bound(LINE, 0.2), 1, 2, ready_s=7.0)
    rates = [1e3, 0.0, 5e3, 20.0]
    flow = BlockFlow(lambda block: rates[block % 4], Blocks(0.07), turns, 7.003)
    bits_K = np.geomspace(1.0, 2000.0, 30)
    ends_K = flow.finish_times_s(bits_K)
    assert np.all(np.diff(ends_K) > 0.0)
    assert [flow.bits_within(float(end_s)) for end_s in ends_K] == pytest.approx(bits_K)


def test_receivers_share_the_slots_of_a_sender_in_equal_parts():
    schedule = _bound(_everybody(4), 0.2)
    (alone,) = _turns(schedule, 0, 3)
    parts = _turns(schedule, 0, 1, 2, 3)
    end_s = 9 * CHUNK_S
    assert parts[2].carrying_s(end_s) == pytest.approx(alone.carrying_s(end_s) / 3)
    on_air_s = [part.carrying_s(end_s) + part.in_vain_s(end_s) for part in parts]
    assert on_air_s == pytest.approx([_sends(schedule, 9)[0].sum() * SLOT_S / 3] * 3)
    assert [part.offset_s for part in parts] == pytest.approx([0.0, SLOT_S / 3, 2 * SLOT_S / 3])


# ── on the air ───────────────────────────────────────────────────────────────────────────────────


def _air(devices, **fields):
    return Wireless(
        path_loss=NoPathLoss(), fading=NoFading(), circuit_power_w=0.05, **fields
    ).bind(devices, seed=4)  # fmt: skip


def _packets(count):
    return (Packet(bytes(1472), 20, 4, 0, 1448, reliable=False),) * count


def _fixed(**fields):
    """4 slots for each packet of 1500 bytes."""
    rate = FixedRate(link_bit_per_s=300e3)
    return _air(4, rate=rate, power=FixedPower(power_w=0.1), **fields)


def _speak(channel, schedule, packets, ready_s):
    request = Request(0, (1,), air_bytes(packets), ready_s, 0)
    (grant,) = channel.set_powers(schedule.plan([request]), [request])
    (reception,) = channel.transmit(packets, grant)
    return grant, reception


@pytest.mark.parametrize("first_slot", [0, 5, 1023, 3000])
def test_airtime_and_energy_are_those_of_all_slots_tried(first_slot):
    channel, schedule = _fixed(), _bound(_everybody(4), 0.3)
    grant, reception = _speak(channel, schedule, _packets(5), first_slot * SLOT_S)
    carries_S = _carries(schedule, 0, 1, 4)
    last_slot = first_slot + np.flatnonzero(carries_S[first_slot:])[19]
    assert reception.arrival_s == pytest.approx((last_slot + 1) * SLOT_S)
    tried = _sends(schedule, 4)[0][first_slot : last_slot + 1].sum()
    assert tried > 20
    assert reception.airtime_s == pytest.approx(tried * SLOT_S)
    assert channel.energy_j(grant, reception) == pytest.approx(0.15 * tried * SLOT_S)
    assert reception.arrived.all()
    assert reception.attempts.tolist() == [1] * 5  # collisions are no tries of packets


def test_a_transfer_that_is_cut_off_has_tried_until_the_deadline():
    packets = _packets(5)
    for first_slot in range(0, 3000, 37):
        channel, schedule = _fixed(late="lose", deadline_s=0.25), _bound(_everybody(4), 0.3)
        start_s = first_slot * SLOT_S
        _, reception = _speak(channel, schedule, packets, start_s)
        slots = slice(first_slot, first_slot + 25)
        good = int(_carries_once(1, 1)[slots].sum())
        assert good < 20
        assert reception.late
        assert reception.arrived.tolist() == [4 * (i + 1) <= good for i in range(5)]
        assert reception.arrival_s - start_s == pytest.approx(0.25)
        sends_S = _sends(schedule, 8)[0][slots]
        assert reception.airtime_s == pytest.approx(sends_S.sum() * SLOT_S)


def test_least_power_meets_the_deadline_with_the_slots_that_will_carry():
    channel, schedule = _air(4, max_power_w=10.0), _bound(_everybody(4), 0.25)
    packets = _packets(2)
    for ready_s in (0.0, 3.141, 20.0):
        grant, reception = _speak(channel, schedule, packets, ready_s)
        own_s = [grant.slots.carrying_s(t) for t in (ready_s, ready_s + 1.0)]
        bits_per_hz = 8 * air_bytes(packets) / (own_s[1] - own_s[0]) / 1e6
        needed_snr = 2.0**bits_per_hz - 1.0
        assert channel.signal.snr(grant, 0)[0] == pytest.approx(needed_snr)
        assert not reception.late
        assert grant.slots.carrying_s(reception.arrival_s) == pytest.approx(own_s[1])


# ── refused ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("devices", "probability"), [(40, 0.5), (3, 1e-6), (900, 0.9999)])
def test_a_network_in_which_nothing_gets_through_is_refused(devices, probability):
    wanted = f"{1 / devices:.2g}"
    with pytest.raises(ScenarioError, match=rf"send_probability: got .* about {wanted}"):
        _bound(_everybody(devices), probability)


def test_a_transfer_without_end_is_given_up():
    (turns,) = _turns(_bound(_everybody(2), 0.5), 0, 1)
    assert turns.carrying_s(np.inf) == np.inf
    with pytest.raises(EmulatorError, match="of more than 16777216 slots"):
        turns.carrying_s(1e9)
