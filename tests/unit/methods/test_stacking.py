"""FLoRA over a graph: what stacking adds up, what a lost packet takes away, what expert is left."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_device import ToyDevice

from emulator.core.types.adapter import AdapterLayout, LostCoordinates
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Coordinate, Kind, Message, Received, Traffic
from emulator.core.types.steps import Inbox
from emulator.core.types.survey import Link
from emulator.learning.adapters.lora import LoraModel, frozen_twin
from emulator.learning.backbone.load import Backbone, Tiny
from emulator.learning.device_model import DeviceModel
from emulator.learning.routing.mixture import RoutedModel
from emulator.methods.stacking import Stacking, StackingDevice, factorised, stacked
from emulator.network.wire import WireFormat

MODULES = ("m", "n")
SHAPES = {"m": (5, 7), "n": (9, 4)}
"""[d, k] of each module."""


def normal(seed: int, *shape: int) -> FloatArray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def pair(seed: int, rank: int) -> dict[str, FloatArray]:
    tensors = {}
    for place, (module, (outputs, inputs)) in enumerate(SHAPES.items()):
        tensors[f"{module}.lora_B"] = normal(1000 * seed + place, outputs, rank)
        tensors[f"{module}.lora_A"] = normal(1000 * seed + place + 500, rank, inputs)
    return tensors


@given(
    ranks=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    weights=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
@settings(max_examples=30, deadline=None)
def test_a_stack_is_the_weighted_sum_of_products(ranks: list[int], weights: list[float]) -> None:
    pairs = [(w, pair(i, rank)) for i, (w, rank) in enumerate(zip(weights, ranks, strict=False))]
    factors = stacked(MODULES, pairs)
    for module in MODULES:
        got = factors[f"{module}.lora_B"] @ factors[f"{module}.lora_A"]
        wanted = sum(
            w * t[f"{module}.lora_B"].astype(np.float64) @ t[f"{module}.lora_A"] for w, t in pairs
        )
        assert factors[f"{module}.lora_B"].dtype == np.float32
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@given(rank=st.integers(0, 9), seed=st.integers(0, 1000), scale=st.sampled_from([1e-6, 1.0, 1e4]))
@settings(max_examples=40, deadline=None)
def test_factors_give_the_matrices_back_at_their_rank(rank: int, seed: int, scale: float) -> None:
    tensors = pair(seed, max(rank, 1))
    deltas = {
        m: np.float32(scale * (rank > 0)) * tensors[f"{m}.lora_B"] @ tensors[f"{m}.lora_A"]
        for m in MODULES
    }
    factors = factorised(deltas)
    ranks = {f"{m}.{s}": factors[f"{m}.{s}"].shape for m in MODULES for s in ("lora_A", "lora_B")}
    for module, (outputs, inputs) in SHAPES.items():
        factor_B, factor_A = factors[f"{module}.lora_B"], factors[f"{module}.lora_A"]
        assert ranks[f"{module}.lora_B"] == (outputs, factor_A.shape[0])
        assert ranks[f"{module}.lora_A"][1] == inputs
        size = np.abs(deltas[module]).max(initial=0)
        np.testing.assert_allclose(factor_B @ factor_A, deltas[module], atol=1e-5 * size)
    (kept,) = {factors[f"{m}.lora_A"].shape[0] for m in MODULES}
    assert kept == max(1, max(min(rank, *shape) for shape in SHAPES.values()))


# ── a device ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Tiny().load()


class StackingModel(DeviceModel):
    """The real model, adapted at two kinds of modules only."""

    def __init__(self, backbone: Backbone) -> None:
        self._targets = backbone

    def lora(self, lora_rank: int, lora_alpha: int, trained: Sequence[str]) -> LoraModel:
        backbone = self._targets
        targets = [t for t in backbone.target_modules if t.endswith(("q_proj", "down_proj"))]
        self.adapted = LoraModel(backbone.model, targets, lora_rank, lora_alpha, trained)
        return self.adapted

    def mark_start(self) -> None:
        self.held_back_N = np.zeros(self.adapted.layout.size, dtype=np.float32)

    def try_diluted(self, *_: object) -> None:
        pass


def toy(
    backbone: Backbone, device: int, links: Sequence[Link], policy: LostCoordinates
) -> ToyDevice:
    """A device with the real wire, policy and exchanges."""
    return ToyDevice(
        device,
        AdapterLayout((), ()),
        WireFormat(value_type="float32", lost_coordinates=policy),
        links=links,
        model=StackingModel(backbone),
        devices=3,
        shard=SimpleNamespace(train=range(10), task="sort"),
    )


def complete(weight: float) -> list[Link]:
    return [Link(i, j, weight) for j in range(3) for i in range(3) if i != j]


def devices(
    backbone: Backbone, links: Sequence[Link], policy: LostCoordinates = "keep_own"
) -> list[tuple[ToyDevice, StackingDevice]]:
    """Three devices with a B that is not nought."""
    made = []
    for device in range(3):
        own = toy(backbone, device, links, policy)
        part = Stacking(lora_rank=2, lora_alpha=3).start(own)
        part.layouts = [part.adapted.layout] * 3
        noise = 0.05 * normal(device, part.adapted.layout.size)
        part.adapted.load(part.adapted.vector() + noise)
        made.append((own, part))
    return made


def as_received(message: Message, present_N: np.ndarray) -> Received:
    values = np.where(present_N, message.values, 0).astype(np.float32)
    status = np.where(present_N, Coordinate.RECEIVED, Coordinate.LOST).astype(np.uint8)
    return Received(
        Kind.VALUES, Traffic.IN_CLUSTER, message.source, message.source, 0, 0.0, b"", values, status
    )  # fmt: skip


def exchange(
    parts: list[tuple[ToyDevice, StackingDevice]], arrives: float = 1.0
) -> list[tuple[Received, ...]]:
    """One exchange of all with all, in which each coordinate arrives with this probability.

    Returns what each device received.
    """
    talks = [part.exchange(0) for _, part in parts]
    for talk in talks:
        next(talk)
    draws = np.random.default_rng(5)
    received = []
    for (own, _), talk in zip(parts, talks, strict=True):
        messages = [m for other, _ in parts for m in other.messages if own.info.id in m.receivers]
        arrived = tuple(as_received(m, draws.random(m.layout.size) < arrives) for m in messages)
        with pytest.raises(StopIteration):
            talk.send(Inbox(arrived, 0.0))
        received.append(arrived)
    return received


def product(part: StackingDevice, vector_N: FloatArray, module: str) -> np.ndarray:
    tensors = part.adapted.layout.split(vector_N)
    b, a = tensors[f"{module}.lora_B"], tensors[f"{module}.lora_A"]
    return 1.5 * b.astype(np.float64) @ a  # alpha / r


def test_a_round_adds_the_weighted_products_of_those_received(backbone: Backbone) -> None:
    links = [Link(1, 0, 0.3), Link(0, 1, 0.3)]  # nobody hears device 2
    parts = devices(backbone, links)
    vectors = [part.adapted.vector() for _, part in parts]
    exchange(parts)
    weights = [(0.7, 0.3, 0.0), (0.3, 0.7, 0.0), (0.0, 0.0, 1.0)]
    for row, (_, part) in zip(weights, parts, strict=True):
        for module, delta in part.adapted.learnt().items():
            wanted = sum(w * product(part, v, module) for w, v in zip(row, vectors, strict=True))
            np.testing.assert_allclose(delta, wanted, rtol=1e-4, atol=1e-6)


def test_devices_that_hear_the_same_add_the_same_bytes(backbone: Backbone) -> None:
    parts = devices(backbone, complete(1 / 3))
    exchange(parts)
    first, *others = [part.adapted.learnt() for _, part in parts]
    for other in others:
        assert all(np.array_equal(first[module], other[module]) for module in first)


def test_a_fresh_adapter_starts_every_round(backbone: Backbone) -> None:
    parts = devices(backbone, complete(1 / 3))
    before = [part.adapted.vector() for _, part in parts]
    exchange(parts)
    starts = []
    for (_, part), vector_N in zip(parts, before, strict=True):
        tensors = part.adapted.tensors()
        assert not any(v.any() for name, v in tensors.items() if name.endswith("lora_B"))
        now = np.concatenate([v.ravel() for n, v in tensors.items() if n.endswith("lora_A")])
        then = part.adapted.layout.split(vector_N)
        assert not np.array_equal(
            now, np.concatenate([v.ravel() for n, v in then.items() if n.endswith("lora_A")])
        )
        starts.append(now.tobytes())
    assert len(set(starts)) == 3


def test_a_lost_coordinate_counts_as_zero(backbone: Backbone) -> None:
    parts = devices(backbone, complete(0.25))
    received = exchange(parts, arrives=0.6)[1]
    own, part = parts[1]
    pairs = [(0.25, r.values.astype(np.float32)) for r in received]
    pairs.append((0.5, np.asarray(own.messages[0].values)))
    assert any(not r.complete for r in received)
    for module, delta in part.adapted.learnt().items():
        wanted = sum(w * product(part, v, module) for w, v in pairs)
        np.testing.assert_allclose(delta, wanted, rtol=1e-4, atol=1e-6)


def test_under_drop_message_an_incomplete_pair_adds_nothing(backbone: Backbone) -> None:
    parts = devices(backbone, complete(0.25), "drop_message")
    received = exchange(parts, arrives=0.9)[1]
    own, part = parts[1]
    assert all(r.values.any() and not r.complete for r in received)
    for module, delta in part.adapted.learnt().items():
        wanted = 0.5 * product(part, np.asarray(own.messages[0].values), module)
        np.testing.assert_allclose(delta, wanted, rtol=1e-4, atol=1e-6)


def test_the_expert_left_behind_answers_like_the_device(backbone: Backbone) -> None:
    parts = devices(backbone, complete(1 / 3))
    for _ in range(2):
        for own, part in parts:
            own.network.sent.clear()
            part.adapted.load(
                part.adapted.vector() + 0.05 * normal(9 + own.info.id, part.adapted.layout.size)
            )
        exchange(parts)
    tokens = backbone.tokenize(["tag02 : b n h a c ->", "tag05 : k j ->"])
    for _, part in parts:
        expert = part.own_expert()
        mixture = RoutedModel(backbone.model, [expert], frozen_twin)
        mixture.set_gates(torch.ones(1, 1))
        with torch.inference_mode():
            wanted = part.adapted.module(**tokens).logits
            got = mixture.module(**tokens).logits
            assert (wanted - backbone.model(**tokens).logits).abs().max() > 0.1
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
        assert expert.tensors[f"{part.adapted.module_names[0]}.lora_A"].shape[0] == 2 * 3 * 2
