"""Rate laws over SNR, against their formulas and the closed forms under Rayleigh fading."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import exp1

from emulator.core.errors import ScenarioError
from emulator.network.channel.fading import RayleighFading
from emulator.network.channel.rates import FixedRate, ShannonRate

LEAST_P = 1e-3


@pytest.fixture(scope="module")
def closed_forms(references):
    return references("closed_forms")


@pytest.fixture(scope="module")
def fading_powers():
    fades = RayleighFading().bind(1)
    return np.array([fades.power(0, block, 0, 1) for block in range(20_000)])


@given(st.floats(-30, 60), st.floats(0, 10), st.floats(0, 10))
def test_shannon_rate_does_not_fall_with_snr(snr_db, more_db, gap_db):
    rate = ShannonRate(gap_db=gap_db, max_bit_per_s_hz=8.0)
    low = rate.bit_per_s(10 ** (snr_db / 10), 1e6)
    high = rate.bit_per_s(10 ** ((snr_db + more_db) / 10), 1e6)
    assert 0.0 < low <= high <= 8e6


def test_shannon_formula_gap_and_cap():
    assert ShannonRate().bit_per_s(3.0, 1e6) == pytest.approx(2e6)
    assert ShannonRate(gap_db=10.0).bit_per_s(30.0, 1e6) == pytest.approx(2e6)
    assert ShannonRate(max_bit_per_s_hz=1.5).bit_per_s(3.0, 1e6) == 1.5e6
    assert ShannonRate().bit_per_s(0.0, 1e6) == 0.0


@given(st.floats(1e-6, 900.0), st.floats(0.0, 10.0))
def test_log_snr_is_the_inverse_of_the_rate(bit_per_s_hz, gap_db):
    rate = ShannonRate(gap_db=gap_db)
    snr = math.exp(rate.log_snr(bit_per_s_hz * 2e4, 2e4))
    assert rate.bit_per_s(snr, 2e4) == pytest.approx(bit_per_s_hz * 2e4, rel=1e-9)


def test_log_snr_beyond_any_float():
    assert ShannonRate().log_snr(5000.0, 1.0) == pytest.approx(5000.0 * math.log(2.0))
    assert ShannonRate().log_snr(0.0, 1.0) == -math.inf
    capped = ShannonRate(max_bit_per_s_hz=0.7)
    assert capped.log_snr(0.7 * 3.3, 3.3) < math.inf
    assert capped.log_snr(0.71 * 3.3, 3.3) == math.inf
    assert capped.reachable_bit_per_s(100.0, 10.0) == 7.0


def test_shannon_needs_a_finite_band():
    with pytest.raises(ScenarioError, match="got an infinite bandwidth"):
        ShannonRate().bit_per_s(1.0, math.inf)


def test_fixed_rate_ignores_snr_and_band():
    rate = FixedRate(link_bit_per_s=1e6)
    assert rate.bit_per_s(0.0, math.inf) == rate.bit_per_s(1e9, 1.0) == 1e6
    assert (rate.log_snr(1e6, 1.0), rate.log_snr(1.1e6, 1.0)) == (-math.inf, math.inf)
    assert rate.reachable_bit_per_s(2e6, 1.0) == 1e6


def test_ergodic_capacity(closed_forms, fading_powers):
    for row in closed_forms["ergodic_capacity_rayleigh"]["rows"]:
        snr = 10 ** (row["snr_dB"] / 10)
        assert math.exp(1 / snr) * exp1(1 / snr) / math.log(2) == pytest.approx(
            row["ergodic_bps_Hz"], abs=1e-7
        )
        rates = np.array([ShannonRate().bit_per_s(snr * power, 1.0) for power in fading_powers])
        error = rates.std() / math.sqrt(rates.size)
        assert abs(rates.mean() - row["ergodic_bps_Hz"]) < stats.norm.ppf(1 - LEAST_P / 2) * error


def test_rate_cdf(closed_forms, fading_powers):
    for row in closed_forms["rate_cdf_rayleigh"]["rows"]:
        snr = 10 ** (row["snr_dB"] / 10)
        rates = np.array([ShannonRate().bit_per_s(snr * power, 1.0) for power in fading_powers])
        below = int(np.count_nonzero(rates <= row["r"]))
        assert stats.binomtest(below, rates.size, row["cdf"]).pvalue > LEAST_P
