"""Fields over pairs of positions, and shadowing drawn from them: law, variance, reciprocity."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from emulator.core.errors import ScenarioError
from emulator.network.channel.gaussian_field import WAVES, draw_pair_field
from emulator.network.channel.pathloss import PowerLawPathLoss
from emulator.network.channel.shadowing import LogNormalShadowing, NoShadowing
from emulator.network.channel.tr38901 import UmiPathLoss

LEAST_P = 1e-3
SEEDS, FEW_WAVES = 12_000, 64
"""Correlations across seeds are those of the law with any number of waves: few waves, many seeds."""
FAR_M = 1000.0
RATIOS = (0.0, 0.1, 0.5, 1.0, 2.0, 3.0)


@pytest.fixture(scope="module")
def ensemble():
    """The field of many seeds [seeds, ends]: one end walks away from its place, then both do.

    Column k: one end moved by RATIOS[k] decorrelation distances; the last: both by one.
    """
    walked_m = 10.0 * np.array([*RATIOS, 1.0])
    first_m = np.zeros((len(walked_m), 2))
    first_m[-1] = [0.0, 10.0]
    second_m = np.stack([np.full(len(walked_m), FAR_M), walked_m], axis=1)
    fields = (draw_pair_field(seed, "test", 10.0, FEW_WAVES) for seed in range(SEEDS))
    return np.array([field.between(first_m, second_m) for field in fields])


# ── the field ────────────────────────────────────────────────────────────────────────────────────


def test_the_field_is_standard_normal(ensemble):
    for column in ensemble.T:
        assert stats.kstest(column, "norm").pvalue > LEAST_P


def test_correlation_falls_exponentially_with_the_walk_of_one_end(ensemble, references):
    rows = references("closed_forms")["gudmundson"]["rows"]
    assert [row["d_over_dcorr"] for row in rows] == list(RATIOS)
    for column, row in zip(ensemble.T, rows, strict=False):
        _assert_correlation(ensemble[:, 0], column, row["rho"])


def test_walks_of_both_ends_multiply(ensemble):
    _assert_correlation(ensemble[:, 0], ensemble[:, -1], math.exp(-2.0))


def _assert_correlation(here, there, expected):
    """Of a thousand right fields one may fail: Fisher's z is normal with 1/sqrt(n - 3)."""
    measured = min(float(np.corrcoef(here, there)[0, 1]), 1.0 - 1e-12)
    error = abs(math.atanh(measured) - math.atanh(min(expected, 1.0 - 1e-12)))
    assert error * math.sqrt(len(here) - 3) < stats.norm.ppf(1 - LEAST_P / 2)


@pytest.mark.parametrize("apart_m", [0.0, 1.0, 10.0, 300.0])
def test_the_variance_is_one_however_near_the_ends_are(apart_m):
    first_m, second_m = np.zeros((1, 2)), np.array([[apart_m, 0.0]])
    values = np.array(
        [draw_pair_field(seed, "test", 10.0).between(first_m, second_m)[0] for seed in range(1500)]
    )
    assert stats.kstest(values, "norm").pvalue > LEAST_P


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_field_is_normal_over_many_places(seed):
    # Pairs tens of decorrelation distances apart are as good as independent.
    ends = np.random.default_rng(seed).uniform(0.0, 1e5, (2, 2000, 2))
    values = draw_pair_field(seed, "test", 10.0).between(*ends)
    assert stats.kstest(values, "norm").pvalue > LEAST_P
    # Excess kurtosis of a sum of K cosines is about -1.5/K; the error of this sample is 0.11.
    assert abs(stats.kurtosis(values)) < 0.4


@given(st.integers(0, 2**32), st.integers(2, 12))
def test_the_field_is_reciprocal_and_the_same_alone_or_among_many(seed, devices):
    field = draw_pair_field(seed, "test", 10.0)
    positions_m = np.random.default_rng(seed).uniform(-100.0, 100.0, (devices, 2))
    matrix = field.between(positions_m[:, None], positions_m[None])
    assert np.array_equal(matrix, matrix.T)
    assert matrix[0, 1] == field.between(positions_m[:1], positions_m[1:2])[0]
    assert np.array_equal(matrix[1], field.between(positions_m[1:2], positions_m))


def test_fields_differ_by_seed_and_purpose():
    ends = np.zeros((1, 2)), np.array([[50.0, 0.0]])
    values = {
        float(draw_pair_field(seed, purpose, 10.0).between(*ends)[0])
        for seed in (1, 2)
        for purpose in ("line_of_sight", "shadowing")
    }
    assert len(values) == 4
    assert draw_pair_field(1, "x", 10.0).phase_K.size == WAVES


# ── shadowing ────────────────────────────────────────────────────────────────────────────────────


def _shadows(shadowing, seed=1, family=None):
    return shadowing.bind(family or UmiPathLoss(fc_ghz=3.5), seed)


def test_shadowing_is_the_field_times_the_deviation_of_the_state():
    ends = np.random.default_rng(0).uniform(0.0, 500.0, (2, 6, 2))
    seen = np.array([True, False] * 3)
    drawn_db = _shadows(LogNormalShadowing()).between_db(*ends, seen)
    los_db = 4.0 * draw_pair_field(1, "shadowing/los", 10.0).between(*ends)
    nlos_db = 7.82 * draw_pair_field(1, "shadowing/nlos", 13.0).between(*ends)
    assert np.array_equal(drawn_db, np.where(seen, los_db, nlos_db))
    given_db = _shadows(LogNormalShadowing(sigma_db=2.0, decorrelation_m=13.0)).between_db(
        *ends, ~seen
    )
    assert given_db[0] == pytest.approx(2.0 / 7.82 * nlos_db[0])


def test_shadowing_spreads_by_its_deviation():
    ends = np.array([[0.0, 0.0]]), np.array([[80.0, 0.0]])
    for seen, sigma_db in [(True, 4.0), (False, 7.82)]:
        drawn_db = [
            _shadows(LogNormalShadowing(), seed).between_db(*ends, np.array([seen]))[0]
            for seed in range(1000)
        ]
        assert stats.kstest(drawn_db, stats.norm(0.0, sigma_db).cdf).pvalue > LEAST_P


def test_shadowing_is_reciprocal():
    positions_m = np.random.default_rng(5).uniform(0.0, 500.0, (9, 2))
    seen = np.add.outer(np.arange(9), np.arange(9)) % 2 == 0
    drawn_db = _shadows(LogNormalShadowing()).between_db(
        positions_m[:, None], positions_m[None], seen
    )
    assert np.array_equal(drawn_db, drawn_db.T)


def test_no_shadowing_is_nought():
    ends = np.zeros((2, 3, 2))
    seen = np.ones(3, dtype=np.bool_)
    assert _shadows(NoShadowing()).between_db(*ends, seen).tolist() == [0.0] * 3
    nothing = LogNormalShadowing(sigma_db=0.0, decorrelation_m=5.0)
    assert not _shadows(nothing, family=PowerLawPathLoss()).between_db(*ends, seen).any()


def test_a_family_without_shadowing_needs_both_numbers():
    with pytest.raises(ScenarioError, match=r"channel\.shadowing\.sigma_db: got none"):
        _shadows(LogNormalShadowing(decorrelation_m=5.0), family=PowerLawPathLoss())
    with pytest.raises(ScenarioError, match=r"channel\.shadowing\.decorrelation_m: got none"):
        _shadows(LogNormalShadowing(sigma_db=5.0), family=PowerLawPathLoss())
