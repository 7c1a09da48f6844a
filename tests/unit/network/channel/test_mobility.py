"""Walks: continuous, bounded, inside the area, and the same in any order of calls."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from emulator.core.errors import ScenarioError
from emulator.network.channel.mobility import RandomWaypoint, Static
from emulator.network.channel.placement import (
    DiscPlacement,
    FixedPlacement,
    GridPlacement,
    RectanglePlacement,
)

DISC = DiscPlacement(radius_m=40.0)
WALK = RandomWaypoint(min_speed_m_per_s=0.5, max_speed_m_per_s=3.0, pause_s=2.0)
AREAS = [DISC, RectanglePlacement(width_m=30.0, height_m=80.0), GridPlacement(spacing_m=20.0)]


@pytest.mark.parametrize("mobility", [Static(), WALK])
def test_all_devices_start_at_their_placement(mobility):
    trajectories = mobility.bind(DISC, 5, seed=2)
    assert np.array_equal(trajectories.positions_m(0.0), DISC.place(5, seed=2))
    assert np.array_equal(trajectories.positions_m(-1.0), DISC.place(5, seed=2))
    assert mobility.bind(DISC, 0, seed=2).positions_m(3.0).shape == (0, 2)


def test_static_devices_do_not_move():
    trajectories = Static().bind(DISC, 3, seed=2)
    assert np.array_equal(trajectories.positions_m(1e6), trajectories.positions_m(0.0))
    assert np.array_equal(trajectories.position_m(2, 5.0), trajectories.positions_m(5.0)[2])
    assert not trajectories.moving


@settings(max_examples=50)
@given(st.lists(st.floats(0.0, 500.0), min_size=1, max_size=8), st.integers(0, 2**32))
def test_positions_depend_on_the_time_alone_not_on_what_was_asked_before(times_s, seed):
    asked = WALK.bind(DISC, 3, seed)
    found = [asked.positions_m(time_s) for time_s in times_s]
    for time_s, positions_m in zip(times_s, found, strict=True):
        fresh = WALK.bind(DISC, 3, seed)
        assert np.array_equal(fresh.position_m(1, time_s), positions_m[1])
        assert np.array_equal(fresh.positions_m(time_s), positions_m)


@pytest.mark.parametrize("placement", AREAS, ids=lambda placement: placement.kind)
def test_devices_keep_to_speed_range_and_area(placement):
    trajectories = WALK.bind(placement, 6, seed=3)
    times_s = np.arange(0.0, 600.0, 0.25)
    ways_m = np.array([trajectories.positions_m(time_s) for time_s in times_s])
    steps_m = np.hypot(*np.moveaxis(np.diff(ways_m, axis=0), -1, 0))
    assert steps_m.max() <= 3.0 * 0.25 * (1 + 1e-9)
    assert steps_m.max() > 0.5 * 0.25
    if placement.kind == "disc":
        assert np.hypot(ways_m[..., 0], ways_m[..., 1]).max() <= 40.0 * (1 + 1e-12)
    else:
        low_m, high_m = {"rectangle": (0.0, [30.0, 80.0]), "grid": (0.0, [40.0, 20.0])}[
            placement.kind
        ]
        assert np.all(ways_m >= np.array(low_m) - 1e-9)
        assert np.all(ways_m <= np.array(high_m) + 1e-9)


def test_walks_go_straight_at_one_speed_and_rest_at_the_end():
    trajectories = WALK.bind(DISC, 2, seed=7)
    trajectories.positions_m(300.0)
    for first, second in zip(trajectories.legs[0], trajectories.legs[0][1:], strict=False):
        assert second.start_s == first.end_s == first.arrival_s + 2.0
        assert second.from_m == first.to_m
        middle_s = (first.start_s + first.arrival_s) / 2.0
        halfway_m = (np.array(first.from_m) + np.array(first.to_m)) / 2.0
        assert trajectories.position_m(0, middle_s) == pytest.approx(halfway_m)
        resting_m = trajectories.position_m(0, first.arrival_s + 1.0)
        assert resting_m.tolist() == list(first.to_m)
        speed = np.hypot(*np.subtract(first.to_m, first.from_m)) / (first.arrival_s - first.start_s)
        assert 0.5 <= speed <= 3.0


def test_targets_fill_the_area_evenly():
    trajectories = WALK.bind(DISC, 40, seed=1)
    trajectories.positions_m(1500.0)
    targets = np.array([leg.to_m for legs in trajectories.legs for leg in legs[:15]])
    radius = np.hypot(*targets.T) / 40.0
    assert len(radius) == 600
    assert stats.kstest(radius**2, "uniform").pvalue > 1e-3


def test_another_device_changes_no_trajectory():
    few, many = WALK.bind(DISC, 3, seed=5), WALK.bind(DISC, 6, seed=5)
    assert np.array_equal(few.positions_m(77.0), many.positions_m(77.0)[:3])
    assert not np.any(few.positions_m(77.0) == WALK.bind(DISC, 3, seed=6).positions_m(77.0))


def test_listed_devices_walk_within_the_box_around_them():
    placement = FixedPlacement(positions_m=((0.0, 5.0), (10.0, 5.0)))
    trajectories = WALK.bind(placement, 2, seed=1)
    ways_m = np.array([trajectories.positions_m(time_s) for time_s in range(50)])
    assert ways_m[..., 1] == pytest.approx(5.0, rel=1e-12)
    assert len(set(ways_m[..., 0].ravel())) > 10


def test_there_must_be_room_and_speed():
    with pytest.raises(
        ScenarioError, match=r"random_waypoint with placement\.kind grid on a single"
    ):
        WALK.bind(GridPlacement(spacing_m=5.0), 1, seed=0)
    with pytest.raises(ValidationError, match=r"max_speed_m_per_s: got 1, wanted at least"):
        RandomWaypoint(min_speed_m_per_s=2.0, max_speed_m_per_s=1.0)
    with pytest.raises(ValidationError, match="greater than 0"):
        RandomWaypoint(min_speed_m_per_s=0.0, max_speed_m_per_s=1.0)
