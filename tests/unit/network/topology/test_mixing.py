"""Metropolis weights: symmetric and doubly stochastic on every graph."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.network.topology.mixing import metropolis_links, mixing_matrix


@st.composite
def _graphs(draw):
    devices = draw(st.integers(1, 12))
    seed = draw(st.integers(0, 2**31))
    return nx.gnp_random_graph(devices, draw(st.floats(0, 1)), seed=seed)


@given(_graphs())
def test_the_mixing_matrix_is_symmetric_and_doubly_stochastic(graph):
    devices = len(graph)
    matrix = mixing_matrix(metropolis_links(graph.edges, devices), devices)
    assert np.array_equal(matrix, matrix.T)
    assert np.allclose(matrix.sum(axis=0), 1.0, atol=1e-14)
    assert np.allclose(matrix.sum(axis=1), 1.0, atol=1e-14)
    assert matrix.min() >= 0.0
    assert np.diag(matrix).min() > 0.0


@given(_graphs())
def test_each_edge_gives_two_links_with_the_textbook_weight(graph):
    links = metropolis_links(graph.edges, len(graph))
    assert [(link.receiver, link.sender) for link in links] == sorted(
        pair for i, j in graph.edges for pair in [(i, j), (j, i)]
    )
    for link in links:
        larger = max(graph.degree[link.sender], graph.degree[link.receiver])
        assert link.weight == 1.0 / (1.0 + larger)


def test_orientation_and_repetition_of_edges_change_nothing():
    assert metropolis_links([(0, 1), (1, 0), (2, 1)], 3) == metropolis_links([(1, 2), (0, 1)], 3)


def test_averaging_converges_to_the_mean_on_a_connected_graph():
    devices = 9
    graph = nx.path_graph(devices)
    matrix = mixing_matrix(metropolis_links(graph.edges, devices), devices)
    values = np.arange(devices, dtype=np.float64)
    assert np.linalg.matrix_power(matrix, 500) @ values == pytest.approx(4.0)
