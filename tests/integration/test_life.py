"""Whole lives in one process: what the air may change and what it must not."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest

from emulator.core.errors import ScenarioError
from emulator.core.records import check_account
from emulator.core.types.adapter import Mask
from emulator.core.types.message import Coordinate, Message, Received
from emulator.core.types.records import LinkRecord, MetricRecord
from emulator.core.types.result import DeviceResult, Expert
from emulator.core.types.steps import Commit, Inbox, Send
from emulator.core.types.transmission import Burst
from emulator.device import Device, live
from emulator.network.shim import Shim
from emulator.runtime.drivers import one_process
from emulator.runtime.drivers.lifecycle import LifeOutcome, OnCommit
from emulator.scenario.schema import Scenario
from emulator.scenario.world import World, build_world

NOTHING = Expert("none", 0, 1.0, {})
FAR_APART = [[0.0, 0.0], [300.0, 0.0], [600.0, 0.0], [900.0, 0.0]]


def scenario(**sections: object) -> Scenario:
    """Four devices, four tasks, as little work as possible."""
    small: dict[str, object] = {
        "name": "small",
        "devices": 4,
        "rounds": 2,
        "tasks": {"kind": "synthetic", "train_samples": 60, "test_samples": 4},
        "local": {"steps": 2, "batch_size": 8},
        "method": {"kind": "sparse_orthogonal", "mask_warmup_steps": 2, "density": 0.1},
    }
    return Scenario.model_validate(small | sections)


def wireless(**fields: object) -> dict[str, object]:
    """A noisy channel without losses, on a band for small messages."""
    return {
        "channel": {"kind": "wireless", "noise_figure_db": 30.0, **fields},
        "access": {"kind": "ofdma", "bandwidth_hz": 20e3},
    }


def run(
    world: World,
    airs: Mapping[int, object] | None = None,
    on_commit: OnCommit = lambda *_: None,
) -> dict[int, LifeOutcome]:
    devices = range(world.scenario.devices)
    chosen = world.scenario
    shims = airs or {i: Shim(i, chosen.wire, world.access, world.channel) for i in devices}
    return one_process.run_lives({i: live(world, i) for i in devices}, shims, on_commit)


def learnt(outcomes: Mapping[int, LifeOutcome]) -> dict[str, bytes]:
    """Every expert tensor and the router of every device."""
    found = {}
    for device, outcome in outcomes.items():
        for expert in outcome.result.experts:
            for name, values in expert.tensors.items():
                found[f"{device}/{expert.task}/{name}"] = values.tobytes()
        for name, values in outcome.result.router.items():
            found[f"{device}/router/{name}"] = values.tobytes()
    return found


class NoAir:
    """Messages handed over as they are: no wire, no access, no channel."""

    def __init__(self, mail: dict[tuple[int, int, int], list[Message]], device: int) -> None:
        self.mail = mail
        self.device = device

    def emit(
        self, send: Send, exchange_index: int
    ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
        receivers = sorted({r for message in send.messages for r in message.receivers})
        for r in receivers:
            told = [m for m in send.messages if r in m.receivers]
            self.mail[exchange_index, self.device, r] = told
        empty = (Burst(self.device, r, exchange_index, send.now_s, b"") for r in receivers)
        return tuple(empty), ()

    def collect(self, send: Send, bursts: Sequence[Burst]) -> Inbox:
        received = [
            as_received(message, burst.arrival_s)
            for burst in bursts
            for message in self.mail[burst.exchange_index, burst.sender, self.device]
        ]
        return Inbox(tuple(received), send.now_s)


def as_received(message: Message, arrival_s: float) -> Received:
    size = message.mask.size
    values = np.zeros(size, dtype=np.float32 if message.values is None else message.values.dtype)
    if message.values is not None:
        values[message.mask.indices] = message.values
    status = np.where(message.mask.dense, Coordinate.RECEIVED, Coordinate.NOT_SENT)
    return Received(
        message.kind,
        message.traffic,
        message.source,
        message.origin,
        message.round_index,
        arrival_s,
        message.layout.digest,
        values,
        status.astype(np.uint8),
    )


@pytest.mark.parametrize("method", ["sparse_orthogonal", "lora"])
def test_the_ideal_channel_equals_no_shim_bit_for_bit(method: str) -> None:
    world = build_world(scenario(method={"kind": method}, wire={"value_type": "float32"}))
    mail: dict[tuple[int, int, int], list[Message]] = {}
    without = run(world, {i: NoAir(mail, i) for i in range(4)})
    shimmed = run(world)
    assert learnt(shimmed) == learnt(without)
    for device in range(4):
        assert shimmed[device].result.records == without[device].result.records
        assert shimmed[device].result.emulated_s == without[device].result.emulated_s


def test_a_lossy_air_changes_results_and_keeps_its_account() -> None:
    lossy = wireless(losses={"kind": "bernoulli", "probability": 0.4})
    world = build_world(scenario(method={"kind": "lora"}, **lossy))
    outcomes = run(world)
    links = [record for outcome in outcomes.values() for record in outcome.link_records]
    check_account(links)
    assert sum(record.packets_lost for record in links if record.traffic == "in_cluster") > 0
    assert all(record.packets_lost == 0 for record in links if record.traffic == "setup")
    assert sum(record.retransmitted_bytes for record in links if record.traffic == "setup") > 0
    clean = run(build_world(scenario(method={"kind": "lora"}, **wireless())))
    assert learnt(outcomes) != learnt(clean)
    assert learnt(outcomes) == learnt(run(world))


LOSSY = wireless(losses={"kind": "bernoulli", "probability": 0.4})


@pytest.mark.parametrize("kind", ["sparse_orthogonal", "stacking"])
def test_what_is_sent_until_it_comes_is_learnt_as_if_nothing_were_lost(kind: str) -> None:
    small: dict[str, object] = {"method": {"kind": kind}, "topology": {"kind": "complete"}}
    clean = run(build_world(scenario(**small, **wireless())))
    resent = run(build_world(scenario(**small, **LOSSY, wire={"lost_coordinates": "retransmit"})))
    assert learnt(resent) == learnt(clean)
    rounds = [r for o in resent.values() for r in o.link_records if r.traffic == "in_cluster"]
    assert sum(r.retransmitted_bytes for r in rounds) > 0
    assert sum(r.packets_lost for r in rounds) == 0


@pytest.mark.parametrize(
    ("kind", "policies"),
    [
        ("sparse_orthogonal", ("keep_own", "last_received", "drop_message")),
        ("lori", ("keep_own", "renormalise")),
    ],
)
def test_policies_differ_on_a_lossy_air(kind: str, policies: tuple[str, ...]) -> None:
    small: dict[str, object] = {
        "method": {"kind": kind, "mask_warmup_steps": 2, "density": 0.3},
        "topology": {"kind": "complete"},
    }
    wires = [{"lost_coordinates": policy, "mtu_bytes": 500} for policy in policies]
    lossy = [learnt(run(build_world(scenario(**small, **LOSSY, wire=wire)))) for wire in wires]
    assert all(one != other for i, one in enumerate(lossy) for other in lossy[:i])


def test_interleaving_without_losses_changes_nothing() -> None:
    small: dict[str, object] = {"method": {"kind": "lora"}}
    ranges, classes = (
        run(build_world(scenario(**small, wire={"interleave": interleave})))
        for interleave in (False, True)
    )
    assert learnt(ranges) == learnt(classes)
    bytes_of = [
        [r.sent_bytes for o in told.values() for r in o.link_records] for told in (ranges, classes)
    ]
    assert bytes_of[0] == bytes_of[1]
    lossy = run(build_world(scenario(**small, **LOSSY, wire={"interleave": True})))
    check_account([r for o in lossy.values() for r in o.link_records])


def test_half_duplex_of_time_nothing_arrives_before_it_is_sent() -> None:
    outcomes = run(build_world(scenario(**wireless())))
    for outcome in outcomes.values():
        records = sorted(outcome.link_records, key=lambda r: r.exchange_index)
        assert all(r.arrival_s >= r.start_s and r.energy_j >= 0 for r in records)
        of_exchange: dict[int, list[LinkRecord]] = {}
        for record in records:
            of_exchange.setdefault(record.exchange_index, []).append(record)
        ends = [max(r.arrival_s for r in of_exchange[k]) for k in sorted(of_exchange)]
        starts = [min(r.start_s for r in of_exchange[k]) for k in sorted(of_exchange)]
        assert all(end <= start for end, (_, start) in zip(ends, pairwise(starts), strict=False))
        powers = [sum(r.tx_power_w for r in burst) for burst in of_exchange.values()]
        assert max(powers) <= 0.2 * (1 + 1e-9)


@pytest.mark.parametrize("kind", ["ofdma", "tdma"])
def test_a_broadcast_carries_the_same_in_fewer_bytes(kind: str) -> None:
    air = wireless(late="wait")
    alone, together = (
        run(
            build_world(
                scenario(
                    topology={"kind": "complete"},
                    **air | {"access": {"kind": kind, "bandwidth_hz": 80e3, "cast": cast}},
                )
            )
        )
        for cast in ("unicast", "broadcast")
    )
    assert learnt(together) == learnt(alone)
    each, once = ([r for o in told.values() for r in o.link_records] for told in (alone, together))
    check_account(once)
    assert len(once) == len(each)  # everybody has a record of what they were sent
    rounds = [r for r in once if r.traffic == "in_cluster"]
    assert sum(r.on_air for r in rounds) == 2 * 4
    assert sum(r.air_bytes for r in rounds) * 3 == sum(r.sent_bytes for r in rounds)
    assert all((r.airtime_s > 0.0) == r.on_air for r in rounds)
    assert sum(r.energy_j for r in once) < sum(r.energy_j for r in each)


def test_in_turns_no_two_devices_transmit_at_once() -> None:
    access = {"kind": "tdma", "bandwidth_hz": 80e3, "slot_s": 0.02}
    world = build_world(scenario(method={"kind": "lora"}, **wireless() | {"access": access}))
    outcomes = run(world)
    bursts = [r for o in outcomes.values() for r in o.link_records if r.traffic == "in_cluster"]
    busy: dict[int, set[int]] = {}
    for burst in bursts:
        # Own slots only: device i has [i, i + 1) of every four.
        first, last = int(burst.start_s / 0.02), int(np.ceil(burst.arrival_s / 0.02))
        own = {slot for slot in range(first, last) if slot % 4 == burst.sender}
        assert burst.airtime_s <= len(own) * 0.02 + 1e-9
        busy.setdefault(burst.sender, set()).update(own)
    assert all(a.isdisjoint(b) for i, a in busy.items() for j, b in busy.items() if i != j)


def test_moving_devices_come_into_range_of_others() -> None:
    walking = wireless(
        placement={"kind": "rectangle", "width_m": 400.0, "height_m": 400.0},
        mobility={"kind": "random_waypoint", "min_speed_m_per_s": 40, "max_speed_m_per_s": 60},
        max_power_w=5e-4,
    )
    method = {"kind": "sparse_orthogonal", "mask_warmup_steps": 2, "density": 0.05}
    formed: dict[int, dict[int, float]] = {}

    def note(device: int, commit: Commit, _: object) -> None:
        for r in commit.records:
            if r.metric == "cluster":
                formed.setdefault(r.round_index, {})[device] = r.value

    world = build_world(scenario(rounds=4, method=method | {"recluster_every": 1}, **walking))
    outcomes = run(world, on_commit=note)
    assert sorted(formed) == [-1, 1, 2, 3]
    assert len({tuple(sorted(clusters.items())) for clusters in formed.values()}) > 1
    links = [record for outcome in outcomes.values() for record in outcome.link_records]
    check_account(links)
    assert {record.round_index for record in links if record.traffic == "setup"} == {-1, 1, 2, 3}
    assert all(len(outcome.result.experts) == 4 for outcome in outcomes.values())
    assert learnt(outcomes) == learnt(run(world))


def test_introductions_hop_through_a_line() -> None:
    near = wireless(
        placement={"kind": "fixed", "positions_m": FAR_APART},
        fading={"kind": "none"},
        max_power_w=6e-5,
    )
    world = build_world(scenario(**near))
    in_range = world.channel.at(0.0).in_range(20e3, 1.0)
    assert in_range.sum() == 6  # only next neighbours
    devices = [Device(world, i) for i in range(4)]

    def life(own: Device):  # type: ignore[no-untyped-def]
        own.model.lora(2, 2, ("lora_B",))
        received = yield from own.network.flood(bytes([own.info.id]) * (own.info.id + 1))
        assert received == {i: bytes([i]) * (i + 1) for i in range(4)}
        now_s = own.progress.now_s
        return DeviceResult(own.info.id, NOTHING, (), {}, (), (), (), now_s, 0.0, 0.0, 1)

    airs = {i: Shim(i, world.scenario.wire, world.access, world.channel) for i in range(4)}
    outcomes = one_process.run_lives({d.info.id: life(d) for d in devices}, airs, lambda *_: None)
    sent = [(r.sender, r.receiver) for o in outcomes.values() for r in o.link_records]
    assert {abs(a - b) for a, b in sent} == {1}
    messages = sum(r.messages for o in outcomes.values() for r in o.link_records)
    assert messages == 4 * 3  # on a line every introduction crosses each of three edges once


def test_islands_are_named() -> None:
    apart = [[0.0, 0.0], [1.0, 0.0], [9e5, 0.0], [9e5, 1.0]]
    parts = wireless(placement={"kind": "fixed", "positions_m": apart}, max_power_w=1e-9)
    with pytest.raises(ScenarioError, match=r"\[0, 1\]; \[2, 3\]"):
        build_world(scenario(**parts))
    build_world(scenario(**parts, method={"kind": "local"}))  # which needs nobody


def test_same_task_devices_share_projection_and_mask() -> None:
    world = build_world(
        scenario(devices=4, tasks={"kind": "synthetic", "names": ["reverse", "sort"]})
    )
    outcomes = run(world)
    zero, two = outcomes[0].result.own_expert, outcomes[2].result.own_expert
    assert zero.task == two.task == "reverse"
    for name, values in zero.tensors.items():
        if name.endswith("lora_A"):
            np.testing.assert_array_equal(values, two.tensors[name])
        else:
            np.testing.assert_array_equal(values != 0, two.tensors[name] != 0)


def test_clusters_formed_again_cost_bytes_and_change_nothing_without_motion() -> None:
    method = {"kind": "sparse_orthogonal", "mask_warmup_steps": 2, "density": 0.1}
    topology = {"kind": "clusters", "max_collision_rate": 0.02}
    formed: dict[tuple[int, int], float] = {}

    def note(device: int, commit: Commit, _: object) -> None:
        told = {(device, r.round_index): r.value for r in commit.records if r.metric == "cluster"}
        formed.update(told)

    once, again = (
        run(
            build_world(scenario(rounds=4, method=method | more, topology=topology, **wireless())),
            on_commit=note,
        )
        for more in ({}, {"recluster_every": 2})
    )
    assert len(once[0].result.clusters) > 1
    assert learnt(again) == learnt(once)
    assert formed == {(device, r): formed[device, -1] for device in range(4) for r in (-1, 2)}
    links = [[r for o in outcomes.values() for r in o.link_records] for outcomes in (once, again)]
    setup = [sum(r.sent_bytes for r in records if r.traffic == "setup") for records in links]
    assert setup[1] > setup[0]
    check_account(links[1])


def test_the_density_is_kept_by_every_expert() -> None:
    outcomes = run(build_world(scenario()))
    for expert in outcomes[0].result.experts:
        entries = [v for name, v in expert.tensors.items() if name.endswith("lora_B")]
        size = sum(v.size for v in entries)
        assert sum(np.count_nonzero(v) for v in entries) <= round(0.1 * size)


def test_forgetting_and_dilution_are_looked_at_when_asked() -> None:
    """Before, diluted and after the exchange; the look itself changes nothing."""
    plain = run(build_world(scenario()))
    looking = build_world(scenario(evaluation={"own_task_every": 2}))
    seen: list[MetricRecord] = []
    looked = one_process.run_lives(
        {i: live(looking, i) for i in range(4)},
        {i: Shim(i, looking.scenario.wire, looking.access, looking.channel) for i in range(4)},
        lambda _device, commit, _links: seen.extend(commit.records),
    )
    looks = ("before_exact_match", "diluted_exact_match", "own_exact_match", "exchange_shift")
    for metric in looks:
        assert [r.round_index for r in seen if r.metric == metric] == [1] * 4
    for device in plain:
        before, after = plain[device].result.own_expert, looked[device].result.own_expert
        for name in before.tensors:
            np.testing.assert_array_equal(before.tensors[name], after.tensors[name])


def test_with_error_feedback_the_sent_values_are_right_on_average() -> None:
    """After R rounds of one and the same vector the mean error is a rounding step over R."""
    world = build_world(scenario(wire={"value_type": "int8", "error_feedback": True}))
    own = Device(world, 0)
    world.scenario.method.start(own)
    own.model.mark_start()
    size = own.model.adapted.layout.size
    vector_N = np.random.default_rng(1).standard_normal(size).astype(np.float32)
    sent = []
    rounds = 40
    for _ in range(rounds):
        sharing = own.network.share(Mask.full(size), vector_N, receivers=(1,), senders=())
        next(sharing)
        with pytest.raises(StopIteration) as end:
            sharing.send(Inbox((), 0.0))
        sent.append(end.value.value.own_N)
    step = 2 * np.abs(sent[0]).max() / 127
    assert np.abs(sent[0] - vector_N).max() > step / 8
    assert np.abs(np.mean(sent, axis=0) - vector_N).max() < step / rounds
