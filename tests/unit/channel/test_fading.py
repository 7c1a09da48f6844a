"""Fading: its distribution, one draw for each block, reciprocity, and how long a block lasts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from emulator.channel.fading import NoFading, RayleighFading, RicianFading

LEAST_P = 1e-3
FADINGS = [RayleighFading(), RicianFading(k_db=6.0)]


def _powers(fading, count: int) -> np.ndarray:
    return np.array([fading.power(11, 0, block, 2, 5) for block in range(count)])


def _rician_law(k_db: float):
    ratio = 10 ** (k_db / 10)
    return stats.ncx2(df=2, nc=2 * ratio, scale=1 / (2 * (ratio + 1)))


def test_rayleigh_power_is_exponential():
    assert stats.kstest(_powers(RayleighFading(coherence_s=0.01), 4000), "expon").pvalue > LEAST_P


@pytest.mark.parametrize("k_db", [-40.0, 0.0, 3.0, 6.0, 12.0])
def test_rician_power_is_noncentral_chi_square_of_mean_1(k_db):
    law = _rician_law(k_db)
    assert law.mean() == pytest.approx(1.0)
    assert stats.kstest(_powers(RicianFading(k_db=k_db), 4000), law.cdf).pvalue > LEAST_P


def test_rician_power_against_the_references(references):
    for row in references("closed_forms")["rician_power_cdf"]["rows"]:
        law = _rician_law(row["K_dB"])
        assert law.cdf(row["x"]) == pytest.approx(row["cdf"], abs=1e-8)
        assert law.var() == pytest.approx(row["var"], abs=1e-7)
    for k_db in (0, 6):
        powers = _powers(RicianFading(k_db=k_db), 4000)
        for row in references("closed_forms")["rician_power_cdf"]["rows"]:
            if row["K_dB"] == k_db:
                below = int(np.count_nonzero(powers <= row["x"]))
                assert stats.binomtest(below, powers.size, row["cdf"]).pvalue > LEAST_P


@pytest.mark.parametrize("fading", FADINGS)
def test_every_block_has_one_draw_of_its_own(fading):
    powers = _powers(fading, 2000)
    assert np.array_equal(powers[::-1], [fading.power(11, 0, b, 2, 5) for b in range(1999, -1, -1)])
    assert len(set(powers)) == powers.size
    lag_1 = np.corrcoef(powers[:-1], powers[1:])[0, 1]
    assert abs(lag_1) < stats.norm.ppf(1 - LEAST_P / 2) / math.sqrt(powers.size)


@pytest.mark.parametrize("fading", FADINGS)
def test_fading_is_reciprocal_and_keyed_by_all_its_ids(fading):
    reference = fading.power(1, 2, 3, 4, 5)
    assert fading.power(1, 2, 3, 5, 4) == reference
    others = [(0, 2, 3, 4, 5), (1, 0, 3, 4, 5), (1, 2, 0, 4, 5), (1, 2, 3, 0, 5), (1, 2, 3, 4, 0)]
    assert reference not in {fading.power(*ids) for ids in others}


def test_no_fading_holds_for_ever():
    assert NoFading().power(1, 2, 3, 4, 5) == 1.0
    assert NoFading().block_s == math.inf


# ── coherence ────────────────────────────────────────────────────────────────────────────────────


def test_coherence_from_speed_and_carrier(references):
    # The references take c as 3.0e8 m/s and print milliseconds to three decimals.
    for row in references("closed_forms")["doppler"]["rows"]:
        fading = RayleighFading(speed_mps=row["v_kmh"] / 3.6, fc_ghz=row["fc_GHz"])
        coherence_ms = fading.block_s * 1e3 * 3e8 / 299_792_458.0
        assert coherence_ms == pytest.approx(row["Tc_ms"], abs=6e-4)


@given(st.floats(0.1, 100.0), st.floats(0.1, 100.0))
def test_twice_the_speed_halves_the_coherence(speed_mps, fc_ghz):
    once = RicianFading(k_db=3.0, speed_mps=speed_mps, fc_ghz=fc_ghz)
    twice = RicianFading(k_db=3.0, speed_mps=2.0 * speed_mps, fc_ghz=fc_ghz)
    assert twice.block_s == pytest.approx(once.block_s / 2.0)
    assert type(once).model_validate(once.model_dump()) == once


def test_a_draw_may_hold_for_a_second_a_while_or_a_whole_exchange():
    assert RayleighFading().block_s == 1.0
    assert RayleighFading(coherence_s=0.02).block_s == 0.02
    assert RayleighFading(coherence_s=None).block_s == math.inf


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"coherence_s": 0.1, "speed_mps": 1.5, "fc_ghz": 5.9},
            "coherence_s: got 0.1 with speed_mps",
        ),
        ({"speed_mps": 1.5}, "speed_mps: got 1.5 with fc_ghz None, wanted both"),
        ({"fc_ghz": 5.9}, "speed_mps: got None with fc_ghz 5.9, wanted both"),
        ({"coherence_s": 0.1, "fc_ghz": 5.9}, "speed_mps: got None with fc_ghz 5.9, wanted both"),
    ],
)
def test_contradictory_coherence_is_one_clear_error(fields, message):
    with pytest.raises(ValidationError, match=message) as caught:
        RayleighFading(**fields)
    assert caught.value.error_count() == 1
