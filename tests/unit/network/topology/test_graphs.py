"""Graph generators: the right edges, connected, the same at every device."""

import dataclasses

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from emulator.core.errors import ScenarioError
from emulator.core.types.survey import Survey
from emulator.network.topology.clusters import TaskMesh
from emulator.network.topology.graphs import (
    Complete,
    ErdosRenyi,
    Isolated,
    ListedEdges,
    RandomFeasible,
    RandomGeometric,
    RandomRegular,
    Ring,
)
from emulator.network.topology.mixing import metropolis_links, mixing_matrix


def _survey(devices: int) -> Survey:
    positions_m = np.random.default_rng(devices).uniform(0.0, 100.0, (devices, 2))
    return Survey(
        positions_m=positions_m,
        mean_gain=1.0 - np.eye(devices),
        in_range=~np.eye(devices, dtype=bool),
        max_power_w=np.ones(devices),
        required_power_w=lambda _: np.zeros((devices, devices)),
        samples=np.ones(devices, dtype=np.int64),
        groups=np.arange(devices),
        densities=np.ones((devices, 1)),
        module_sizes=np.ones(1, dtype=np.int64),
    )


def _edges(links) -> set[tuple[int, int]]:
    directed = {(link.sender, link.receiver) for link in links}
    assert directed == {(j, i) for i, j in directed}
    return {(i, j) for i, j in directed if i < j}


ALL = [
    Ring(),
    Complete(),
    RandomGeometric(radius_m=60.0),
    ErdosRenyi(probability=0.4),
    RandomRegular(degree=4),
    RandomFeasible(num_edges=15),
]


@pytest.mark.parametrize("topology", ALL, ids=lambda topology: topology.kind)
def test_links_are_sorted_connected_and_the_same_every_time(topology):
    survey = _survey(12)
    links = topology.links(0, survey, seed=3)
    order = [(link.receiver, link.sender) for link in links]
    assert order == sorted(set(order))
    graph = nx.empty_graph(12)
    graph.add_edges_from(_edges(links))
    assert nx.is_connected(graph)
    assert topology.links(7, dataclasses.replace(survey), seed=3) == links


@pytest.mark.parametrize("topology", [ErdosRenyi(probability=0.4), RandomRegular(degree=3)])
def test_random_graphs_differ_between_seeds(topology):
    survey = _survey(12)
    graphs = {topology.links(0, survey, seed) for seed in range(5)}
    assert len(graphs) == 5


def test_a_ring_joins_neighbouring_ids():
    assert _edges(Ring().links(0, _survey(5), 0)) == {(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)}
    assert _edges(Ring().links(0, _survey(2), 0)) == {(0, 1)}
    assert Ring().links(0, _survey(1), 0) == ()


def test_a_complete_graph_averages_evenly():
    links = Complete().links(0, _survey(4), 0)
    assert len(links) == 12
    assert {link.weight for link in links} == {0.25}


def test_random_geometric_joins_exactly_those_within_the_radius():
    survey = _survey(12)
    edges = _edges(RandomGeometric(radius_m=60.0).links(0, survey, 0))
    for i in range(12):
        for j in range(i + 1, 12):
            distance_m = np.linalg.norm(survey.positions_m[i] - survey.positions_m[j])
            assert ((i, j) in edges) == (distance_m <= 60.0)


@pytest.mark.parametrize(("devices", "degree"), [(10, 3), (16, 4), (5, 4), (2, 1)])
def test_random_regular_gives_all_devices_the_same_degree(devices, degree):
    links = RandomRegular(degree=degree).links(0, _survey(devices), 1)
    received = np.bincount([link.receiver for link in links], minlength=devices)
    assert set(received) == {degree}


@pytest.mark.parametrize(("devices", "degree"), [(5, 3), (4, 4), (3, 9), (1, 1)])
def test_an_impossible_degree_is_wrong_input(devices, degree):
    with pytest.raises(ScenarioError, match=rf"topology\.degree: got {degree} for {devices}"):
        RandomRegular(degree=degree).links(0, _survey(devices), 0)


def test_a_graph_that_falls_apart_names_its_islands():
    survey = dataclasses.replace(
        _survey(4), positions_m=np.array([[0.0, 0.0], [90.0, 0.0], [1.0, 0.0], [91.0, 0.0]])
    )
    with pytest.raises(ScenarioError, match=r"2 islands \{0 2\} \{1 3\}"):
        RandomGeometric(radius_m=10.0).links(0, survey, 0)
    with pytest.raises(ScenarioError, match="islands"):
        ErdosRenyi(probability=1e-6).links(0, survey, 0)
    with pytest.raises(ScenarioError, match="2 islands"):
        RandomRegular(degree=1).links(0, survey, 0)


