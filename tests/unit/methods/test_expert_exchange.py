"""The trade between clusters: real messages over real packets, on a channel that loses nothing."""

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_device import ToyDevice

from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Kind, Traffic
from emulator.core.types.records import LinkRecord
from emulator.core.types.steps import Inbox, Step
from emulator.methods.expert_exchange import ExpertRing
from emulator.network.channel.access import IdealAccess
from emulator.network.channel.ideal import Ideal
from emulator.network.shim import Shim
from emulator.network.wire import WireFormat
from emulator.runtime.drivers import one_process

LAYOUT = AdapterLayout(("a.lora_B", "b.lora_B"), ((20, 4), (10, 4)))
STATISTICS = AdapterLayout(("counts", "sums"), ((4,), (4, 3)))
Clusters = tuple[tuple[int, ...], ...]


class Network:
    """Clusters with seeded masks, experts and statistics, and what a trade among them left behind."""

    def __init__(
        self,
        clusters: Clusters,
        groups: list[int],
        routed: str = "routed",
        number: str = "bfloat16",
        statistics: str = "float32",
    ) -> None:
        self.clusters, self.groups = clusters, groups
        self.devices = len(groups)
        self.cluster_of = {i: c for c, members in enumerate(clusters) for i in members}
        self.samples = [10 * i + 7 for i in range(self.devices)]
        draws = np.random.default_rng(1)
        self.masks = {
            b: Mask.from_dense(draws.random(LAYOUT.size) < 0.3) for b in sorted(set(groups))
        }
        self.wire = WireFormat(value_type=number, statistics_type=statistics)
        self.toys = [ToyDevice(i, LAYOUT, self.wire) for i in range(self.devices)]
        self.experts: dict[tuple[int, int], FloatArray] = {}
        for c, members in enumerate(clusters):
            for b in sorted({groups[i] for i in members}):
                drawn = draws.standard_normal(LAYOUT.size).astype(np.float32)
                self.experts[c, b] = self.toys[0].wire.as_received(
                    np.where(self.masks[b].dense, drawn, np.float32(0))
                )
        size = STATISTICS.size if routed == "routed" else 0
        self.statistics = draws.standard_normal((len(clusters), size)).astype(np.float32)

    def ring(self, device: int) -> ExpertRing:
        c = self.cluster_of[device]
        known = {self.groups[i]: self.masks[self.groups[i]] for i in self.clusters[c]}
        ring = ExpertRing(self.toys[device], self.clusters, self.groups, self.samples)
        ring.learn_masks(known)
        return ring

    def life(self, device: int) -> Generator[Step, Inbox, Any]:
        ring, c = self.ring(device), self.cluster_of[device]
        mine = {b: values for (where, b), values in self.experts.items() if where == c}
        # A member holds statistics of its own; only its leader's are the cluster's sum.
        statistics = self.statistics[c] if device == ring.leader else self.statistics[c] * 0 + 99
        experts, total = yield from ring.exchange_experts(mine, STATISTICS, statistics, 3)
        return experts, total, ring.masks

    def trade(self) -> list[tuple[dict[int, FloatArray], FloatArray, dict[int, Mask]]]:
        channel = Ideal().bind(self.devices, 1)
        outcomes = one_process.run_lives(
            {i: self.life(i) for i in range(self.devices)},
            {i: Shim(i, self.wire, IdealAccess(), channel) for i in range(self.devices)},
            lambda *_: None,
        )
        self.records = [r for o in outcomes.values() for r in o.link_records]
        return [outcomes[i].result for i in range(self.devices)]  # type: ignore[misc]

    def wanted(self, group: int) -> FloatArray:
        """The mean of the clusters' experts by the samples of their members of that group."""
        total, weights = np.zeros(LAYOUT.size), 0
        for c, members in enumerate(self.clusters):
            weight = sum(self.samples[i] for i in members if self.groups[i] == group)
            if weight:
                total += weight * self.experts[c, group].astype(np.float64)
                weights += weight
        return (total / weights).astype(np.float32)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    devices = draw(st.integers(2, 7))
    groups = draw(st.lists(st.integers(0, 3), min_size=devices, max_size=devices))
    labels = draw(st.lists(st.integers(0, 3), min_size=devices, max_size=devices))
    members = [tuple(i for i in range(devices) if labels[i] == c) for c in range(4)]
    return Network(tuple(sorted(m for m in members if m)), groups)


