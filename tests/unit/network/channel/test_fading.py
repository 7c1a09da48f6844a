"""Fading: its distribution, blocks of emulated time, reciprocity, and how long a block lasts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import special, stats

from emulator.core.types.transmission import Grant
from emulator.network.channel.energy import FixedPower
from emulator.network.channel.fading import JAKES_BLOCKS, NoFading, RayleighFading, RicianFading
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import NoPathLoss

LEAST_P = 1e-3
FADINGS = [
    RayleighFading(),
    RicianFading(k_db=6.0),
    RayleighFading(blocks="per_exchange"),
    RayleighFading(correlation="jakes"),
    RicianFading(k_db=6.0, correlation="jakes"),
]


def _powers(fading, count: int, pair=(2, 5), seed=11) -> np.ndarray:
    fades = fading.bind(seed)
    return np.array([fades.power(0, block, *pair) for block in range(count)])


def _rician_law(k_db: float):
    ratio = 10 ** (k_db / 10)
    return stats.ncx2(df=2, nc=2 * ratio, scale=1 / (2 * (ratio + 1)))


def _air(fading, devices=3):
    return Wireless(path_loss=NoPathLoss(), power=FixedPower(power_w=0.1), fading=fading).bind(
        devices, seed=4
    )


def _fade_at(air, time_s, exchange_index=0, ends=(0, 1)):
    """SNR of a link at an emulated time, as a transfer that starts then meets it."""
    grant = Grant(ends[0], (ends[1],), time_s, 1e6, 0.1, exchange_index)
    return float(air.signal.snr(grant, 0)[0])


# ── one draw for each block ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("blocks", ["over_time", "per_exchange"])
def test_rayleigh_power_is_exponential(blocks):
    fading = RayleighFading(coherence_s=0.01, blocks=blocks)
    assert stats.kstest(_powers(fading, 4000), "expon").pvalue > LEAST_P


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
def test_every_block_has_one_draw_in_any_order_of_calls(fading):
    powers = _powers(fading, 2000)
    backwards = fading.bind(11)
    assert np.array_equal(powers[::-1], [backwards.power(0, b, 2, 5) for b in range(1999, -1, -1)])
    assert len(set(powers)) == powers.size


@pytest.mark.parametrize("fading", FADINGS[:3])
def test_blocks_are_independent(fading):
    powers = _powers(fading, 2000)
    lag_1 = np.corrcoef(powers[:-1], powers[1:])[0, 1]
    assert abs(lag_1) < stats.norm.ppf(1 - LEAST_P / 2) / math.sqrt(powers.size)


@pytest.mark.parametrize("fading", FADINGS)
def test_fading_is_reciprocal_and_keyed_by_seed_block_and_pair(fading):
    reference = fading.bind(1).power(2, 3, 4, 5)
    assert fading.bind(1).power(2, 3, 5, 4) == reference
    others = [fading.bind(0).power(2, 3, 4, 5)]
    others += [fading.bind(1).power(2, *ids) for ids in [(0, 4, 5), (3, 0, 5), (3, 4, 0)]]
    assert reference not in others
    per_exchange = fading.blocks == "per_exchange"
    assert (fading.bind(1).power(0, 3, 4, 5) == reference) == (not per_exchange)


def test_no_fading_holds_for_ever():
    assert NoFading().bind(1).power(2, 3, 4, 5) == 1.0
    assert NoFading().block_s == math.inf


# ── a process over emulated time ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fading", [FADINGS[0], FADINGS[1], FADINGS[3]])
def test_one_exchange_or_two_see_the_same_fade_within_a_block(fading):
    air, block_s = _air(fading), fading.block_s
    for block in range(5):
        start_s = block * block_s
        once = _fade_at(air, start_s)
        assert _fade_at(air, start_s + 0.9 * block_s, exchange_index=7) == once
        assert _fade_at(air, start_s + 0.5 * block_s, exchange_index=3, ends=(1, 0)) == once
        assert _fade_at(air, start_s + 1.1 * block_s) != once
        assert _fade_at(air, start_s, ends=(0, 2)) != once


def test_a_later_block_of_one_transfer_is_the_first_of_another():
    air = _air(RayleighFading(coherence_s=0.3))
    grant = Grant(0, (1,), 10.0, 1e6, 0.1, 5)  # 0.1 s into the block from 9.9 s
    for block in range(40):
        assert air.signal.snr(grant, block)[0] == _fade_at(air, 9.9 + 0.3 * block + 0.15)


@pytest.mark.parametrize(
    "fading", [RayleighFading(coherence_s=None), RayleighFading(coherence_s=1e9)]
)
def test_a_frozen_fade_is_one_draw_for_the_run(fading):
    air = _air(fading)
    fades = {_fade_at(air, t, exchange_index=x) for t, x in [(0.0, 0), (3.7, 1), (5000.0, 90)]}
    assert len(fades) == 1
    assert fades != {_fade_at(air, 0.0, ends=(0, 2))}


def test_frozen_fades_of_many_links_are_exponential():
    fades = RayleighFading(coherence_s=None).bind(3)
    powers = [fades.power(0, 0, i, j) for i in range(60) for j in range(i)]
    assert stats.kstest(powers, "expon").pvalue > LEAST_P


def test_per_exchange_is_a_fade_of_its_own_for_each_exchange():
    air = _air(RayleighFading(blocks="per_exchange"))
    assert _fade_at(air, 0.1, 3) == _fade_at(air, 99.0, 3) == _fade_at(air, 99.0, 3, ends=(1, 0))
    assert _fade_at(air, 0.1, 3) != _fade_at(air, 0.1, 4)


# ── correlation ──────────────────────────────────────────────────────────────────────────────────

PAIRS = [(i, j) for i in range(25) for j in range(i)]


def _gains(blocks, fading):
    """The complex gains of 300 links in some blocks [links, blocks]."""
    fades, time_T = fading.bind(8), np.array(blocks) * fading.block_s
    return np.stack([fades._scattered(time_T, j, i) for i, j in PAIRS])


def test_correlated_power_is_exponential_over_links():
    fading = RayleighFading(correlation="jakes")
    for block in (0, 1000, 123_456):
        fades = fading.bind(8)
        powers = [fades.power(0, block, *pair) for pair in PAIRS]
        assert stats.kstest(powers, "expon").pvalue > LEAST_P


@pytest.mark.parametrize("k_db", [0.0, 6.0])
def test_correlated_rician_power_has_its_law_over_links(k_db):
    fades = RicianFading(k_db=k_db, correlation="jakes").bind(8)
    powers = [fades.power(0, 77, *pair) for pair in PAIRS]
    assert stats.kstest(powers, _rician_law(k_db).cdf).pvalue > LEAST_P


def test_the_gain_correlates_with_j0_of_the_doppler_shift():
    """Over links, which are independent: every lag has its own standard error."""
    fading = RayleighFading(correlation="jakes", speed_mps=1.5, fc_ghz=5.9)
    lags = np.arange(0, 60)
    gains = _gains([*lags, *(lags + 5000)], fading)
    wanted = special.j0(2 * np.pi * fading.doppler_hz * fading.block_s * lags)
    for part in np.split(gains, 2, axis=1):
        products = part * np.conj(part[:, :1])
        error = np.std(products.real, axis=0, ddof=1) / math.sqrt(len(PAIRS))
        z = (products.real.mean(axis=0) - wanted)[1:] / error[1:]
        assert np.abs(z).max() < stats.norm.ppf(1 - LEAST_P / (2 * z.size))
        assert np.mean(np.abs(part) ** 2) == pytest.approx(1.0, abs=0.1)


def test_one_link_alone_correlates_with_j0_over_time():
    fading = RayleighFading(correlation="jakes")
    gains = fading.bind(8)._scattered(np.arange(60_000) * fading.block_s, 0, 1)
    for lag in (1, 2, 4, 9, 20):
        measured = np.mean(gains[lag:] * np.conj(gains[:-lag])).real
        assert measured == pytest.approx(
            special.j0(2 * np.pi * fading.doppler_hz * fading.block_s * lag), abs=0.03
        )
    assert np.mean(np.abs(gains) ** 2) == pytest.approx(1.0, abs=0.03)


def test_the_power_of_a_run_is_that_of_its_gain():
    fading = RayleighFading(correlation="jakes")
    fades = fading.bind(8)
    power = [fades.power(0, block, 3, 1) for block in range(150)]
    gains = fades._scattered(np.arange(150) * fading.block_s, 1, 3)
    assert power == pytest.approx(np.abs(gains) ** 2)
    assert fading.block_s == 1.0 / JAKES_BLOCKS


# ── coherence ────────────────────────────────────────────────────────────────────────────────────


def test_coherence_from_speed_and_carrier(references):
    # The references take c as 3.0e8 m/s and print milliseconds to three decimals.
    for row in references("closed_forms")["doppler"]["rows"]:
        fading = RayleighFading(speed_mps=row["v_kmh"] / 3.6, fc_ghz=row["fc_GHz"])
        coherence_ms = fading.block_s * 1e3 * 3e8 / 299_792_458.0
        assert coherence_ms == pytest.approx(row["Tc_ms"], abs=6e-4)


@given(st.floats(0.1, 100.0), st.floats(0.1, 100.0), st.sampled_from(["none", "jakes"]))
def test_twice_the_speed_halves_the_coherence(speed_mps, fc_ghz, correlation):
    fields = {"k_db": 3.0, "fc_ghz": fc_ghz, "correlation": correlation}
    once = RicianFading(speed_mps=speed_mps, **fields)
    twice = RicianFading(speed_mps=2.0 * speed_mps, **fields)
    assert twice.block_s == pytest.approx(once.block_s / 2.0)
    assert twice.doppler_hz == pytest.approx(2.0 * once.doppler_hz)
    assert type(once).model_validate(once.model_dump()) == once


def test_a_draw_may_hold_for_a_second_a_while_or_the_whole_run():
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
        (
            {"correlation": "jakes", "coherence_s": None},
            "correlation: got jakes with coherence_s null, wanted a coherence time",
        ),
        (
            {"correlation": "jakes", "blocks": "per_exchange"},
            "correlation: got jakes with blocks per_exchange, wanted blocks over_time",
        ),
    ],
)
def test_contradictory_coherence_is_one_clear_error(fields, message):
    with pytest.raises(ValidationError, match=message) as caught:
        RayleighFading(**fields)
    assert caught.value.error_count() == 1
