"""The whole channel: Eq 25, exact arrival, reliability, lateness, reciprocity, the ideal channel."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.core.types.transmission import Grant
from emulator.core.units import linear_from_db, noise_w
from emulator.network.channel.access import IdealAccess, OfdmaAccess, TdmaAccess
from emulator.network.channel.energy import FixedPower, LeastPower, transmit_energy_j
from emulator.network.channel.fading import NoFading, RayleighFading
from emulator.network.channel.ideal import Ideal
from emulator.network.channel.losses import BernoulliLoss
from emulator.network.channel.model import Wireless
from emulator.network.channel.placement import FixedPlacement
from emulator.network.channel.rates import FixedRate, ShannonRate

CONFIGS = Path(__file__).resolve().parents[4] / "configs/channels"

sys.path.append(str(Path(__file__).parents[4] / "support"))

from toy_air import BAND_HZ, GRANT, PACKET_BITS, packets_of, send_by_access, slow_link  # noqa: E402

# ── geometry ─────────────────────────────────────────────────────────────────────────────────────


def test_gains_are_reciprocal_and_follow_the_distance():
    placement = FixedPlacement(positions_m=((0.0, 0.0), (100.0, 0.0), (0.0, 200.0)))
    channel = Wireless(placement=placement).bind(3, seed=0)
    assert np.array_equal(channel.at(0.0).mean_gain, channel.at(0.0).mean_gain.T)
    assert np.diag(channel.at(0.0).mean_gain).tolist() == [0.0] * 3
    assert channel.at(0.0).mean_gain[0, 1:] == pytest.approx([1e-8, 2.5e-9])


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(0, 50), st.integers(0, 20))
def test_both_directions_of_a_link_see_the_same_snr(seed, exchange_index, block):
    channel = Wireless().bind(4, seed)
    forth = Grant(1, (3,), 5.2, 1e4, 0.1, exchange_index)
    back = Grant(3, (1,), 5.9, 1e4, 0.1, exchange_index + 1)
    assert channel.signal.snr(forth, block)[0] == channel.signal.snr(back, block)[0]


def test_twice_the_band_at_the_same_power_is_half_the_snr():
    channel = Wireless(fading=NoFading(), noise_figure_db=7.0).bind(2, seed=0)
    narrow = channel.signal.snr(Grant(0, (1,), 0.0, 1e6, 0.1, 0), 0)[0]
    assert channel.signal.snr(Grant(0, (1,), 0.0, 2e6, 0.1, 0), 0)[0] == narrow / 2.0
    expected = 0.1 * channel.at(0.0).mean_gain[0, 1] / (10 ** (-16.7 - 3.0) * 1e6)
    assert narrow == pytest.approx(expected)
    loud = Wireless(fading=NoFading(), noise_figure_db=7.0, interference_w=noise_w(1e6, 7.0))
    disturbed = loud.bind(2, seed=0).signal.snr(Grant(0, (1,), 0.0, 1e6, 0.1, 0), 0)[0]
    assert disturbed == pytest.approx(narrow / 2.0)


# ── Eq 25 ────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 5),
    st.integers(1, 8),
    st.sampled_from([0.0, 3.0]),
    st.sampled_from([0.3, 1.0, 4.0]),
)
def test_least_power_meets_the_deadline_exactly(seed, neighbours, count, gap_db, deadline_s):
    channel = Wireless(
        rate=ShannonRate(gap_db=gap_db),
        fading=RayleighFading(coherence_s=deadline_s, blocks="per_exchange"),
        deadline_s=deadline_s,
        max_power_w=1e15,
    ).bind(6, seed)
    packets = packets_of(count)
    for grant in send_by_access(channel, 0, range(1, neighbours + 1), packets):
        (reception,) = channel.transmit(packets, grant)
        assert reception.airtime_s == pytest.approx(deadline_s, rel=1e-9)
        assert reception.arrival_s == 10.0 + reception.airtime_s
        assert not reception.late


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 20_000))
def test_required_power_is_eq_25_as_printed(seed, neighbours, num_bytes):
    channel = Wireless(noise_figure_db=5.0, deadline_s=2.0).bind(4, seed)
    power_w = channel.at(0.0).required_power_w(num_bytes, 1e5 / neighbours, 1.0)
    noise = 10 ** ((-174.0 - 30.0 + 5.0) / 10) * 1e5 / neighbours
    snr = 2.0 ** (8 * num_bytes * neighbours / (1e5 * 2.0)) - 1.0
    expected = noise * snr / np.where(np.eye(4), 1.0, channel.at(0.0).mean_gain) * (1 - np.eye(4))
    assert power_w == pytest.approx(expected, rel=1e-6)


def test_required_power_takes_one_size_for_each_sender_and_overflows_to_infinity():
    channel = Wireless().bind(3, seed=1)
    mixed = channel.at(0.0).required_power_w(np.array([500, 1000, 10**9]), BAND_HZ / 2, 1.0)
    assert np.array_equal(mixed[0], channel.at(0.0).required_power_w(500, BAND_HZ / 2, 1.0)[0])
    assert np.array_equal(mixed[1], channel.at(0.0).required_power_w(1000, BAND_HZ / 2, 1.0)[1])
    assert mixed[2].tolist() == [math.inf, math.inf, 0.0]


def test_powers_stay_below_the_limit_and_keep_their_proportions():
    model = Wireless(max_power_w=0.2)
    channel = model.bind(6, seed=3)
    generous = model.model_copy(update={"max_power_w": 1e12}).bind(6, seed=3)
    packets = packets_of(11)
    limited = [grant.tx_power_w for grant in send_by_access(channel, 0, range(1, 6), packets)]
    wanted = [grant.tx_power_w for grant in send_by_access(generous, 0, range(1, 6), packets)]
    assert sum(wanted) > 0.2
    assert sum(limited) == pytest.approx(0.2, rel=1e-12)
    assert np.array(limited) / limited[0] == pytest.approx(np.array(wanted) / wanted[0])


def test_a_hopeless_size_still_gives_finite_powers():
    channel = Wireless().bind(3, seed=3)
    packets = packets_of(10_000)
    powers = [grant.tx_power_w for grant in send_by_access(channel, 0, (1, 2), packets)]
    assert sum(powers) == pytest.approx(0.2)
    assert min(powers) > 0.0


def test_a_capped_rate_asks_for_no_more_than_its_cap_needs():
    channel = Wireless(rate=ShannonRate(max_bit_per_s_hz=2.0), fading=NoFading()).bind(2, seed=0)
    (grant,) = send_by_access(channel, 0, (1,), packets_of(50))
    assert channel.signal.snr(grant, 0)[0] == pytest.approx(3.0)
    assert channel.at(0.0).required_power_w(75_000, BAND_HZ, 1.0)[0, 1] == math.inf


def test_fixed_power_is_shared_equally_whatever_is_asked():
    channel = Wireless(power=FixedPower(power_w=0.12)).bind(4, seed=0)
    grants = send_by_access(channel, 0, (1, 2, 3), packets_of(2))
    assert [grant.tx_power_w for grant in grants] == pytest.approx([0.04] * 3)


def test_in_range_means_one_packet_in_time_at_full_power():
    placement = FixedPlacement(positions_m=((0.0, 0.0), (900.0, 0.0), (15000.0, 0.0)))
    channel = Wireless(placement=placement, noise_figure_db=29.0).bind(3, seed=0)
    capacity = [
        2e3 * math.log2(1 + 0.2 * gain / noise_w(2e3, 29.0))
        for gain in channel.at(0.0).mean_gain[0, 1:]
    ]
    assert capacity[0] > PACKET_BITS > capacity[1]
    near = channel.at(0.0).in_range(2e3, 1.0)
    assert near[0].tolist() == [False, True, False]
    assert np.array_equal(near, near.T)


def test_without_geometry_all_devices_are_in_range_on_any_band():
    channel = slow_link(10e6)
    assert channel.at(0.0).in_range(math.inf, 1.0).tolist() == [[False, True], [True, False]]
    assert channel.at(0.0).required_power_w(1500, math.inf, 1.0).tolist() == [
        [0.0, 0.0],
        [0.0, 0.0],
    ]


# ── arrival ──────────────────────────────────────────────────────────────────────────────────────


def test_arrival_solves_the_integral_over_the_fades():
    channel = Wireless(
        fading=RayleighFading(coherence_s=0.05), power=FixedPower(power_w=1e-7)
    ).bind(2, seed=5)
    packets = packets_of(20)
    (grant,) = send_by_access(channel, 0, (1,), packets)
    (reception,) = channel.transmit(packets, grant)
    blocks = int(reception.airtime_s / 0.05)
    assert blocks > 5
    rates = [
        ShannonRate().bit_per_s(channel.signal.snr(grant, block)[0], BAND_HZ)
        for block in range(200)
    ]
    carried = 0.05 * sum(rates[:blocks]) + rates[blocks] * (reception.airtime_s - 0.05 * blocks)
    assert carried == pytest.approx(20 * PACKET_BITS, rel=1e-9)


def test_equal_packets_grant_and_seed_give_the_same_reception():
    model = Wireless(losses=BernoulliLoss(probability=0.3))
    packets = packets_of(50, reliable=(0,))
    receptions = []
    for _ in range(2):
        channel = model.bind(3, seed=9)
        (grant,) = send_by_access(channel, 0, (2,), packets)
        receptions += channel.transmit(packets, grant)
    first, second = receptions
    assert np.array_equal(first.arrived, second.arrived)
    assert np.array_equal(first.attempts, second.attempts)
    assert first.arrival_s == second.arrival_s


def test_every_attempt_takes_its_time_with_28_bytes_of_headers():
    channel = slow_link(1e6, losses=BernoulliLoss(probability=0.4), arq_max_tries=3)
    packets = packets_of(200)
    (reception,) = channel.transmit(packets, GRANT)
    bits = int(reception.attempts.sum()) * PACKET_BITS
    assert reception.airtime_s == pytest.approx(bits / 1e6)
    assert set(reception.attempts) == {1, 2, 3}
    assert np.all(reception.attempts[~reception.arrived] == 3)


def test_reliable_packets_are_repeated_and_others_tried_once():
    channel = slow_link(1e6, losses=BernoulliLoss(probability=0.5))
    reliable = tuple(range(0, 100, 2))
    (reception,) = channel.transmit(packets_of(100, reliable), GRANT)
    assert reception.arrived[0::2].all()
    assert reception.attempts[0::2].max() > 1
    assert not reception.arrived[1::2].all()
    assert set(reception.attempts[1::2]) == {1}


def test_a_reliable_packet_that_never_arrives_ends_the_run():
    channel = slow_link(1e6, losses=BernoulliLoss(probability=0.99999))
    with pytest.raises(EmulatorError, match="link 0 -> 1: a reliable packet was lost 1000 times"):
        channel.transmit(packets_of(5, reliable=(3,)), GRANT)


def test_a_link_without_power_is_named():
    channel = Wireless(fading=NoFading()).bind(2, seed=0)
    with pytest.raises(EmulatorError, match=r"^link 0 -> 1: no rate above 0 bit/s for 60 s"):
        channel.transmit(packets_of(1, reliable=(0,)), Grant(0, (1,), 0.0, 1e4, 0.0, 0))


def test_an_endless_band_with_a_shannon_rate_is_wrong_input():
    packets = packets_of(1)
    for model in [Wireless(), Wireless(power=FixedPower(power_w=0.1))]:
        channel = model.bind(2, seed=0)
        with pytest.raises(ScenarioError, match="access: got an infinite bandwidth"):
            channel.transmit(
                packets, *send_by_access(channel, 0, (1,), packets, access=IdealAccess())
            )


def test_nothing_to_send_takes_no_time():
    (reception,) = slow_link(1e6).transmit((), GRANT)
    assert (reception.arrival_s, reception.airtime_s, reception.late) == (10.0, 0.0, False)
    assert reception.arrived.size == reception.attempts.size == 0


# ── late ─────────────────────────────────────────────────────────────────────────────────────────


def test_with_wait_all_packets_arrive_late():
    (reception,) = slow_link(10 * PACKET_BITS).transmit(packets_of(15), GRANT)
    assert reception.arrived.all()
    assert reception.airtime_s == pytest.approx(1.5)
    assert reception.late


def test_in_time_to_the_bit_is_not_late():
    channel = slow_link(10 * PACKET_BITS, late="lose")
    (reception,) = channel.transmit(packets_of(10), GRANT)
    assert reception.arrived.all()
    assert not reception.late


def test_losing_cuts_the_transfer_at_the_deadline():
    channel = slow_link(10.5 * PACKET_BITS, late="lose")
    (reception,) = channel.transmit(packets_of(15), GRANT)
    assert reception.arrived.tolist() == [True] * 10 + [False] * 5
    assert reception.attempts.tolist() == [1] * 11 + [0] * 4
    assert reception.airtime_s == pytest.approx(1.0)
    assert reception.late


def test_reliable_packets_go_on_after_the_deadline():
    channel = slow_link(10.5 * PACKET_BITS, late="lose")
    (reception,) = channel.transmit(packets_of(15, reliable=(0, 12, 13)), GRANT)
    assert np.flatnonzero(reception.arrived).tolist() == [*range(10), 12, 13]
    assert reception.attempts.tolist() == [1] * 11 + [0, 1, 1, 0]
    assert reception.airtime_s == pytest.approx(12.5 / 10.5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.sampled_from([0.0, 0.3, 0.6]))
def test_the_deadline_never_changes_what_arrived_before_it(exchange_index, count, probability):
    grant = Grant(0, (1,), 10.0, math.inf, 0.1, exchange_index)
    fields = {"losses": BernoulliLoss(probability=probability), "arq_max_tries": 3}
    packets = packets_of(count, reliable=tuple(range(0, count, 7)))
    (waited,) = slow_link(30 * PACKET_BITS, **fields).transmit(packets, grant)
    (lost,) = slow_link(30 * PACKET_BITS, late="lose", **fields).transmit(packets, grant)
    ends = np.cumsum(waited.attempts) / 30.0
    reliable = np.array([packet.reliable for packet in packets])
    assert lost.late == waited.late
    assert np.array_equal(lost.arrived, waited.arrived & (reliable | (ends <= 1.0 + 1e-9)))
    assert np.all(lost.attempts <= waited.attempts)
    assert lost.airtime_s <= waited.airtime_s + 1e-12
    if waited.late:
        assert lost.airtime_s >= 1.0 - 1e-9


# ── energy ───────────────────────────────────────────────────────────────────────────────────────


def test_energy_is_power_times_airtime_circuits_included():
    channel = slow_link(10 * PACKET_BITS, circuit_power_w=0.05)
    (reception,) = channel.transmit(packets_of(5), GRANT)
    assert channel.energy_j(GRANT, reception) == pytest.approx(0.15 * 0.5)
    assert transmit_energy_j(0.2, 0.0, 3.0) == pytest.approx(0.6)


# ── ideal ────────────────────────────────────────────────────────────────────────────────────────


def test_the_ideal_channel_passes_everything_through():
    channel = Ideal().bind(3, seed=1)
    packets = packets_of(9, reliable=(0,))
    (grant,) = send_by_access(channel, 0, (2,), packets, access=IdealAccess())
    (reception,) = channel.transmit(packets, grant)
    assert reception.arrived.all()
    assert reception.attempts.tolist() == [1] * 9
    assert (reception.arrival_s, reception.airtime_s, reception.late) == (10.0, 0.0, False)
    assert channel.energy_j(grant, reception) == 0.0
    assert grant.tx_power_w == 0.0
    assert np.array_equal(channel.at(0.0).mean_gain, 1 - np.eye(3))
    assert np.array_equal(channel.at(0.0).in_range(math.inf, 1.0), ~np.eye(3, dtype=bool))
    assert np.all(
        channel.at(0.0).required_power_w(10**9, math.inf, 1.0) <= channel.max_power_w[:, None]
    )


# ── scenario sections ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_presets_fill_the_models_and_carry_a_message(name):
    preset = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert set(preset) == {"channel", "access"}
    model = TypeAdapter(Ideal | Wireless).validate_python(preset["channel"])
    access = TypeAdapter(IdealAccess | OfdmaAccess | TdmaAccess).validate_python(preset["access"])
    assert type(model).model_validate(model.model_dump()) == model
    channel = model.bind(5, seed=1)
    packets = packets_of(5, reliable=tuple(range(5)), size=1260)
    schedule = access.bind(channel.at(0.0).in_range(access.bandwidth_hz, 1.0), 0)
    for grant in send_by_access(channel, 0, (1, 2, 3), packets, access=schedule):
        assert channel.transmit(packets, grant)[0].arrived.all()


def test_the_paper_preset_asks_for_four_to_fourteen_bits_per_second_and_hertz():
    preset = yaml.safe_load((CONFIGS / "paper.yaml").read_text())
    for neighbours in (2, 3, 4, 5):
        assert 4.0 < 8 * 6440 * neighbours / preset["access"]["bandwidth_hz"] < 14.0


def test_contradictions_are_refused_with_both_fields_named():
    with pytest.raises(ValidationError, match=r"power_w: got 0\.3, wanted at most max_power_w"):
        Wireless(power=FixedPower(power_w=0.3))
    with pytest.raises(ValidationError, match=r"least_power with rate\.kind fixed"):
        Wireless(rate=FixedRate(link_bit_per_s=1e6), power=LeastPower())


def test_noise_figure_multiplies_the_noise():
    assert noise_w(1e6, 7.0) / noise_w(1e6, 0.0) == pytest.approx(linear_from_db(7.0))
