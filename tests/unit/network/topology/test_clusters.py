"""Collision rates against Monte-Carlo; AGNES against a slow reference and its constraints."""

import dataclasses
from copy import deepcopy
from itertools import combinations
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from emulator.core.types.survey import Survey
from emulator.network.topology.clusters import ClusterMesh, build_clusters, expected_collision_rate


def _eq_19(densities) -> float:
    """The formula as printed."""
    others = [
        prod(1 - z for z in densities[:j] + densities[j + 1 :]) for j in range(len(densities))
    ]
    exactly_one = sum(s * rest for s, rest in zip(densities, others, strict=True))
    return 1.0 - prod(1 - s for s in densities) - exactly_one


def _rate_of(densities) -> float:
    """What is expected of devices that all have another task and the same density in each module."""
    survey = _line(len(densities), np.array(densities)[:, None])
    return expected_collision_rate(survey, range(len(densities)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_collision_rate_is_eq_19(densities):
    assert _rate_of(densities) == pytest.approx(_eq_19(densities), abs=1e-12)


@pytest.mark.parametrize(
    "densities", [[0.25, 0.25], [0.1, 0.3, 0.6], [0.05] * 10, [1.0, 0.2], [0.5, 0.0]]
)
def test_collision_rate_is_what_independent_masks_show(densities):
    size = 200_000
    masks = np.random.default_rng(7).random((len(densities), size)) < np.array(densities)[:, None]
    held_twice = int(np.count_nonzero(masks.sum(axis=0) >= 2))
    low, high = binom.interval(0.999, size, _rate_of(densities))
    assert low <= held_twice <= high


def test_collision_rate_of_known_cases():
    assert _rate_of([0.7]) == pytest.approx(0.0, abs=1e-15)
    assert _rate_of([0.25, 0.25]) == pytest.approx(0.0625)
    assert _rate_of([1.0, 1.0]) == 1.0
    survey = _line(4, 0.25, blocks=[0, 0, 1, 0])
    survey.densities[2] = [0.5, 0.0]
    assert expected_collision_rate(survey, [0, 1, 3]) == pytest.approx(0.0, abs=1e-15)
    # Modules count by their entries, 300 and 100 of them; a task counts once.
    assert expected_collision_rate(survey, [1, 2, 3]) == pytest.approx(0.75 * 0.25 * 0.5)


@st.composite
def _surveys(draw):
    """Random, untidy surveys: shared blocks, equal densities, grids with ties, holes in the range."""
    devices = draw(st.integers(1, 8))
    modules = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    if draw(st.booleans()):
        positions_m = rng.uniform(0.0, 200.0, (devices, 2))
    else:
        positions_m = rng.integers(0, 4, (devices, 2)) * 50.0
    distance_m = np.maximum(np.linalg.norm(positions_m[:, None] - positions_m, axis=2), 1.0)
    gain = 1e-4 / distance_m**2 * (1.0 - np.eye(devices))
    in_range = (distance_m <= draw(st.sampled_from([80.0, 150.0, 1e3]))) & ~np.eye(
        devices, dtype=bool
    )
    blocks = rng.integers(0, draw(st.integers(1, 8)), devices)
    by_block = rng.uniform(0.0, 0.4, (8, modules))
    if draw(st.booleans()):
        by_block[:] = draw(st.sampled_from([0.05, 0.2, 1.0]))
    return Survey(
        positions_m=positions_m,
        mean_gain=gain,
        in_range=in_range,
        max_power_w=rng.uniform(0.5, 1.0, devices) * draw(st.sampled_from([1e-9, 1e-8, 1.0])),
        required_power_w=_required(distance_m, draw(st.floats(0.5, 3.0))),
        samples=np.ones(devices, dtype=np.int64),
        groups=blocks,
        densities=by_block[blocks],
        module_sizes=rng.integers(1, 1000, modules),
    )


def _required(distance_m, bit_per_s_hz):
    def of_neighbours(neighbours):
        snr = 2.0 ** (bit_per_s_hz * neighbours) - 1.0
        return 1e-17 / neighbours * snr * distance_m**2 / 1e-4

    return of_neighbours


def _expected_rate(survey, members) -> float:
    first = {int(survey.groups[i]): i for i in reversed(range(survey.devices))}
    blocks = sorted({int(survey.groups[i]) for i in members})
    per_module = [
        _eq_19([float(survey.densities[first[block], module]) for block in blocks])
        for module in range(survey.module_sizes.size)
    ]
    return float(np.average(per_module, weights=survey.module_sizes))


def _meets_power(survey, members) -> bool:
    served = len(members) - 1
    return all(
        sum(survey.required_power_w(served)[i, j] for j in members if j != i)
        <= survey.max_power_w[i]
        for i in members
    )


def _in_range(survey, members) -> bool:
    return all(survey.in_range[i, j] for i, j in combinations(members, 2))


def _slow_agnes(survey, limit):
    """Every pair is evaluated again in every step, with the formulas as printed."""
    clusters = [(device,) for device in range(survey.devices)]
    while True:
        options = []
        for first, second in combinations(sorted(clusters), 2):
            union = tuple(sorted(first + second))
            rate = _expected_rate(survey, union)
            if rate <= limit + 1e-9 and _in_range(survey, union) and _meets_power(survey, union):
                cost = sum(1.0 / survey.mean_gain[i, j] for i, j in combinations(union, 2))
                options.append((rate, cost, first, second, union))
        if not options:
            return tuple(sorted(clusters))
        least_rate = min(option[0] for option in options)
        options = [option for option in options if option[0] <= least_rate + 1e-9]
        least_cost = min(option[1] for option in options)
        options = [option for option in options if option[1] <= least_cost * (1 + 1e-9)]
        _, _, first, second, union = min(options, key=lambda option: (option[2][0], option[3][0]))
        clusters = [c for c in clusters if c not in (first, second)] + [union]


_limits = st.sampled_from([0.0, 0.05, 0.1, 0.3, 1.0])


@settings(max_examples=300, deadline=None)
@given(_surveys(), _limits)
def test_agnes_equals_the_slow_reference(survey, limit):
    assert build_clusters(survey, limit) == _slow_agnes(survey, limit)


@settings(max_examples=200, deadline=None)
@given(_surveys(), _limits)
def test_clusters_never_exceed_their_limits(survey, limit):
    clusters = build_clusters(survey, limit)
    assert sorted(i for members in clusters for i in members) == list(range(survey.devices))
    assert clusters == tuple(sorted(tuple(sorted(members)) for members in clusters))
    for members in clusters:
        if len(members) > 1:
            assert _expected_rate(survey, members) <= limit + 1e-8
            assert _meets_power(survey, members)
            assert _in_range(survey, members)


@settings(max_examples=50, deadline=None)
@given(_surveys(), _limits)
def test_every_device_finds_the_same_clusters_and_changes_nothing(survey, limit):
    fields = [field.name for field in dataclasses.fields(survey)]
    copy = deepcopy(survey)
    assert build_clusters(copy, limit) == build_clusters(survey, limit)
    assert all(np.array_equal(getattr(copy, name), getattr(survey, name)) for name in fields)


def _line(devices: int, densities, blocks=None) -> Survey:
    """Devices 10 m apart on a line; power is no obstacle."""
    positions_m = np.stack([10.0 * np.arange(devices), np.zeros(devices)], axis=1)
    distance_m = np.abs(positions_m[:, :1] - positions_m[:, 0]) + np.eye(devices)
    return Survey(
        positions_m=positions_m,
        mean_gain=distance_m**-2.0 * (1.0 - np.eye(devices)),
        in_range=~np.eye(devices, dtype=bool),
        max_power_w=np.ones(devices),
        required_power_w=lambda _: np.zeros((devices, devices)),
        samples=np.ones(devices, dtype=np.int64),
        groups=np.arange(devices) if blocks is None else np.array(blocks),
        densities=np.array(np.broadcast_to(densities, (devices, 2)), dtype=np.float64),
        module_sizes=np.array([300, 100]),
    )


def test_equal_densities_are_decided_by_the_channel_and_then_by_ids():
    # S of two is .0625 and of three .156: pairs form, the closest and lowest first.
    assert build_clusters(_line(5, 0.25), 0.1) == ((0, 1), (2, 3), (4,))


def test_devices_of_one_task_do_not_collide():
    assert build_clusters(_line(6, 0.9, blocks=[0, 1, 0, 1, 0, 1]), 0.1) == ((0, 2, 4), (1, 3, 5))


def test_without_masks_clusters_are_single_devices_unless_everything_may_collide():
    survey = _line(4, 1.0)
    assert build_clusters(survey, 0.99) == ((0,), (1,), (2,), (3,))
    assert build_clusters(survey, 1.0) == ((0, 1, 2, 3),)


def test_power_counts_all_neighbours_at_once():
    survey = _line(3, 0.01)

    def power(_neighbours):
        return np.full((3, 3), 0.6)

    # Alone each link fits; serving two neighbours takes 1.2 of 1.
    assert build_clusters(dataclasses.replace(survey, required_power_w=power), 1.0) == (
        (0, 1),
        (2,),
    )


@pytest.mark.parametrize("sharing", ["as_needed", "equally", "in_turn"])
def test_a_device_is_no_neighbour_of_itself(sharing):
    """0.6 for one neighbour, 0.2 for each of three: enough for all four under any sharing."""

    def power(neighbours):
        return np.full((4, 4), 0.6 / neighbours)

    survey = dataclasses.replace(_line(4, 0.01), required_power_w=power, power_sharing=sharing)
    assert build_clusters(survey, 1.0) == ((0, 1, 2, 3),)


def test_the_mesh_joins_members_only_with_equal_weights():
    survey = _line(5, 0.25, blocks=[0, 0, 0, 1, 1])
    mesh = ClusterMesh(max_collision_rate=0.05)
    assert mesh.clusters(survey) == ((0, 1, 2), (3, 4))
    links = mesh.links(0, survey, seed=0)
    assert [(link.receiver, link.sender) for link in links] == [
        (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (3, 4), (4, 3),
    ]  # fmt: skip
    assert [link.weight for link in links] == [1 / 3] * 6 + [1 / 2] * 2


def test_many_equal_devices_double_until_the_limit():
    assert _eq_19([0.02] * 16) < 0.1 < _eq_19([0.02] * 32)
    clusters = build_clusters(_line(128, 0.02), 0.1)
    assert clusters == tuple(tuple(range(low, low + 16)) for low in range(0, 128, 16))
