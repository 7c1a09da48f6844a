"""Placement and access: each against its formula or distribution."""

import math
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from emulator.core.errors import ScenarioError
from emulator.core.types.transmission import Request
from emulator.core.units import dbm_from_watts, noise_w
from emulator.network.channel.access import (
    IdealAccess,
    OfdmaAccess,
    Slots,
    TdmaAccess,
    colour_two_hops,
    find_slot_conflicts,
)
from emulator.network.channel.placement import (
    DiscPlacement,
    FixedPlacement,
    GridPlacement,
    RectanglePlacement,
    distances_m,
)

LEAST_P = 1e-3


@pytest.fixture(scope="module")
def closed_forms(references):
    return references("closed_forms")


# ── noise ────────────────────────────────────────────────────────────────────────────────────────


def test_noise_floors(closed_forms):
    for row in closed_forms["noise_floor_dBm"]["rows"]:
        power_w = noise_w(row["B_Hz"], row["NF_dB"])
        assert dbm_from_watts(power_w) == pytest.approx(row["dBm"], abs=1e-6)
        assert power_w == pytest.approx(row["W"], rel=1e-7)


@given(st.floats(1.0, 1e9), st.floats(0.0, 20.0))
def test_twice_the_bandwidth_is_twice_the_noise(bandwidth_hz, noise_figure_db):
    once = noise_w(bandwidth_hz, noise_figure_db)
    assert noise_w(2.0 * bandwidth_hz, noise_figure_db) == 2.0 * once


def test_a_users_own_scheme_with_slots_has_slot_conflicts():
    own = SimpleNamespace(slot_of=(0, 1, 0))
    assert find_slot_conflicts(own, [(2, 0), (0, 1), (2, 0), (1, 1)]) == [(2, 0)]
    assert find_slot_conflicts(SimpleNamespace(), [(2, 0)]) == []


# ── placement ────────────────────────────────────────────────────────────────────────────────────

PLACEMENTS = [
    DiscPlacement(),
    RectanglePlacement(width_m=30.0, height_m=20.0),
]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_another_device_moves_no_other_and_another_seed_moves_all(placement):
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


# ── access ───────────────────────────────────────────────────────────────────────────────────────


def _request(sender: int, *receivers: int, exchange_index: int = 0) -> Request:
    return Request(sender, receivers, 1000, 2.5 + sender, exchange_index)


def test_ofdma_splits_each_senders_band_over_its_requests():
    requests = [_request(0, 1), _request(0, 2), _request(1, 0), _request(0, 3, 4)]
    grants = OfdmaAccess(bandwidth_hz=3e6).plan(requests)
    assert [grant.bandwidth_hz for grant in grants] == [1e6, 1e6, 3e6, 1e6]
    assert [grant.start_s for grant in grants] == [2.5, 2.5, 3.5, 2.5]
    assert [grant.receivers for grant in grants] == [(1,), (2,), (0,), (3, 4)]
    assert {grant.tx_power_w for grant in grants} == {0.0}


def test_other_exchanges_do_not_share_the_band():
    requests = [_request(0, 1), _request(0, 1, exchange_index=1)]
    grants = OfdmaAccess(bandwidth_hz=2e6).plan(requests)
    assert [(grant.bandwidth_hz, grant.exchange_index) for grant in grants] == [(2e6, 0), (2e6, 1)]


def test_ideal_access_is_endless():
    grants = IdealAccess().plan([_request(0, 1), _request(0, 2)])
    assert [grant.bandwidth_hz for grant in grants] == [math.inf, math.inf]


# ── slots ────────────────────────────────────────────────────────────────────────────────────────

GRAPHS = {
    **{f"ring{n}": nx.cycle_graph(n) for n in (5, 6, 7, 8)},
    "path5": nx.path_graph(5),
    "star6": nx.star_graph(5),
    "K4": nx.complete_graph(4),
    "K5": nx.complete_graph(5),
    "grid3x3": nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 3), ordering="sorted"),
    "hypercube3": nx.convert_node_labels_to_integers(nx.hypercube_graph(3), ordering="sorted"),
}


def _hears(graph) -> np.ndarray:
    return nx.to_numpy_array(graph, nodelist=range(len(graph))).astype(bool)


def test_slots_are_as_few_as_the_references_say(references):
    for row in references("schedules")["distance_2_slots"]["rows"]:
        colours = colour_two_hops(_hears(GRAPHS[row["graph"]]))
        assert 1 + max(colours) == row["slots"], row["graph"]


@given(st.integers(1, 20), st.floats(0.0, 1.0), st.integers(0, 1000))
def test_no_device_is_in_range_of_two_senders_of_a_slot_or_of_one_of_its_own(
    devices, probability, seed
):
    graph = nx.gnp_random_graph(devices, probability, seed=seed)
    colours = colour_two_hops(_hears(graph))
    assert set(colours) == set(range(1 + max(colours)))
    for device in graph:
        heard = [colours[other] for other in graph[device]]
        assert len(set(heard)) == len(heard)
        assert colours[device] not in heard


def test_a_frame_gives_every_device_a_slot_and_every_request_a_part_of_it():
    everybody = np.ones((4, 4), dtype=bool)
    schedule = TdmaAccess(bandwidth_hz=5e6, slot_s=0.01).bind(everybody, 0)
    grants = schedule.plan([_request(2, 0), _request(2, 1), _request(3, 0)])
    assert [grant.slots for grant in grants] == [
        Slots(0.02, 0.005, 0.04),
        Slots(0.025, 0.005, 0.04),
        Slots(0.03, 0.01, 0.04),
    ]
    assert {grant.bandwidth_hz for grant in grants} == {5e6}
    assert schedule.share(2) == (5e6, 0.125)
    line = _hears(nx.path_graph(5))
    reused = TdmaAccess(bandwidth_hz=5e6, reuse="distance_2").bind(line, 0)
    assert 1 + max(reused.slot_of) == 3
    (grant,) = reused.plan([_request(0, 1)])
    assert grant.interferers == (3,)
    broadcast = TdmaAccess(bandwidth_hz=5e6, cast="broadcast").bind(everybody, 0)
    assert broadcast.share(3) == (5e6, 0.25)


@given(st.floats(0.0, 0.9), st.floats(0.01, 0.1), st.integers(1, 20), st.floats(1e-3, 50.0))
def test_own_time_and_emulated_time_are_inverse(offset, slot_s, parts, air_s):
    slots = Slots(offset * slot_s * (parts - 1), slot_s, slot_s * parts)
    (time_s,) = slots.times_at(np.array([air_s]))
    assert slots.carrying_s(float(time_s)) == pytest.approx(air_s, rel=1e-9)
    assert slots.carrying_s(float(time_s) - 1e-3 * slot_s) < air_s
