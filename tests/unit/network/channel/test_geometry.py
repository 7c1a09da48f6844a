"""Gains from positions: reciprocal, pure in time, and equal for one link and for all links."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.core.units import gain_from_path_loss
from emulator.network.channel.geometry import Geometry
from emulator.network.channel.line_of_sight import AlwaysLineOfSight, UmiLineOfSight
from emulator.network.channel.mobility import RandomWaypoint, Static
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import PowerLawPathLoss
from emulator.network.channel.placement import DiscPlacement, RectanglePlacement, distances_m
from emulator.network.channel.shadowing import LogNormalShadowing, NoShadowing
from emulator.network.channel.tr38901 import UmiPathLoss

STREET = RectanglePlacement(width_m=1000.0, height_m=1000.0)
WALK = RandomWaypoint(min_speed_m_per_s=1.0, max_speed_m_per_s=5.0)


def _street(seed, mobility=WALK, devices=5):
    path_loss = UmiPathLoss(fc_ghz=3.5)
    path_loss.warned.add("distance_2d_m")  # distances below the range are not tested here
    return Geometry(
        mobility.bind(STREET, devices, seed),
        UmiLineOfSight().bind(seed),
        path_loss,
        LogNormalShadowing().bind(path_loss, seed),
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 2000.0))
def test_one_link_is_an_entry_of_all_both_ways(seed, time_s):
    gain = _street(seed).mean_gain(time_s)
    assert np.array_equal(gain, gain.T)
    assert np.diag(gain).tolist() == [0.0] * 5
    fresh = _street(seed)
    assert fresh.gain(1, 3, time_s) == fresh.gain(3, 1, time_s) == gain[1, 3]


def test_the_parts_of_a_loss_make_up_the_gain():
    geometry = _street(2)
    pairs = [(0, 1), (3, 2), (4, 0)]
    losses = geometry.pair_losses(pairs, 7.0)
    gains = gain_from_path_loss(losses.path_loss_db + losses.shadowing_db)
    assert gains.tolist() == [geometry.gain(i, j, 7.0) for i, j in pairs]


def test_without_states_and_shadows_it_is_the_path_loss_alone():
    placement = DiscPlacement()
    geometry = Geometry(
        Static().bind(placement, 6, seed=4),
        AlwaysLineOfSight().bind(4),
        PowerLawPathLoss(),
        NoShadowing().bind(PowerLawPathLoss(), 4),
    )
    distance_m = distances_m(placement.place(6, seed=4))
    gain = 1e-4 / np.maximum(distance_m, 1.0) ** 2 * (1.0 - np.eye(6))
    assert geometry.mean_gain(0.0) == pytest.approx(gain, rel=1e-12)
    assert np.array_equal(Wireless().bind(6, seed=4).at(0.0).mean_gain, geometry.mean_gain(0.0))
    assert np.array_equal(geometry.mean_gain(0.0), geometry.mean_gain(99.0))
    assert not geometry.moving


def test_gains_of_walkers_change_little_in_a_step_and_much_in_a_walk():
    geometry = _street(3, devices=12)
    upper = np.triu_indices(12, 1)
    now_db, soon_db, later_db = (
        10 * np.log10(geometry.mean_gain(time_s)[upper]) for time_s in (100.0, 100.01, 400.0)
    )
    # A step of 5 cm moves 7.82 dB of shadowing by about a tenth; a state may flip here and there.
    assert np.median(np.abs(soon_db - now_db)) < 2.0
    assert np.median(np.abs(later_db - now_db)) > 3.0
    assert geometry.moving
