"""What a round does to the adapters, against a slow reading of what was said in it.

Shapes: M devices, N coordinates of the trained vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from emulator.core.types.arrays import DoubleArray, FloatArray
from emulator.core.types.message import Kind, Message
from emulator.core.types.records import LinkRecord
from emulator.core.types.result import DeviceResult
from emulator.core.types.steps import Commit, Inbox, Send
from emulator.core.types.transmission import Burst
from emulator.device import live
from emulator.network.shim import Shim
from emulator.runtime.drivers import one_process
from emulator.scenario.schema import Scenario
from emulator.scenario.world import World, build_world

DEVICES = 4


@dataclass
class Rounds:
    """By (round, device): the values said, after local training, and the vector committed after."""

    world: World
    said: dict[tuple[int, int], Message] = field(default_factory=dict)
    after: dict[tuple[int, int], FloatArray] = field(default_factory=dict)
    measured: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)
    results: dict[int, DeviceResult] = field(default_factory=dict)

    def said_by_all(self, round_index: int) -> tuple[DoubleArray, np.ndarray]:
        """What the devices keep, 0 elsewhere [M, N], and where that is [M, N]."""
        told = [self.said[round_index, i] for i in range(DEVICES)]
        kept_MN = np.stack([message.mask.dense for message in told])
        values_MN = np.zeros(kept_MN.shape)
        values_MN[kept_MN] = np.concatenate([message.values for message in told])
        return values_MN, kept_MN


class Overheard:
    """A device's air, and a note of the values that it is asked to carry."""

    def __init__(self, device: int, air: Shim, rounds: Rounds) -> None:
        self.device = device
        self.air = air
        self.rounds = rounds

    def emit(
        self, send: Send, exchange_index: int
    ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
        for message in send.messages:
            if message.kind is Kind.VALUES:
                self.rounds.said[message.round_index, message.source] = message
        return self.air.emit(send, exchange_index)

    def collect(self, send: Send, bursts: Sequence[Burst]) -> Inbox:
        return self.air.collect(send, bursts)


def lists(*names: str, train_samples: int = 20, **more: object) -> dict[str, object]:
    """Operations on lists, with little to learn from and hardly anything to answer."""
    few = {"train_samples": train_samples, "test_samples": 1}
    return {"kind": "synthetic", "names": list(names), **few, **more}


def rounds_of(
    method: dict[str, object], air: type[Overheard] = Overheard, **sections: object
) -> Rounds:
    """Four devices with two tasks, all of them neighbours, over an ideal air without rounding."""
    small: dict[str, object] = {
        "name": "rounds",
        "devices": DEVICES,
        "rounds": 2,
        "tasks": lists("reverse", "sort"),
        "local": {"steps": 2, "batch_size": 4},
        "topology": {"kind": "complete"},
        "wire": {"value_type": "float32"},
        "method": {"lora_rank": 2} | method,
    }
    world = build_world(Scenario.model_validate(small | sections))
    rounds = Rounds(world)

    def note(device: int, commit: Commit, _: object) -> None:
        key = commit.round_index, device
        rounds.after[key] = commit.capture()["model"]["adapted"]["trained"]["entries"]
        rounds.measured[key] = {
            r.metric: r.value for r in commit.records if r.round_index == key[0]
        }

    devices = range(DEVICES)
    shims = {i: Shim(i, world.scenario.wire, world.access, world.channel) for i in devices}
    airs = {i: air(i, shim, rounds) for i, shim in shims.items()}
    outcomes = one_process.run_lives({i: live(world, i) for i in devices}, airs, note)
    rounds.results = {i: outcome.result for i, outcome in outcomes.items()}
    return rounds


@pytest.mark.parametrize("value_type", ["bfloat16", "int8"])
def test_lori_keeps_what_rounding_held_back_of_what_nobody_else_writes(value_type: str) -> None:
    lori = {"kind": "lori", "density": 0.3, "mask_warmup_steps": 1, "aggregation": "mask_mean"}
    rounds = rounds_of(lori, wire={"value_type": value_type})
    for r in range(2):
        values_MN, kept_MN = rounds.said_by_all(r)
        alone_N = kept_MN.sum(axis=0) == 1
        for i in range(DEVICES):
            mine_N = alone_N & kept_MN[i]
            assert mine_N.sum() > 100
            told_N = values_MN[i].astype(np.float32)
            assert np.array_equal(rounds.after[r, i][mine_N], told_N[mine_N])


@pytest.mark.parametrize("aggregation", ["mean", "mask_mean"])
def test_lori_averages_as_asked_and_tells_how_far_apart_its_neighbours_were(
    aggregation: str,
) -> None:
    lori = {"kind": "lori", "density": 0.3, "mask_warmup_steps": 1, "aggregation": aggregation}
    rounds = rounds_of(lori)
    for r in range(2):
        values_MN, kept_MN = rounds.said_by_all(r)
        assert set(kept_MN.sum(axis=0)) >= {0, 1, 2}
        writers_N = DEVICES if aggregation == "mean" else np.maximum(kept_MN.sum(axis=0), 1)
        merged_N = values_MN.sum(axis=0) / writers_N
        for i in range(DEVICES):
            np.testing.assert_allclose(rounds.after[r, i], merged_N * kept_MN[i], atol=1e-6)
            apart = [
                (values_MN[j] - values_MN[i])[kept_MN[i] & kept_MN[j]]
                for j in range(DEVICES)
                if j != i
            ]
            rms = np.sqrt(np.mean(np.concatenate(apart) ** 2))
            assert rms > 0
            assert rounds.measured[r, i]["consensus_distance"] == pytest.approx(rms, rel=1e-5)


@pytest.mark.parametrize("switch_every", [1, 2])
def test_alternating_moves_one_side_at_a_time(switch_every: int) -> None:
    rounds = rounds_of({"kind": "alternating", "switch_every": switch_every}, rounds=4)
    layout = rounds.said[0, 0].layout
    side_B_N, side_A_N = (layout.part(side).dense for side in ("lora_B", "lora_A"))
    assert np.array_equal(side_A_N, ~side_B_N)
    for i in range(DEVICES):
        first_N = np.asarray(rounds.said[0, i].values)
        assert np.array_equal(first_N[side_A_N], np.asarray(rounds.said[0, 0].values)[side_A_N])
        assert first_N[side_B_N].any()
        for r in range(1, 4):
            moves_N, rests_N = (
                (side_B_N, side_A_N) if r // switch_every % 2 == 0 else (side_A_N, side_B_N)
            )
            moved_N = np.asarray(rounds.said[r, i].values) != rounds.after[r - 1, i]
            assert not moved_N[rests_N].any()
            assert moved_N[moves_N].mean() > 0.9


def test_a_task_is_averaged_by_samples() -> None:
    tasks = lists("reverse", "sort", partition={"kind": "by_task", "imbalance": 1.0})
    rounds = rounds_of({"kind": "lora_by_task"}, tasks=tasks, topology={"kind": "tasks"})
    samples = [len(shard.train) for shard in rounds.world.shards]
    assert samples[0] > samples[2]
    for r in range(2):
        values_MN, _ = rounds.said_by_all(r)
        for group in ([0, 2], [1, 3]):
            mean_N = np.average(values_MN[group], axis=0, weights=[samples[i] for i in group])
            for i in group:
                np.testing.assert_allclose(rounds.after[r, i], mean_N, atol=1e-6)


def test_who_starts_afresh_every_round_was_not_moved_by_the_exchange() -> None:
    rounds = rounds_of({"kind": "stacking"}, evaluation={"own_task_every": 2})
    looks = ("before_exact_match", "diluted_exact_match", "own_exact_match")
    for i in range(DEVICES):
        assert all(metric in rounds.measured[1, i] for metric in looks)
        assert "exchange_shift" not in rounds.measured[1, i]
