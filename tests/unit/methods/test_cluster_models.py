"""The trade under `printed_24`: one B for each cluster, over the union of its masks, on real packets.

Shapes: N coordinates of all B.
"""

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from emulator.core.types.arrays import BoolArray, FloatArray
from emulator.core.types.message import Kind, Message
from emulator.core.types.steps import Inbox, Step
from emulator.methods.cluster_models import ClusterModels
from emulator.network.channel.access import IdealAccess
from emulator.network.channel.ideal import Ideal
from emulator.network.shim import Shim
from emulator.runtime.drivers import one_process

from .test_expert_exchange import LAYOUT, SHARED, STATISTICS, THREE, Clusters, Network, networks


class Trades:
    """A network whose clusters trade their means, once for each of some groupings."""

    def __init__(self, network: Network, *groupings: Clusters) -> None:
        self.network = network
        self.groupings = groupings or (network.clusters,)
        draws = np.random.default_rng(5)
        self.mean_N = draws.standard_normal(LAYOUT.size).astype(np.float32)
        self.mean_N = network.toys[0].wire.as_received(self.mean_N)
        self.air = {
            i: Shim(i, network.wire, IdealAccess(), Ideal().bind(network.devices, 1))
            for i in range(network.devices)
        }
        outcomes = one_process.run_lives(
            {i: self.life(i) for i in range(network.devices)}, self.air, lambda *_: None
        )
        self.records = [r for o in outcomes.values() for r in o.link_records]
        self.results: list[Any] = [outcomes[i].result for i in range(network.devices)]

    def mean_of(self, cluster: int) -> FloatArray:
        """Different in each cluster, and nowhere 0: what no mask keeps must not travel."""
        return self.mean_N * np.float32(2**cluster)

    def life(self, device: int) -> Generator[Step, Inbox, Any]:
        ring = self.network.ring(device)
        models = ClusterModels(ring)
        for clusters in self.groupings:
            ring.regroup(clusters)
            ring.learn_masks({b: self.network.masks[b] for b in ring.groups_of(ring.index)})
            statistics = self.network.statistics[ring.index % len(self.network.clusters)]
            told = yield from models.exchange_models(
                self.mean_of(ring.index), STATISTICS, statistics, 3
            )
        return told

    def union(self, clusters: Clusters, c: int) -> BoolArray:
        kept_N = np.zeros(LAYOUT.size, dtype=np.bool_)
        for i in clusters[c]:
            kept_N |= self.network.masks[self.network.groups[i]].dense
        return kept_N

    def wanted(self, group: int) -> FloatArray:
        """By samples of the group's devices, coordinate by coordinate, over the last grouping."""
        network, clusters = self.network, self.groupings[-1]
        above_N, below = np.zeros(LAYOUT.size), 0
        for c, members in enumerate(clusters):
            weight = sum(network.samples[i] for i in members if network.groups[i] == group)
            above_N += weight * np.where(self.union(clusters, c), self.mean_of(c), 0).astype(float)
            below += weight
        return (above_N / below).astype(np.float32)

    def sent(self, exchange: int | None = None) -> list[Message]:
        sent = (toy.network.sent for toy in self.network.toys)
        chosen = (of if exchange is None else of[exchange : exchange + 1] for of in sent)
        return [m for of in chosen for ms in of for m in ms if m.kind is Kind.EXPERT]


@given(network=networks())
@settings(max_examples=25, deadline=None)
def test_everybody_ends_with_every_groups_unmasked_mean(network: Network) -> None:
    trades = Trades(network)
    for experts, statistics in trades.results:
        assert sorted(experts) == sorted(set(network.groups))
        np.testing.assert_allclose(statistics, network.statistics.sum(axis=0), rtol=1e-5, atol=1e-6)
        for group, values in experts.items():
            assert values.tobytes() == trades.results[0][0][group].tobytes()
            np.testing.assert_allclose(values, trades.wanted(group), rtol=1e-6)


def test_an_expert_holds_what_other_members_wrote() -> None:
    trades = Trades(Network(THREE, SHARED))
    experts, _ = trades.results[0]
    foreign_N = ~trades.network.masks[2].dense & trades.union(THREE, 2)  # group 2 lives there only
    assert foreign_N.any()
    assert np.array_equal(experts[2][foreign_N], trades.mean_of(2)[foreign_N])
    nobody_N = ~trades.union(THREE, 2)
    assert nobody_N.any()
    assert not experts[2][nobody_N].any()


def test_a_cluster_is_sent_once_over_the_union_of_its_masks() -> None:
    """Two steps around the ring of three, then both other clusters to the members of two."""
    trades = Trades(Network(THREE, SHARED, routed="unrouted"))
    messages = trades.sent()
    assert len(messages) == 3 + 3 + 2 + 2
    counts = [int(trades.union(THREE, c).sum()) for c in range(3)]
    origins = {members[0]: c for c, members in enumerate(THREE)}
    for message in messages:
        c = origins[message.origin]
        assert np.array_equal(message.mask.dense, trades.union(THREE, c))
    payload = sum(2 * counts[origins[m.origin]] * len(m.receivers) for m in messages)
    assert sum(record.payload_bytes for record in trades.records) == payload
    groupwise = Network(THREE, SHARED, routed="unrouted")
    groupwise.trade()
    assert payload < sum(record.payload_bytes for record in groupwise.records)


def test_a_union_travels_only_to_those_who_lack_one_of_its_masks() -> None:
    network = Network(((0, 1), (2,), (3, 4)), [0, 1, 0, 1, 2])
    messages = Trades(network).sent()
    news = {(m.origin, r): not m.mask_known for m in messages for r in m.receivers}
    assert not news[2, 0]  # all that {2} writes, group 0, is known to 0
    assert news[0, 2]
    assert news[3, 0]
    assert not Trades(Network(((0, 1), (2, 3)), [0, 1, 0, 1])).records[0].mask_bytes


@pytest.mark.parametrize("second", [THREE, ((0, 2, 3), (1, 4, 5))], ids=["same", "regrouped"])
def test_a_second_trade_sends_no_union_again_unless_clusters_are_others(second: Clusters) -> None:
    trades = Trades(Network(THREE, SHARED, routed="unrouted"), THREE, second)
    first = len(THREE)  # exchanges of the first trade
    told = [m.mask_known for e in range(first, first + len(second)) for m in trades.sent(e)]
    assert told
    assert all(told) == (second == THREE)
    for group in set(SHARED):
        for experts, _ in trades.results:
            np.testing.assert_allclose(experts[group], trades.wanted(group), rtol=1e-6)
