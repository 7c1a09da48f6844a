"""Conversions to decibels and back, and known values of thermal noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.core import units

decibels = st.floats(-250, 250)


@given(decibels)
def test_decibels_come_back(value_db):
    assert units.db_from_linear(units.linear_from_db(value_db)) == pytest.approx(value_db, abs=1e-9)
    assert units.dbm_from_watts(units.watts_from_dbm(value_db)) == pytest.approx(value_db, abs=1e-9)


@given(decibels, decibels)
def test_decibels_add_where_ratios_multiply(one_db, other_db):
    product = units.linear_from_db(one_db) * units.linear_from_db(other_db)
    assert units.linear_from_db(one_db + other_db) == pytest.approx(product, rel=1e-9)


def test_known_values():
    assert units.linear_from_db(0) == 1.0
    assert units.linear_from_db(3) == pytest.approx(1.9952623)
    assert units.linear_from_db(-10) == pytest.approx(0.1)
    assert units.watts_from_dbm(30) == 1.0
    assert units.watts_from_dbm(20) == pytest.approx(0.1)
    assert units.dbm_from_watts(0.2) == pytest.approx(23.0103)
    assert units.bits_from_bytes(1500) == 12_000


def test_noise_of_twenty_megahertz_is_minus_101_dbm():
    assert units.dbm_from_watts(units.noise_w(20e6, 0.0)) == pytest.approx(-100.9897, abs=1e-3)


@given(st.floats(1.0, 1e9), st.floats(0, 40))
def test_noise_grows_with_band_and_figure(bandwidth_hz, figure_db):
    noise_w = units.noise_w(bandwidth_hz, figure_db)
    assert units.noise_w(2 * bandwidth_hz, figure_db) == pytest.approx(2 * noise_w)
    assert units.noise_w(bandwidth_hz, figure_db + 10) == pytest.approx(10 * noise_w)


def test_gain_is_the_inverse_of_the_loss_element_by_element():
    loss_db = np.array([[0.0, 80.0], [np.inf, -10.0]])
    gain = units.gain_from_path_loss(loss_db)
    assert gain.dtype == np.float64
    assert gain == pytest.approx(np.array([[1.0, 1e-8], [0.0, 10.0]]))