THREE: Clusters = ((0, 1, 4), (2,), (3, 5))
SHARED = [0, 1, 0, 2, 0, 1]
"""Groups 0 and 1 live in two clusters each, group 2 in one."""


@given(network=networks())
@settings(max_examples=30, deadline=None)
def test_everybody_ends_with_the_same_experts_masks_and_statistics(network: Network) -> None:
    results = network.trade()
    for experts, statistics, masks in results:
        assert sorted(experts) == sorted(masks) == sorted(set(network.groups))
        np.testing.assert_allclose(statistics, network.statistics.sum(axis=0), rtol=1e-5, atol=1e-6)
        for group, values in experts.items():
            assert values.dtype == np.float32
            assert values.tobytes() == results[0][0][group].tobytes()
            assert masks[group].digest == network.masks[group].digest
            assert not values[~network.masks[group].dense].any()
            wanted = network.wanted(group)
            np.testing.assert_allclose(values, wanted, rtol=2**-8, atol=1e-12)


def test_an_expert_of_one_cluster_arrives_everywhere_bit_for_bit() -> None:
    network = Network(THREE, SHARED)
    for experts, _, _ in network.trade():
        assert experts[2].tobytes() == network.experts[2, 2].tobytes()


@pytest.mark.parametrize("number", ["float32", "bfloat16", "float16", "int8"])
def test_experts_of_one_task_are_averaged_by_samples_and_rounded_as_sent(number: str) -> None:
    network = Network(THREE, SHARED, number=number)
    for group in (0, 1):
        wanted = network.wanted(group)
        rounded = network.toys[0].wire.as_received(wanted)
        for experts, _, _ in network.trade():
            np.testing.assert_allclose(experts[group], rounded, rtol=1e-6, atol=1e-7)


@given(network=networks())
@settings(max_examples=30, deadline=None)
def test_a_mask_travels_only_where_it_is_news(network: Network) -> None:
    network.trade()
    known = [
        {network.groups[i] for i in network.clusters[network.cluster_of[device]]}
        for device in range(network.devices)
    ]
    rounds = list(zip(*(toy.network.sent for toy in network.toys), strict=True))
    for said in rounds:
        messages = [m for of_device in said for m in of_device if m.kind is Kind.EXPERT]
        for message in messages:
            group = network.groups[message.origin]
            assert message.mask.digest == network.masks[group].digest
            assert {group in known[r] for r in message.receivers} == {message.mask_known}
        for message in messages:
            for receiver in message.receivers:
                known[receiver].add(network.groups[message.origin])
    new_masks = any(not m.mask_known for toy in network.toys for ms in toy.network.sent for m in ms)
    assert new_masks == (sum(record.mask_bytes for record in network.records) > 0)


def test_a_second_trade_sends_no_mask_again_whatever_the_clusters_are_by_then() -> None:
    network = Network(THREE, SHARED)
    devices = range(network.devices)
    rings = {i: network.ring(i) for i in devices}

    def twice(device: int) -> Generator[Step, Inbox, None]:
        ring, size = rings[device], STATISTICS.size
        for clusters in (THREE, ((0, 2, 3), (1, 4, 5))):
            ring.regroup(clusters)
            held = {b: network.experts[c, b] for c, b in network.experts}
            mine = {b: held[b] for b in sorted(ring.groups_of(ring.index))}
            yield from ring.exchange_experts(mine, STATISTICS, np.zeros(size, dtype=np.float32), 3)

    air = Ideal().bind(network.devices, 1)
    shims = {i: Shim(i, network.wire, IdealAccess(), air) for i in devices}
    one_process.run_lives({i: twice(i) for i in devices}, shims, lambda *_: None)  # type: ignore[misc]
    exchanges = len(network.toys[0].network.sent)
    news = [
        [m.mask_known for toy in network.toys for m in toy.network.sent[e] if m.kind is Kind.EXPERT]
        for e in range(exchanges)
    ]
    first = len(THREE)  # as many exchanges as clusters: two steps around the ring and the spread
    assert not all(known for said in news[:first] for known in said)
    assert any(news[first:])
    assert all(known for said in news[first:] for known in said)


