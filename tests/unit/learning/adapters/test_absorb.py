"""Products absorbed into a LoRA model's own weights, and the total change."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from emulator.core.types.arrays import FloatArray
from emulator.learning.adapters.lora import LoraModel
from emulator.learning.backbone.load import Backbone, CausalLM, Tiny

RANK, ALPHA = 4, 8
SIDES = ("lora_A", "lora_B")
WEIGHTS_FOLDER = (
    Path(__file__).parents[4] / "emulator" / "learning" / "backbone" / "tiny" / "weights"
)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Tiny().load()


@pytest.fixture(scope="module")
def targets(backbone: Backbone) -> list[str]:
    """Two modules a layer are enough; they differ in shape."""
    return [name for name in backbone.target_modules if name.endswith(("q_proj", "down_proj"))]


@pytest.fixture(scope="module")
def tokens(backbone: Backbone) -> dict[str, torch.Tensor]:
    return backbone.tokenize(["tag02 : b n h a c -> a b", "tag05 : k j -> j k"])


def adapted(backbone: nn.Module, targets: list[str]) -> LoraModel:
    """A LoRA model with seeded A and B."""
    model = LoraModel(backbone, targets, RANK, ALPHA, SIDES)
    draws = np.random.default_rng(1)
    model.load((0.05 * draws.standard_normal(model.layout.size)).astype(np.float32))
    return model


def some_factors(model: LoraModel, rank: int, seed: int = 3) -> dict[str, FloatArray]:
    draws = np.random.default_rng(seed)
    factors = {}
    for name in model.module_names:
        outputs, inputs = model.shape_of(f"{name}.lora_B")[0], model.shape_of(f"{name}.lora_A")[1]
        factors[f"{name}.lora_B"] = draws.standard_normal((outputs, rank)).astype(np.float32)
        factors[f"{name}.lora_A"] = (0.02 * draws.standard_normal((rank, inputs))).astype(
            np.float32
        )
    return factors


def test_absorbing_adds_the_scaled_product_to_weights_of_ones_own(
    backbone: Backbone, targets: list[str], tokens: dict[str, torch.Tensor]
) -> None:
    model = adapted(backbone.model, targets)
    before = {name: p.clone() for name, p in backbone.model.named_parameters()}
    vector_N = model.vector()
    changed = copy.deepcopy(backbone.model)
    for rank in (1, RANK, 3 * RANK):
        factors = some_factors(model, rank, seed=rank)
        model.absorb(factors)
        with torch.no_grad():
            for name in targets:
                product = factors[f"{name}.lora_B"] @ factors[f"{name}.lora_A"]
                changed.get_submodule(name).weight += ALPHA / RANK * torch.from_numpy(product)
    wanted = adapted(changed, targets).module(**tokens).logits
    torch.testing.assert_close(model.module(**tokens).logits, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(model.vector(), vector_N)
    assert all(torch.equal(p, before[name]) for name, p in backbone.model.named_parameters())


def test_the_total_change_is_absorbed_plus_trained(backbone: Backbone, targets: list[str]) -> None:
    model = adapted(backbone.model, targets)
    present = model.tensors()
    parts = [present, some_factors(model, 3), some_factors(model, 7, seed=8)]
    for factors in parts[1:]:
        model.absorb(factors)
    for name, delta in model.learnt().items():
        wanted = sum(
            ALPHA / RANK * f[f"{name}.lora_B"].astype(np.float64) @ f[f"{name}.lora_A"]
            for f in parts
        )
        np.testing.assert_allclose(delta, wanted, rtol=1e-4, atol=1e-5)


def test_small_pieces_are_not_lost_in_a_half_precision_weight() -> None:
    half = CausalLM(name=str(WEIGHTS_FOLDER), max_tokens=64, dtype="bfloat16").load()
    model = LoraModel(half.model, half.target_modules[:1], RANK, RANK, SIDES)
    (name,) = model.module_names
    start = half.model.get_submodule(name).weight.double().numpy()
    step = {key: 1e-2 * values for key, values in some_factors(model, 1).items()}
    model.set_tensors({f"{name}.lora_B": np.zeros(model.shape_of(f"{name}.lora_B"), np.float32)})
    for _ in range(200):
        model.absorb(step)
    total = 200 * step[f"{name}.lora_B"].astype(np.float64) @ step[f"{name}.lora_A"]
    np.testing.assert_allclose(model.learnt()[name], total, rtol=1e-3, atol=1e-7)
    layer = model.module.get_submodule(f"base_model.model.{name}").base_layer
    assert layer.weight.dtype == torch.bfloat16
    weight = layer.weight.double().numpy()
    np.testing.assert_allclose(weight, start + total, rtol=2**-8, atol=1e-6)
