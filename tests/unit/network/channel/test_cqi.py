"""Rates over the channel quality indicator: a step function of the SNR."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.core.errors import ScenarioError
from emulator.core.units import linear_from_db
from emulator.network.channel.cqi import (
    EFFICIENCY_BIT_PER_S_HZ,
    RESOURCE_SHARE,
    THRESHOLD_DB,
    NrCqiRate,
)


def test_efficiencies_are_those_of_the_standard(references):
    rows = references("nr_cqi")["efficiencies"]["rows"]
    assert list(EFFICIENCY_BIT_PER_S_HZ) == [row["eff"] for row in rows]
    for row, efficiency in zip(rows, EFFICIENCY_BIT_PER_S_HZ, strict=True):
        assert row["Qm"] * row["R_x1024"] / 1024 == pytest.approx(efficiency, abs=6e-5)


def test_thresholds_are_those_of_the_simulation(references):
    rows = references("nr_cqi")["thresholds"]["rows"]
    assert list(THRESHOLD_DB) == pytest.approx([row["snr_dB@0.1"] for row in rows], abs=0.0051)


def test_the_highest_rate_is_the_peak_rate_of_the_standard(references):
    table = references("nr_cqi")["peak_rates"]
    for row in table["rows"]:
        elements_per_s = row["n_prb"] * 12 * 14 * row["scs_khz"] / 15 * 1000
        share = elements_per_s / table["bandwidth_hz"]
        rate = NrCqiRate(overhead=row["overhead"], resource_share=share)
        highest = rate.bit_per_s(1e3, table["bandwidth_hz"])
        assert highest == pytest.approx(1e6 * row["mbit_per_s"], rel=1e-5)


def test_by_default_it_is_the_downlink_of_106_resource_blocks(references):
    table = references("nr_cqi")["peak_rates"]
    (row,) = (r for r in table["rows"] if (r["n_prb"], r["overhead"]) == (106, 0.14))
    peak = NrCqiRate().bit_per_s(1e3, table["bandwidth_hz"])
    assert peak == pytest.approx(1e6 * row["mbit_per_s"], rel=1e-5)


WHOLE_BAND = NrCqiRate(overhead=0.0, resource_share=1.0)


@pytest.mark.parametrize("cqi", range(1, 16))
def test_every_stair_begins_at_its_threshold(cqi):
    rate = NrCqiRate()
    threshold_db, usable_hz = THRESHOLD_DB[cqi - 1], 0.86e6 * RESOURCE_SHARE
    here = rate.bit_per_s(linear_from_db(threshold_db), 1e6)
    assert here == pytest.approx(EFFICIENCY_BIT_PER_S_HZ[cqi - 1] * usable_hz)
    below = rate.bit_per_s(linear_from_db(threshold_db - 1e-6), 1e6)
    assert below == pytest.approx(EFFICIENCY_BIT_PER_S_HZ[cqi - 2] * usable_hz if cqi > 1 else 0.0)
    assert rate.threshold_db(linear_from_db(threshold_db + 0.1)) == threshold_db


def test_below_the_first_stair_nothing_flows():
    assert NrCqiRate().bit_per_s(linear_from_db(-8.3), 1e6) == 0.0
    assert NrCqiRate().bit_per_s(0.0, 1e6) == 0.0
    assert NrCqiRate().threshold_db(0.0) is None


@given(st.floats(-30, 40), st.floats(0, 10))
def test_the_rate_does_not_fall_with_snr_nor_beat_capacity(snr_db, more_db):
    snr = linear_from_db(snr_db)
    low, high = (WHOLE_BAND.bit_per_s(x, 1e6) for x in (snr, linear_from_db(snr_db + more_db)))
    assert low <= high <= 5.5547e6
    assert low <= 1e6 * math.log2(1 + snr)


@given(st.floats(1.0, 4.2e6), st.floats(1e6, 1e8), st.floats(0.0, 0.14))
def test_log_snr_is_the_least_threshold_that_suffices(bit_per_s, bandwidth_hz, overhead):
    rate = NrCqiRate(overhead=overhead)
    snr = math.exp(rate.log_snr(bit_per_s, bandwidth_hz))
    assert rate.bit_per_s(snr, bandwidth_hz) >= bit_per_s * (1 - 1e-9)
    assert rate.bit_per_s(snr * 0.999, bandwidth_hz) < bit_per_s


def test_log_snr_at_the_ends():
    rate = NrCqiRate(overhead=0.1, resource_share=1.0)
    assert rate.log_snr(0.0, 1e6) == -math.inf
    most = rate.reachable_bit_per_s(1e9, 3.3e6)
    assert most == pytest.approx(5.5547 * 0.9 * 3.3e6)
    assert rate.log_snr(most, 3.3e6) == pytest.approx(math.log(linear_from_db(19.82)))
    assert rate.log_snr(most * 1.001, 3.3e6) == math.inf
    assert rate.reachable_bit_per_s(1e5, 3.3e6) == 1e5


def test_the_stairs_need_a_finite_band():
    with pytest.raises(ScenarioError, match="got an infinite bandwidth"):
        NrCqiRate().bit_per_s(1.0, math.inf)