@given(network=networks())
@settings(max_examples=20, deadline=None)
def test_the_ring_takes_as_many_steps_as_other_clusters_and_one_more(network: Network) -> None:
    network.trade()
    leaders = {members[0] for members in network.clusters}
    for toy in network.toys:
        assert len(toy.network.sent) == len(network.clusters)
        if toy.info.id not in leaders:
            assert not any(toy.network.sent)
    for toy in network.toys:
        for messages in toy.network.sent[:-1]:
            assert {r for m in messages for r in m.receivers} <= leaders
        for message in (m for messages in toy.network.sent for m in messages):
            assert message.traffic is Traffic.INTER_CLUSTER
            assert message.reliable


def expert_bytes(records: Sequence[LinkRecord]) -> int:
    return sum(record.payload_bytes + record.mask_bytes for record in records)


def test_one_cluster_needs_no_expert_bytes() -> None:
    network = Network(((0, 1, 2, 3),), [0, 1, 0, 2])
    results = network.trade()
    messages = [m for toy in network.toys for ms in toy.network.sent for m in ms]
    assert {m.kind for m in messages} == {Kind.STATISTICS}
    assert expert_bytes(network.records) == 3 * STATISTICS.size * 4  # once to each member, float32
    for experts, statistics, _ in results:
        np.testing.assert_array_equal(statistics, network.statistics[0])
        for group, values in experts.items():
            assert values.tobytes() == network.experts[0, group].tobytes()


def test_statistics_of_two_bytes_are_the_same_everywhere() -> None:
    """Half the bytes; a leader rounds what it keeps as it rounds what it says."""
    exact, coarse = (Network(THREE, SHARED, statistics=kind) for kind in ("float32", "bfloat16"))
    of_exact, of_coarse = exact.trade(), coarse.trade()
    assert len({statistics.tobytes() for _, statistics, _ in of_coarse}) == 1
    assert of_coarse[0][1].tobytes() != of_exact[0][1].tobytes()
    np.testing.assert_allclose(of_coarse[0][1], of_exact[0][1], rtol=2**-6, atol=2**-6)
    sent = [
        m for toy in coarse.toys for ms in toy.network.sent for m in ms if m.kind is Kind.STATISTICS
    ]
    saved = expert_bytes(exact.records) - expert_bytes(coarse.records)
    assert saved == sum(2 * STATISTICS.size * len(message.receivers) for message in sent) > 0


def test_one_cluster_without_statistics_needs_no_bytes_at_all() -> None:
    network = Network(((0, 1, 2),), [0, 1, 0], routed="unrouted")
    results = network.trade()
    assert not network.records
    assert [sorted(experts) for experts, _, _ in results] == [[0, 1]] * 3


def test_clusters_without_statistics_trade_experts_alone() -> None:
    network = Network(THREE, SHARED, routed="unrouted")
    for experts, statistics, _ in network.trade():
        assert sorted(experts) == [0, 1, 2]
        assert statistics.size == 0
    messages = [m for toy in network.toys for ms in toy.network.sent for m in ms]
    assert {m.kind for m in messages} == {Kind.EXPERT}


def test_single_devices_are_clusters_too() -> None:
    network = Network(((0,), (1,), (2,)), [0, 1, 2])
    results = network.trade()
    for group in range(3):
        assert all(
            e[group].tobytes() == network.experts[group, group].tobytes() for e, _, _ in results
        )
    assert not any(toy.network.sent[-1] for toy in network.toys)  # nobody to spread anything to


def test_the_senders_are_the_lowest_members_of_their_group() -> None:
    ring = Network(THREE, SHARED).ring(4)
    assert ring.senders_of(0) == {0: 0, 1: 1}
    assert ring.senders_of(2) == {2: 3, 1: 5}
    assert (ring.index, ring.leader, ring.others) == (0, 0, (0, 1))
    assert ring.groups_of(2) == {1, 2}
