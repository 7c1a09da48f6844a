"""The stacked experts under different gates."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from emulator.core.types.result import Expert
from emulator.learning.adapters.lora import LoraModel, frozen_twin
from emulator.learning.backbone.load import Backbone, CausalLM, Tiny
from emulator.learning.backbone.tiny import WEIGHTS_FOLDER
from emulator.learning.routing import Arrow
from emulator.learning.routing.arrow import prototype
from emulator.learning.routing.mixture import MixtureLinear, RoutedModel, expert_gates, keep_largest

RANKS_AND_ALPHAS = ((4, 4), (2, 6), (4, 2))
"""Experts of different rank and scaling share a stack."""


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Tiny().load()


@pytest.fixture(scope="module")
def tokens(backbone: Backbone) -> dict[str, torch.Tensor]:
    return backbone.tokenize(["tag02 : b n h a c ->", "tag05 : k ->", "tag01 : c c d ->"])


def lora_of(backbone: Backbone, index: int) -> LoraModel:
    rank, alpha = RANKS_AND_ALPHAS[index]
    model = LoraModel(backbone.model, backbone.target_modules, rank, alpha, ("lora_B",))
    draws = np.random.default_rng(index)
    model.set_tensors(
        {
            name: (0.1 * draws.standard_normal(tensor.shape)).astype(np.float32)
            for name, tensor in model.tensors().items()
        }
    )
    return model


@pytest.fixture(scope="module")
def singles(backbone: Backbone) -> list[LoraModel]:
    return [lora_of(backbone, index) for index in range(len(RANKS_AND_ALPHAS))]


@pytest.fixture(scope="module")
def experts(singles: list[LoraModel]) -> list[Expert]:
    return [Expert(f"t{i}", 1, m.scaling, m.tensors()) for i, m in enumerate(singles)]


@pytest.fixture
def mixture(backbone: Backbone, experts: list[Expert]) -> RoutedModel:
    return RoutedModel(backbone.model, experts, frozen_twin)


def logits(module: nn.Module, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return module(**tokens).logits


def test_one_hot_gates_equal_the_single_expert(
    singles: list[LoraModel], mixture: RoutedModel, tokens: dict[str, torch.Tensor]
) -> None:
    for index, single in enumerate(singles):
        mixture.set_gates(torch.eye(3)[index : index + 1])
        wanted = logits(single.module, tokens)
        torch.testing.assert_close(logits(mixture.module, tokens), wanted, rtol=1e-5, atol=1e-5)


def test_each_sequence_has_gates_of_its_own(
    singles: list[LoraModel], mixture: RoutedModel, tokens: dict[str, torch.Tensor]
) -> None:
    order = [2, 0, 1]
    mixture.set_gates(torch.eye(3)[order])
    got = logits(mixture.module, tokens)
    for row, index in enumerate(order):
        wanted = logits(singles[index].module, tokens)[row]
        torch.testing.assert_close(got[row], wanted, rtol=1e-5, atol=1e-5)


def test_closed_gates_leave_the_backbone(
    backbone: Backbone, mixture: RoutedModel, tokens: dict[str, torch.Tensor]
) -> None:
    wanted = logits(backbone.model, tokens)
    assert torch.equal(logits(mixture.module, tokens), wanted)  # all gates are closed at first
    mixture.set_gates(torch.ones(1, 3))
    assert (logits(mixture.module, tokens) - wanted).abs().max() > 0.1
    mixture.set_gates(torch.zeros(1, 3))
    assert torch.equal(logits(mixture.module, tokens), wanted)


@pytest.mark.parametrize("gates", [(1.0, 1.0, 1.0), (0.2, 0.0, 1.7)])
def test_a_layer_is_the_gated_sum_of_its_experts(
    experts: list[Expert], backbone: Backbone, gates: tuple[float, ...]
) -> None:
    """y = W0 h + sum_j g_j scaling_j B_j A_j h; gates of one are the plain sum."""
    name = backbone.target_modules[6]
    base = backbone.model.get_submodule(name)
    assert isinstance(base, nn.Linear)
    parts = [
        (
            torch.from_numpy(expert.tensors[f"{name}.lora_A"]),
            torch.from_numpy(expert.tensors[f"{name}.lora_B"]),
            expert.scaling,
        )
        for expert in experts
    ]
    layer = MixtureLinear(base, parts)
    layer.set_gates(torch.tensor([gates]))
    hidden = torch.randn(2, 5, base.in_features, generator=torch.Generator().manual_seed(1))
    weight = base.weight.double()
    for gate, (a, b, scaling) in zip(gates, parts, strict=True):
        weight = weight + gate * scaling * b.double() @ a.double()
    wanted = (hidden.double() @ weight.T).float()
    torch.testing.assert_close(layer(hidden), wanted, rtol=1e-5, atol=1e-5)


def test_open_gates_equal_the_backbone_with_all_updates_added(
    backbone: Backbone,
    experts: list[Expert],
    mixture: RoutedModel,
    tokens: dict[str, torch.Tensor],
) -> None:
    summed = copy.deepcopy(backbone.model)
    with torch.no_grad():
        for name in backbone.target_modules:
            for expert in experts:
                a, b = expert.tensors[f"{name}.lora_A"], expert.tensors[f"{name}.lora_B"]
                summed.get_submodule(name).weight += torch.from_numpy(expert.scaling * b @ a)
    mixture.set_gates(torch.ones(1, 3))
    torch.testing.assert_close(
        logits(mixture.module, tokens), logits(summed, tokens), rtol=1e-4, atol=1e-4
    )


def test_the_backbone_is_left_as_it_was(
    backbone: Backbone, mixture: RoutedModel, tokens: dict[str, torch.Tensor]
) -> None:
    assert not any(isinstance(m, MixtureLinear) for m in backbone.model.modules())
    shared = {p.data_ptr() for p in mixture.module.parameters()}
    assert shared == {p.data_ptr() for p in backbone.model.parameters()}
    assert not any(p.requires_grad for p in mixture.module.parameters())


def test_gates_hold_while_decoding_with_the_cache(
    backbone: Backbone, singles: list[LoraModel], mixture: RoutedModel
) -> None:
    tokens = backbone.tokenizer(["tag02 : b n h a c ->"], return_tensors="pt")
    settings = {"max_new_tokens": 5, "do_sample": False}
    mixture.set_gates(torch.eye(3)[1:2])
    with torch.inference_mode():
        got = mixture.module.generate(**tokens, **settings)
        wanted = singles[1].module.generate(**tokens, **settings)
    assert torch.equal(got, wanted)


def test_only_linear_layers_take_experts(backbone: Backbone) -> None:
    tensors = {
        "model.embed_tokens.lora_A": np.zeros((2, 4), dtype=np.float32),
        "model.embed_tokens.lora_B": np.zeros((4, 2), dtype=np.float32),
    }
    with pytest.raises(TypeError, match=r"model\.embed_tokens: got Embedding, wanted a linear"):
        RoutedModel(backbone.model, [Expert("t", 1, 1.0, tensors)], frozen_twin)


def test_a_half_precision_backbone_takes_experts_too() -> None:
    half = CausalLM(name=str(WEIGHTS_FOLDER), max_tokens=64, dtype="bfloat16").load()
    single = lora_of(half, 0)
    mixture = RoutedModel(half.model, [Expert("t", 1, 1.0, single.tensors())], frozen_twin)
    mixture.set_gates(torch.ones(1, 1))
    tokens = half.tokenize(["tag02 : b n h a c ->"])
    wanted = logits(single.module, tokens)
    torch.testing.assert_close(logits(mixture.module, tokens), wanted, rtol=0.05, atol=0.05)


# ── one path, bit for bit ────────────────────────────────────────────────────────────────────────


def test_one_open_gate_is_bit_for_bit_a_mixture_of_one(
    backbone: Backbone,
    experts: list[Expert],
    mixture: RoutedModel,
    tokens: dict[str, torch.Tensor],
) -> None:
    for index, expert in enumerate(experts):
        alone = RoutedModel(backbone.model, [expert], frozen_twin)
        alone.set_gates(torch.ones(1, 1))
        mixture.set_gates(torch.eye(3)[index : index + 1])
        assert torch.equal(logits(mixture.module, tokens), logits(alone.module, tokens))


def test_experts_of_one_task_share_its_gate_equally(experts: list[Expert]) -> None:
    of_tasks = [Expert(task, 1, 1.0, {}) for task in ("b", "a", "b")]
    gates = np.array([[0.25, 0.5, 0.25], [0, 1, 0]], dtype=np.float32)
    shared = expert_gates(gates, ("a", "b", "c"), of_tasks)
    np.testing.assert_array_equal(shared, [[0.25, 0.25, 0.25], [0.5, 0, 0.5]])


# ── active ranks ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_largest_magnitudes_stay_and_nothing_else(count: int) -> None:
    z = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1))
    kept = keep_largest(z, count)
    assert torch.equal(kept[kept != 0], z[kept != 0])
    assert ((kept != 0).sum(-1) == count).all()
    for row, whole in zip(kept.reshape(-1, 7), z.reshape(-1, 7), strict=True):
        slow = sorted(whole.tolist(), key=abs)[-count:]
        assert sorted(row[row != 0].tolist(), key=abs) == slow


@pytest.mark.parametrize("gates", [(1.0, 1.0, 1.0), (0.2, 0.0, 1.7)])
def test_all_ranks_active_equal_no_limit(
    backbone: Backbone,
    experts: list[Expert],
    mixture: RoutedModel,
    tokens: dict[str, torch.Tensor],
    gates: tuple[float, ...],
) -> None:
    whole = sum(rank for rank, _ in RANKS_AND_ALPHAS)
    limited = RoutedModel(backbone.model, experts, frozen_twin, active_ranks=whole)
    limited.set_gates(torch.tensor([gates]))
    mixture.set_gates(torch.tensor([gates]))
    assert torch.equal(logits(limited.module, tokens), logits(mixture.module, tokens))


def test_active_ranks_are_chosen_over_the_whole_gated_stack(
    backbone: Backbone, experts: list[Expert]
) -> None:
    name = backbone.target_modules[0]
    base = backbone.model.get_submodule(name)
    assert isinstance(base, nn.Linear)
    parts = [
        (
            torch.from_numpy(expert.tensors[f"{name}.lora_A"]),
            torch.from_numpy(expert.tensors[f"{name}.lora_B"]),
            expert.scaling,
        )
        for expert in experts
    ]
    gates = (0.5, 1.0, 2.0)
    layer = MixtureLinear(base, parts, active_ranks=3)
    layer.set_gates(torch.tensor([gates]))
    hidden = torch.randn(1, 4, base.in_features, generator=torch.Generator().manual_seed(1))
    got = layer(hidden)[0]
    for token, h in enumerate(hidden[0]):
        z = torch.cat([gate * (a @ h) for gate, (a, _, _) in zip(gates, parts, strict=True)])
        z[z.abs().argsort(descending=True)[3:]] = 0
        b = torch.cat([scaling * b for _, b, scaling in parts], dim=1)
        torch.testing.assert_close(got[token], base(h) + b @ z, rtol=1e-5, atol=1e-5)


# ── arrow ────────────────────────────────────────────────────────────────────────────────────────


def test_a_prototype_is_the_top_right_singular_vector() -> None:
    draws = torch.Generator().manual_seed(1)
    a, b = torch.randn(3, 20, generator=draws), torch.randn(10, 3, generator=draws)
    wanted = torch.linalg.svd(b @ a).Vh[0]
    assert abs(float(prototype(a, b) @ wanted)) == pytest.approx(1, abs=1e-5)
    assert not prototype(a, torch.zeros(10, 3)).any()


def test_arrow_selects_experts_with_parallel_prototypes() -> None:
    eye = torch.eye(4)
    parts = [(eye[i : i + 1], torch.ones(2, 1), 1.0) for i in range(3)]
    gate = Arrow(top_m=2, temperature=0.5).layer_gate(parts)
    assert gate is not None
    hidden = torch.tensor([[[-2.0, 0, 1, 0], [0, 3, 0, 0]]])
    first = torch.tensor([2.0, 1.0]).div(0.5).softmax(0)
    got = gate(hidden, torch.ones(1, 3))[0]
    torch.testing.assert_close(got[0], torch.tensor([first[0], 0, first[1]]))
    assert got[1].argmax() == 1
    assert ((got > 0).sum(-1) == 2).all()
    torch.testing.assert_close(got.sum(-1), torch.ones(2))


def test_closed_gates_shut_arrow_out() -> None:
    parts = [(torch.eye(4)[i : i + 1], torch.ones(2, 1), 1.0) for i in range(3)]
    gate = Arrow(top_m=3).layer_gate(parts)
    assert gate is not None
    hidden = torch.ones(2, 1, 4)
    got = gate(hidden, torch.tensor([[1.0, 0, 1], [0, 0, 0]]))[:, 0]
    torch.testing.assert_close(got, torch.tensor([[0.5, 0, 0.5], [0, 0, 0]]))


def test_arrow_works_inside_every_layer(
    backbone: Backbone, experts: list[Expert], tokens: dict[str, torch.Tensor]
) -> None:
    """With one expert open it is that expert; with all open its tokens' gates differ by module."""
    routed = RoutedModel(backbone.model, experts, frozen_twin, layer_gates=Arrow().layer_gate)
    alone = RoutedModel(backbone.model, experts[:1], frozen_twin)
    routed.set_gates(torch.tensor([[1.0, 0, 0]]))
    alone.set_gates(torch.ones(1, 1))
    wanted = logits(alone.module, tokens)
    torch.testing.assert_close(logits(routed.module, tokens), wanted, rtol=1e-5, atol=1e-5)
    routed.set_gates(torch.ones(1, 3))
    assert (logits(routed.module, tokens) - wanted).abs().max() > 0.01
