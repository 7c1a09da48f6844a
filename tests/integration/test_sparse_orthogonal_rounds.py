"""Rounds of `sparse_orthogonal` against a slow reading of what was said in them.

Shapes: M devices, N coordinates of the trained vector.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from emulator.core.types.adapter import Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Coordinate, Kind, Message
from emulator.core.types.steps import Inbox, Send
from emulator.core.types.transmission import Burst
from emulator.learning.adapters.lora import frozen_twin
from emulator.learning.routing.mixture import RoutedModel
from emulator.network.wire import quantise

from .test_rounds import DEVICES, Overheard, Rounds, lists, rounds_of

METHOD: dict[str, object] = {
    "kind": "sparse_orthogonal",
    "density": 0.3,
    "mask_warmup_steps": 1,
    "learning_rate": 0.05,
}
UNEQUAL = lists("reverse", "sort", train_samples=24, partition={"kind": "dirichlet", "alpha": 1.0})


def heard(message: Message) -> FloatArray:
    """The values of a message as every receiver sees them, 0 where nothing is kept [N]."""
    mask, layout = message.mask, message.layout
    dense_N = np.zeros(mask.size, dtype=np.float32)
    dense_N[mask.indices] = message.values
    return np.asarray(quantise(dense_N, message.value_type, layout, Mask.full(mask.size)))


def slow_mean(rounds: Rounds, r: int, n: int, aggregation: str) -> float:
    """One coordinate of Eq 10 as we take it, or as it is printed."""
    above, below = 0.0, 0.0
    for device in range(DEVICES):
        message = rounds.said[r, device]
        samples = len(rounds.world.shards[device].train)
        weight = float(samples) if aggregation == "mask_mean" else 1.0
        if message.mask.dense[n]:
            above += weight * float(heard(message)[n])
            below += weight
    if aggregation != "mask_mean":
        return above / DEVICES
    return above / below if below else 0.0


@pytest.mark.parametrize("value_type", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("aggregation", ["mask_mean", "printed", "printed_24"])
def test_a_round_is_the_mean_of_what_was_heard_and_what_rounding_held_back(
    aggregation: str, value_type: str
) -> None:
    wire = {"value_type": value_type}
    rounds = rounds_of(METHOD | {"aggregation": aggregation}, wire=wire, tasks=UNEQUAL)
    assert len({len(shard.train) for shard in rounds.world.shards}) > 1
    draws = np.random.default_rng(1)
    for r in range(2):
        _, kept_MN = rounds.said_by_all(r)
        assert set(kept_MN.sum(axis=0)) == {0, 2, 4}  # two tasks, two devices each
        some = draws.choice(kept_MN.shape[1], 300, replace=False)
        for i in range(DEVICES):
            own_N = np.zeros(kept_MN.shape[1])
            own_N[kept_MN[i]] = rounds.said[r, i].values
            held_back_N = own_N - heard(rounds.said[r, i])
            assert (value_type == "float32") == (not held_back_N.any())
            for n in some:
                mean = slow_mean(rounds, r, n, aggregation)
                mean += held_back_N[n] if aggregation == "mask_mean" else 0.0
                wanted = mean if kept_MN[i, n] else 0.0
                assert rounds.after[r, i][n] == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("value_type", ["bfloat16", "int8"])
def test_equal_masks_keep_the_mean_of_all_whatever_the_wire_rounds(value_type: str) -> None:
    one_task = lists("sort", train_samples=24)
    rounds = rounds_of(METHOD, wire={"value_type": value_type}, tasks=one_task)
    for r in range(2):
        before_MN, kept_MN = rounds.said_by_all(r)
        assert np.array_equal(kept_MN.any(axis=0), kept_MN.all(axis=0))
        after_MN = np.stack([rounds.after[r, i] for i in range(DEVICES)]).astype(np.float64)
        scale = np.abs(before_MN).max()
        assert not np.array_equal(after_MN[0], before_MN[0])
        np.testing.assert_allclose(
            after_MN.mean(axis=0), before_MN.mean(axis=0), rtol=0, atol=1e-7 * scale
        )


@pytest.mark.parametrize("value_type", ["bfloat16", "int8"])
def test_disjoint_masks_give_everybody_its_own_back_bit_for_bit(value_type: str) -> None:
    four = lists("reverse", "sort", "rotate", "successor", train_samples=12)
    disjoint = METHOD | {
        "mask_selection": "disjoint",
        "density": 0.2,
        "density_allocation": "uniform",
    }
    rounds = rounds_of(disjoint, wire={"value_type": value_type}, tasks=four)
    for r in range(2):
        values_MN, kept_MN = rounds.said_by_all(r)
        assert kept_MN.sum(axis=0).max() == 1
        for i in range(DEVICES):
            assert np.array_equal(rounds.after[r, i], values_MN[i].astype(np.float32))


class Deaf(Overheard):
    """An air over which device 0 loses the upper half of all values in some rounds."""

    lost_in: Sequence[int] = ()

    def collect(self, send: Send, bursts: Sequence[Burst]) -> Inbox:
        inbox = super().collect(send, bursts)
        received = []
        for told in inbox.received:
            if told.kind is Kind.VALUES and told.round_index in self.lost_in and self.device == 0:
                upper_N = np.arange(len(told.status)) >= len(told.status) // 2
                told = replace(
                    told,
                    values=np.where(upper_N, 0, told.values).astype(np.float32),
                    status=np.where(upper_N, Coordinate.LOST, told.status).astype(np.uint8),
                )
            received.append(told)
        return replace(inbox, received=tuple(received))


@pytest.mark.parametrize("lost_in", [(1,), (0, 1)])
def test_where_nobody_is_heard_the_last_mean_stays_at_first_zero(
    monkeypatch: pytest.MonkeyPatch, lost_in: tuple[int, ...]
) -> None:
    monkeypatch.setattr(Deaf, "lost_in", lost_in)
    rounds = rounds_of(METHOD, air=Deaf)
    _, kept_MN = rounds.said_by_all(0)
    size = kept_MN.shape[1]
    foreign_N = ~kept_MN[0] & kept_MN[1] & (np.arange(size) >= size // 2)
    assert foreign_N.sum() > 100
    mine, other = rounds.world.shards[0].task, rounds.world.shards[1].task
    assert mine != other
    (expert,) = [e for e in rounds.results[0].experts if e.task == other]
    layout = rounds.said[0, 0].layout
    got_N = layout.join({name: expert.tensors[name] for name in layout.names})
    if 0 in lost_in:
        wanted_N = np.zeros(size)
    else:
        told_MN = np.stack([heard(rounds.said[0, i]) for i in range(DEVICES)])
        wanted_N = told_MN.sum(axis=0) / np.maximum(kept_MN.sum(axis=0), 1)
    np.testing.assert_allclose(got_N[foreign_N], wanted_N[foreign_N], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("aggregation", ["mask_mean", "printed", "printed_24"])
def test_the_last_mean_answers_masked_again_or_not(aggregation: str) -> None:
    """Eq 24, read slowly: expert j is ((1/|c|) sum_i B_i M_i) A_j; with Eq 29, M_j over that mean."""
    rounds = rounds_of(METHOD | {"aggregation": aggregation})
    _, kept_MN = rounds.said_by_all(1)
    layout = rounds.said[1, 0].layout
    mean_N = np.array([slow_mean(rounds, 1, n, aggregation) for n in range(layout.size)])
    for device in range(DEVICES):
        for expert in rounds.results[device].experts:
            got_N = layout.join({name: expert.tensors[name] for name in layout.names})
            j = next(i for i, s in enumerate(rounds.world.shards) if s.task == expert.task)
            masked_N = np.where(kept_MN[j], mean_N, 0.0)
            wanted_N = mean_N if aggregation == "printed_24" else masked_N
            np.testing.assert_allclose(got_N, wanted_N, rtol=1e-6, atol=1e-9)
            assert np.abs(mean_N - masked_N).max() > 1e-3


def test_the_mixture_of_printed_24_is_eq_24() -> None:
    """sum_j ((1/|c|) sum_i B_i M_i) g_j A_j h in one module, all four devices in one cluster."""
    by_device = METHOD | {"aggregation": "printed_24", "projection_by": "device"}
    rounds = rounds_of(by_device)
    values_MN, _ = rounds.said_by_all(1)
    experts = rounds.results[0].experts
    assert len(experts) == DEVICES
    layout, name = rounds.said[1, 0].layout, "model.layers.1.self_attn.q_proj"
    said_M = [layout.split(values_MN[i].astype(np.float32)) for i in range(DEVICES)]
    mean_dr = np.mean([said[f"{name}.lora_B"] for said in said_M], axis=0)
    draws = np.random.default_rng(1)
    hidden_k = draws.standard_normal(experts[0].tensors[f"{name}.lora_A"].shape[1])
    gates = np.array([0.5, 0.25, 1.0, 0.0], dtype=np.float32)
    model = rounds.world.backbone.model
    frozen_d = model.get_submodule(name)(torch.tensor(hidden_k, dtype=torch.float32))
    routed = RoutedModel(model, experts, frozen_twin)
    routed.set_gates(torch.from_numpy(gates[None]))
    hidden_11k = torch.tensor(hidden_k[None, None], dtype=torch.float32)
    got_d = routed.module.get_submodule(name)(hidden_11k)[0, 0].detach().numpy()
    wanted_d = frozen_d.detach().numpy().astype(np.float64)
    for gate, expert in zip(gates, experts, strict=True):
        wanted_d += expert.scaling * mean_dr @ (gate * expert.tensors[f"{name}.lora_A"] @ hidden_k)
    np.testing.assert_allclose(got_d, wanted_d, rtol=1e-4, atol=1e-5)
    assert np.abs(wanted_d - frozen_d.detach().numpy()).max() > 1e-3
