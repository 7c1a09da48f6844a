"""Experts that are whole weights answer one at a time, with exact weights."""

import numpy as np
import pytest
import torch
from torch import nn

from emulator.core.types.result import Expert
from emulator.learning.adapters.full_model import FullModel
from emulator.learning.adapters.lora import own_twin
from emulator.learning.backbone.load import Backbone, Tiny
from emulator.learning.routing.mixture_of_models import RoutedWeights


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Tiny().load()


@pytest.fixture(scope="module")
def tokens(backbone: Backbone) -> dict[str, torch.Tensor]:
    return backbone.tokenize(["tag02 : b n h a c ->", "tag05 : k j ->"])


@pytest.fixture(scope="module")
def singles(backbone: Backbone) -> list[FullModel]:
    models = []
    for seed in range(3):
        model = FullModel(backbone.model, 10**9)
        draws = np.random.default_rng(seed)
        model.load((0.02 * draws.standard_normal(model.layout.size)).astype(np.float32))
        models.append(model)
    return models


@pytest.fixture
def routed(backbone: Backbone, singles: list[FullModel]) -> RoutedWeights:
    experts = [Expert(f"t{i}", 1, m.scaling, m.tensors(), m.form) for i, m in enumerate(singles)]
    return RoutedWeights(backbone.model, experts, own_twin)


def logits(module: nn.Module, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return module(**tokens).logits


def test_one_open_gate_gives_the_expert_bit_for_bit(
    singles: list[FullModel], routed: RoutedWeights, tokens: dict[str, torch.Tensor]
) -> None:
    for index in (2, 0, 1):
        routed.set_gates(torch.eye(3)[index : index + 1])
        assert torch.equal(logits(routed.module, tokens), logits(singles[index].module, tokens))


def test_no_open_gate_gives_the_backbone(
    backbone: Backbone, routed: RoutedWeights, tokens: dict[str, torch.Tensor]
) -> None:
    wanted = logits(backbone.model, tokens)
    assert torch.equal(logits(routed.module, tokens), wanted)
    routed.set_gates(torch.ones(1, 3))
    assert (logits(routed.module, tokens) - wanted).abs().max() > 0.1
    routed.set_gates(torch.zeros(1, 3))
    assert torch.equal(logits(routed.module, tokens), wanted)


def test_open_gates_add_weighted_differences(
    backbone: Backbone, singles: list[FullModel], routed: RoutedWeights
) -> None:
    gates = (0.2, 0.0, 1.7)
    routed.set_gates(torch.tensor([gates]))
    differences = [single.tensors() for single in singles]
    frozen = dict(backbone.model.named_parameters())
    for name, weight in routed.module.named_parameters():
        wanted = frozen[name].double().numpy() + sum(
            gate * d[name].astype(np.float64) for gate, d in zip(gates, differences, strict=True)
        )
        np.testing.assert_allclose(weight.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_the_backbone_is_left_as_it_was(backbone: Backbone, routed: RoutedWeights) -> None:
    before = {name: p.clone() for name, p in backbone.model.named_parameters()}
    routed.set_gates(torch.ones(1, 3))
    assert all(torch.equal(p, before[name]) for name, p in backbone.model.named_parameters())
    assert not any(p.requires_grad for p in routed.module.parameters())


def test_sequences_cannot_have_gates_of_their_own(routed: RoutedWeights) -> None:
    with pytest.raises(ValueError, match="gates: got 2 rows, wanted one"):
        routed.set_gates(torch.eye(3)[:2])