def test_one_device_alone_is_connected():
    for topology in [Complete(), ErdosRenyi(probability=0.1), RandomGeometric(radius_m=1.0)]:
        assert topology.links(0, _survey(1), 0) == ()


def test_fields_are_bounded():
    for build in [
        lambda: ErdosRenyi(probability=0.0),
        lambda: ErdosRenyi(probability=1.1),
        lambda: RandomGeometric(radius_m=-1.0),
        lambda: RandomRegular(degree=0),
    ]:
        with pytest.raises(ValidationError):
            build()


def _fed(devices: int, limit: float, seed: int) -> Survey:
    """Every pair costs something that grows with the neighbours served; some are out of range."""
    draws = np.random.default_rng(seed)
    cost = draws.uniform(0.1, 1.0, (devices, devices))
    cost = (cost + cost.T) / 2 * (1.0 - np.eye(devices))
    return dataclasses.replace(
        _survey(devices),
        in_range=(cost > 0) & (cost < 0.8),
        max_power_w=np.full(devices, limit),
        required_power_w=lambda neighbours: cost * neighbours,
    )


@pytest.mark.parametrize("seed", range(5))
def test_every_device_of_a_feasible_graph_can_serve_all_its_neighbours_at_once(seed):
    survey = _fed(10, limit=6.0, seed=seed)
    edges = _edges(RandomFeasible(num_edges=13).links(0, survey, seed))
    assert len(edges) == 13
    graph = nx.Graph(edges)
    assert nx.is_connected(graph)
    for device in graph:
        served = list(graph[device])
        assert survey.in_range[device, served].all()
        assert survey.required_power_w(len(served))[device, served].sum() <= 6.0


def test_a_graph_that_no_power_can_feed_is_refused():
    with pytest.raises(ScenarioError, match=r"topology\.num_edges: got 30, wanted fewer"):
        RandomFeasible(num_edges=30).links(0, _fed(10, limit=4.0, seed=1), 1)


def test_listed_edges_are_the_graph():
    links = ListedEdges(edges=((2, 0), (1, 3), (0, 2))).links(0, _survey(4), 1)
    assert _edges(links) == {(0, 2), (1, 3)}
    assert {link.weight for link in links} == {0.5}


@pytest.mark.parametrize("edge", [(1, 1), (0, 4), (-1, 2)])
def test_an_edge_to_an_unknown_device_is_refused(edge):
    with pytest.raises(ScenarioError, match=r"topology.edges: got \[.*\], wanted two different"):
        ListedEdges(edges=(edge,)).links(0, _survey(4), 1)


def test_isolated_devices_have_no_links():
    assert Isolated().links(0, _survey(4), 1) == ()


def test_tasks_mesh_with_their_own_only():
    survey = dataclasses.replace(_survey(5), groups=np.array([1, 0, 1, 0, 1]))
    assert TaskMesh().clusters(survey) == ((0, 2, 4), (1, 3))
    links = TaskMesh().links(0, survey, 1)
    assert _edges(links) == {(0, 2), (0, 4), (2, 4), (1, 3)}
    assert {link.weight for link in links} == {1 / 3, 1 / 2}
    assert [(link.receiver, link.sender) for link in links] == sorted(
        (link.receiver, link.sender) for link in links
    )


@given(st.integers(1, 12), st.integers(1, 10**9))
def test_equal_shards_of_a_task_weigh_what_a_full_mesh_gives_bit_for_bit(devices, samples):
    survey = dataclasses.replace(
        _survey(devices), groups=np.zeros(devices, dtype=int), samples=np.full(devices, samples)
    )
    pairs = [(i, j) for j in range(devices) for i in range(j)]
    assert TaskMesh().links(0, survey, 1) == metropolis_links(pairs, devices)


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=9), st.integers(0, 100))
def test_one_exchange_reaches_the_mean_by_samples_of_each_task_and_keeps_it(samples, seed):
    draws = np.random.default_rng(seed)
    groups_M, vector_M = draws.integers(0, 3, len(samples)), draws.standard_normal(len(samples))
    survey = dataclasses.replace(
        _survey(len(samples)), groups=groups_M, samples=np.array(samples, dtype=np.int64)
    )
    mixing_MM = mixing_matrix(TaskMesh().links(0, survey, 1), len(samples))
    once_M = mixing_MM @ vector_M
    for group in set(groups_M):
        of_task = groups_M == group
        mean = np.average(vector_M[of_task], weights=np.array(samples)[of_task])
        assert once_M[of_task] == pytest.approx([mean] * of_task.sum(), abs=1e-12)
    assert mixing_MM @ once_M == pytest.approx(once_M, abs=1e-12)
