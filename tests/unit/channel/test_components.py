"""Placement, fading, losses, access: each against its formula or distribution."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from emulator.channel.access import IdealAccess, OfdmaAccess, occupied_hz_s
from emulator.channel.fading import NoFading, RayleighFading
from emulator.channel.losses import BernoulliLoss, Lossless
from emulator.channel.placement import (
    DiscPlacement,
    FixedPlacement,
    GridPlacement,
    RectanglePlacement,
    distances_m,
)
from emulator.errors import ScenarioError
from emulator.state import Request
from emulator.units import dbm_from_watts, noise_w

LEAST_P = 1e-3
REFERENCES = Path(__file__).resolve().parents[3] / "../shared/ref/closed_forms.json"


@pytest.fixture(scope="module")
def closed_forms():
    if not REFERENCES.exists():
        pytest.skip(f"no reference values at {REFERENCES}")
    return json.loads(REFERENCES.read_text())


# ── noise ────────────────────────────────────────────────────────────────────────────────────────


def test_noise_floors(closed_forms):
    for row in closed_forms["noise_floor_dBm"]:
        power_w = noise_w(row["B_Hz"], row["NF_dB"])
        assert dbm_from_watts(power_w) == pytest.approx(row["dBm"], abs=1e-6)
        assert power_w == pytest.approx(row["W"], rel=1e-7)


@given(st.floats(1.0, 1e9), st.floats(0.0, 20.0))
def test_twice_the_bandwidth_is_twice_the_noise(bandwidth_hz, noise_figure_db):
    once = noise_w(bandwidth_hz, noise_figure_db)
    assert noise_w(2.0 * bandwidth_hz, noise_figure_db) == 2.0 * once


# ── placement ────────────────────────────────────────────────────────────────────────────────────

PLACEMENTS = [
    DiscPlacement(),
    RectanglePlacement(width_m=30.0, height_m=20.0),
]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_another_device_moves_nobody_and_another_seed_moves_all(placement):
    few, many = placement.place(5, seed=3), placement.place(9, seed=3)
    assert np.array_equal(few, many[:5])
    assert not np.any(few == placement.place(5, seed=4))
    assert placement.place(0, seed=3).shape == (0, 2)


def test_a_disc_is_filled_evenly():
    positions_m = DiscPlacement(radius_m=50.0).place(4000, seed=1)
    radius = np.hypot(*positions_m.T) / 50.0
    angle = np.arctan2(positions_m[:, 1], positions_m[:, 0]) / (2 * np.pi) + 0.5
    assert radius.max() < 1.0
    assert stats.kstest(radius**2, "uniform").pvalue > LEAST_P
    assert stats.kstest(angle, "uniform").pvalue > LEAST_P


def test_a_rectangle_is_filled_evenly():
    positions_m = RectanglePlacement(width_m=30.0, height_m=20.0).place(4000, seed=1)
    assert stats.kstest(positions_m[:, 0] / 30.0, "uniform").pvalue > LEAST_P
    assert stats.kstest(positions_m[:, 1] / 20.0, "uniform").pvalue > LEAST_P


@given(st.integers(1, 40))
def test_grid_neighbours_are_one_spacing_apart(devices):
    positions_m = GridPlacement(spacing_m=7.0).place(devices, seed=0)
    apart_m = distances_m(positions_m) + np.where(np.eye(devices), np.inf, 0.0)
    assert devices == 1 or np.all(apart_m.min(axis=1) == 7.0)
    assert positions_m.max() <= 7.0 * math.isqrt(devices)
    assert positions_m[0].tolist() == [0.0, 0.0]


def test_listed_positions_are_taken_as_they_are():
    placement = FixedPlacement(positions_m=((0.0, 0.0), (3.0, 4.0)))
    assert distances_m(placement.place(2, seed=0)).tolist() == [[0.0, 5.0], [5.0, 0.0]]
    with pytest.raises(ScenarioError, match="got 2 positions, wanted one for each of 3"):
        placement.place(3, seed=0)


# ── fading ───────────────────────────────────────────────────────────────────────────────────────


def test_rayleigh_power_is_exponential_with_one_draw_per_block():
    fading = RayleighFading(coherence_s=0.01)
    powers = [fading.power(11, 0, block, 2, 5) for block in range(4000)]
    assert stats.kstest(powers, "expon").pvalue > LEAST_P
    assert len(set(powers)) == len(powers)
    lag_1 = np.corrcoef(powers[:-1], powers[1:])[0, 1]
    assert abs(lag_1) < stats.norm.ppf(1 - LEAST_P / 2) / math.sqrt(len(powers))


def test_fading_is_reciprocal_and_keyed_by_all_its_ids():
    fading = RayleighFading()
    reference = fading.power(1, 2, 3, 4, 5)
    assert fading.power(1, 2, 3, 5, 4) == reference
    others = [(0, 2, 3, 4, 5), (1, 0, 3, 4, 5), (1, 2, 0, 4, 5), (1, 2, 3, 0, 5), (1, 2, 3, 4, 0)]
    assert reference not in {fading.power(*ids) for ids in others}


def test_no_fading_holds_for_ever():
    assert NoFading().power(1, 2, 3, 4, 5) == 1.0
    assert NoFading().block_s == math.inf


# ── losses ───────────────────────────────────────────────────────────────────────────────────────


def _limits(count: int, tries: int) -> np.ndarray:
    return np.full(count, tries, dtype=np.int64)


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5, 0.9])
def test_bernoulli_loss_rate(probability):
    outcome = BernoulliLoss(probability=probability).outcome(_limits(50_000, 1), 1, 0, 0, 1)
    lost = int(np.count_nonzero(~outcome.arrived))
    assert stats.binomtest(lost, 50_000, probability).pvalue > LEAST_P
    assert set(outcome.attempts) == {1}


def test_losses_of_successive_packets_are_independent():
    lost = ~BernoulliLoss(probability=0.3).outcome(_limits(50_000, 1), 1, 0, 0, 1).arrived
    both = int(np.count_nonzero(lost[0::2] & lost[1::2]))
    assert stats.binomtest(both, 25_000, 0.09).pvalue > LEAST_P


def test_arq_attempts_and_residual_loss(closed_forms):
    count = 50_000
    for row in closed_forms["arq"]:
        losses = BernoulliLoss(probability=row["p"])
        outcome = losses.outcome(_limits(count, row["L"]), 5, 0, 0, 1)
        lost = int(np.count_nonzero(~outcome.arrived))
        assert stats.binomtest(lost, count, row["residual"]).pvalue > LEAST_P
        assert outcome.attempts.max() <= row["L"]
        error = max(outcome.attempts.std(), 1e-3) / math.sqrt(count)
        assert abs(outcome.attempts.mean() - row["E_tx"]) < 3.3 * error


def test_repeating_until_delivered_takes_one_over_one_minus_p():
    count, probability = 50_000, 0.2
    outcome = BernoulliLoss(probability=probability).outcome(_limits(count, 1000), 9, 0, 0, 1)
    assert outcome.arrived.all()
    error = math.sqrt(probability) / (1 - probability) / math.sqrt(count)
    assert abs(outcome.attempts.mean() - 1 / (1 - probability)) < 3.3 * error


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 4), st.floats(0, 0.99))
def test_a_packet_keeps_its_luck_whatever_follows_it(few, more, tries, probability):
    losses = BernoulliLoss(probability=probability)
    short = losses.outcome(_limits(few, tries), 1, 2, 3, 4)
    long = losses.outcome(_limits(few + more, tries), 1, 2, 3, 4)
    assert np.array_equal(short.arrived, long.arrived[:few])
    assert np.array_equal(short.attempts, long.attempts[:few])


def test_joint_losses_are_equal_in_both_directions_and_independent_ones_are_not():
    limits = _limits(300, 1)
    joint = BernoulliLoss(probability=0.3, symmetry="joint")
    forth, back = joint.outcome(limits, 1, 2, 3, 4), joint.outcome(limits, 1, 2, 4, 3)
    assert np.array_equal(forth.arrived, back.arrived)
    apart = BernoulliLoss(probability=0.3)
    forth, back = apart.outcome(limits, 1, 2, 3, 4), apart.outcome(limits, 1, 2, 4, 3)
    assert not np.array_equal(forth.arrived, back.arrived)


@pytest.mark.parametrize("losses", [Lossless(), BernoulliLoss(probability=0.0)])
def test_without_loss_every_packet_arrives_at_once(losses):
    outcome = losses.outcome(_limits(7, 3), 1, 2, 3, 4)
    assert outcome.arrived.all()
    assert outcome.attempts.tolist() == [1] * 7


# ── access ───────────────────────────────────────────────────────────────────────────────────────


def _request(sender: int, *receivers: int, exchange_index: int = 0) -> Request:
    return Request(sender, receivers, 1000, 2.5 + sender, exchange_index)


def test_ofdma_splits_each_senders_band_over_its_requests():
    requests = [_request(0, 1), _request(0, 2), _request(1, 0), _request(0, 3, 4)]
    grants = OfdmaAccess(bandwidth_hz=3e6).plan(requests)
    assert [grant.bandwidth_hz for grant in grants] == [1e6, 1e6, 3e6, 1e6]
    assert [grant.start_s for grant in grants] == [2.5, 2.5, 3.5, 2.5]
    assert [grant.receivers for grant in grants] == [(1,), (2,), (0,), (3, 4)]
    assert {(grant.tx_power_w, grant.interference_w) for grant in grants} == {(0.0, 0.0)}


def test_other_exchanges_do_not_share_the_band():
    requests = [_request(0, 1), _request(0, 1, exchange_index=1)]
    grants = OfdmaAccess(bandwidth_hz=2e6).plan(requests)
    assert [(grant.bandwidth_hz, grant.exchange_index) for grant in grants] == [(2e6, 0), (2e6, 1)]


def test_ideal_access_is_endless_and_occupies_nothing():
    grants = IdealAccess().plan([_request(0, 1), _request(0, 2)])
    assert [grant.bandwidth_hz for grant in grants] == [math.inf, math.inf]
    assert occupied_hz_s(math.inf, 0.0) == occupied_hz_s(math.inf, 3.0) == 0.0
    assert occupied_hz_s(2e6, 0.5) == 1e6
