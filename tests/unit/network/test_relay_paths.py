"""Paths between devices out of each other's range, against all simple paths by NetworkX."""

from fractions import Fraction

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.network.channel.access import OfdmaAccess
from emulator.network.channel.ideal import Ideal
from emulator.network.relay_paths import Network, RelayPaths, find_paths_taken

SLOWER = (1, 2, 3, 6)
"""The ratio of the airtime of a link to that of the fastest link."""


@st.composite
def networks(draw):
    """Pairs in range, and the factor by which they are slower than 12 Mb/s, equal in both directions."""
    devices = draw(st.integers(2, 6))
    slower_MM = np.zeros((devices, devices), dtype=np.int64)
    for i in range(devices):
        for j in range(i):
            slower_MM[i, j] = slower_MM[j, i] = draw(st.sampled_from((0, 0, *SLOWER)))
    return slower_MM


def paths_of(slower_MM) -> RelayPaths:
    with np.errstate(divide="ignore"):
        rates_MM = np.where(slower_MM > 0, 12e6 / slower_MM, 0.0)
    return RelayPaths(slower_MM > 0, lambda: rates_MM)


@settings(deadline=None)
@given(networks())
def test_of_least_airtime_then_fewest_hops_then_lowest_ids(slower_MM):
    graph, paths = nx.from_numpy_array(slower_MM > 0), paths_of(slower_MM)
    fastest = slower_MM[slower_MM > 0].min(initial=6)

    def cost(path):
        airtime = sum(
            Fraction(int(slower_MM[i, j]), int(fastest)) for i, j in nx.utils.pairwise(path)
        )
        return airtime, len(path), path

    for sender in graph:
        for receiver in set(graph) - {sender}:
            every = [tuple(path) for path in nx.all_simple_paths(graph, sender, receiver)]
            wanted = min(every, key=cost, default=None)
            if slower_MM[sender, receiver]:
                wanted = (sender, receiver)
            assert paths.find_path(sender, receiver) == wanted


def test_a_pair_in_range_is_served_directly_even_where_a_relay_would_be_faster():
    slower_MM = np.array([[0, 1, 6], [1, 0, 1], [6, 1, 0]])
    assert paths_of(slower_MM).find_path(0, 2) == (0, 2)
    assert paths_of(slower_MM).find_relayed() == []


def test_hops_of_one_airtime_are_equal_however_it_is_rounded():
    rates_MM = np.full((4, 4), 3e5)
    rates_MM[0, 2] = rates_MM[2, 0] = 3e5 * (1 + 1e-12)
    near_MM = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]], dtype=bool)
    assert RelayPaths(near_MM, lambda: rates_MM).find_relayed() == [
        (0, 1, 3),
        (1, 0, 2),
        (2, 0, 1),
        (3, 1, 0),
    ]


def test_rates_are_asked_for_only_where_some_pair_is_out_of_range():
    def never():
        raise AssertionError

    assert RelayPaths(~np.eye(3, dtype=bool), never).find_relayed() == []


class Counted:
    """A channel that counts how often its network is judged."""

    def __init__(self, channel, *, moving):
        self.channel, self.moving, self.judged = channel, moving, 0

    def at(self, time_s):
        snapshot = self.channel.at(time_s)
        counted = self

        class Snapshot:
            mean_gain = snapshot.mean_gain.copy() if counted.moving else snapshot.mean_gain
            bit_per_s = snapshot.bit_per_s

            def in_range(self, *share):
                counted.judged += 1
                return snapshot.in_range(*share)

        return Snapshot()


@pytest.mark.parametrize(("moving", "judged"), [(False, 1), (True, 3)])
def test_a_state_of_the_network_is_worked_out_once(moving, judged):
    channel = Counted(Ideal().bind(4, 0), moving=moving)
    network = Network(channel, OfdmaAccess(bandwidth_hz=1e6))
    for time_s in (0.0, 0.0, 1.0, 2.0, 2.0):
        assert network.at(time_s).find_path(0, 3) == (0, 3)
    assert channel.judged == judged


def test_paths_taken_are_read_from_the_records(burst):
    direct = burst(0, 1, origin=0, destination=1, hop=0)
    hops = [
        burst(3, 2, origin=3, destination=1, hop=0),  # on the way to 1 and 0
        burst(2, 1, origin=3, destination=1, hop=1),
        burst(1, 0, origin=3, destination=0, hop=2),
    ]
    again = [burst(3, 2, exchange_index=1, origin=3, destination=1, hop=0)]
    again += [burst(2, 1, exchange_index=1, origin=3, destination=1, hop=1)]
    assert find_paths_taken([direct, *again, *hops]) == [(3, 2, 1), (3, 2, 1, 0)]
    assert find_paths_taken([direct, burst(0, 1)]) == []
