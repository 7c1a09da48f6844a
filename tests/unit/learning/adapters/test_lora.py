"""LoraModel: shared frozen tensors, one flat vector, masked training."""

import copy
import warnings

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from emulator.core.types.adapter import Mask
from emulator.core.types.arrays import FloatArray
from emulator.learning.adapters.lora import LoraModel, frozen_twin, own_twin
from emulator.learning.backbone.load import Backbone, Tiny

RANK, ALPHA = 4, 8
SIDES = {"b": ("lora_B",), "ab": ("lora_A", "lora_B")}
SUFFIXES = ("q_proj", "down_proj")
"""Two modules a layer are enough; they differ in shape."""


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Tiny().load()


@pytest.fixture(scope="module")
def targets(backbone: Backbone) -> list[str]:
    return [name for name in backbone.target_modules if name.endswith(SUFFIXES)]


@pytest.fixture(scope="module")
def tokens(backbone: Backbone) -> dict[str, torch.Tensor]:
    return backbone.tokenize(["tag02 : b n h a c -> a b", "tag05 : k j -> j k"])


def adapted(
    backbone: Backbone, targets: list[str], trained: tuple[str, ...], seed: int = 1
) -> LoraModel:
    """A LoRA model with seeded A and B, independent of PEFT's draws and without zero gradients."""
    model = LoraModel(backbone.model, targets, RANK, ALPHA, trained)
    draws = np.random.default_rng(seed)
    model.set_tensors(
        {
            name: (0.05 * draws.standard_normal(tensor.shape)).astype(np.float32)
            for name, tensor in sorted(model.tensors().items())
        }
    )
    return model


def loss_of(module: nn.Module, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    logits = module(**tokens).logits
    return nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), tokens["input_ids"][:, 1:].flatten()
    )


def train(model: LoraModel, tokens: dict[str, torch.Tensor], steps: int) -> None:
    for _ in range(steps):
        model.step([loss_of(model.module, tokens)])


def some_mask(size: int, density: float = 0.3) -> Mask:
    return Mask.from_dense(np.random.default_rng(9).random(size) < density)


def plain_peft(backbone: Backbone, targets: list[str], like: LoraModel) -> dict[str, nn.Parameter]:
    """A separate PEFT model over a copied backbone with equal layers; parameters by the emulator's names."""
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=targets, lora_dropout=0.0, bias="none"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = get_peft_model(copy.deepcopy(backbone.model), config).eval()
    parameters = {
        name.removeprefix("base_model.model.").removesuffix(".default.weight"): parameter
        for name, parameter in plain.named_parameters()
        if "lora_" in name
    }
    with torch.no_grad():
        for name, values in like.tensors().items():
            parameters[name].copy_(torch.from_numpy(values))
    parameters["module"] = plain  # type: ignore[assignment]
    return parameters


# ── frozen twins ─────────────────────────────────────────────────────────────────────────────────


def test_a_twin_has_modules_of_its_own_over_the_same_tensors(backbone: Backbone) -> None:
    twin = frozen_twin(backbone.model)
    mine, theirs = dict(twin.named_modules()), dict(backbone.model.named_modules())
    assert mine.keys() == theirs.keys()
    assert all(mine[name] is not theirs[name] for name in mine)
    for kind in ("named_parameters", "named_buffers"):
        first, second = dict(getattr(twin, kind)()), dict(getattr(backbone.model, kind)())
        assert first.keys() == second.keys()
        assert all(first[name] is second[name] for name in first)
    assert twin.lm_head.weight is twin.model.embed_tokens.weight


def test_frozen_tensors_are_shared_and_training_does_not_touch_them(
    backbone: Backbone, targets: list[str], tokens: dict[str, torch.Tensor]
) -> None:
    before = {name: p.clone() for name, p in backbone.model.named_parameters()}
    model = adapted(backbone, targets, SIDES["ab"])
    shared = {p.data_ptr() for p in backbone.model.parameters()}
    frozen = [p for p in model.module.parameters() if not p.requires_grad]
    assert {p.data_ptr() for p in frozen} == shared
    model.start_optimiser(0.05)
    train(model, tokens, 2)
    for name, parameter in backbone.model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None
    assert not any("lora" in name for name, _ in backbone.model.named_modules())


def test_two_devices_of_one_backbone_are_independent(
    backbone: Backbone, targets: list[str], tokens: dict[str, torch.Tensor]
) -> None:
    first = adapted(backbone, targets, SIDES["b"], seed=1)
    second = adapted(backbone, targets, SIDES["b"], seed=2)
    kept = second.tensors()
    logits = second.module(**tokens).logits.detach()
    first.start_optimiser(0.05)
    train(first, tokens, 2)
    assert all(np.array_equal(kept[name], values) for name, values in second.tensors().items())
    assert torch.equal(second.module(**tokens).logits, logits)
    assert not torch.allclose(first.module(**tokens).logits, logits)


def test_a_twin_of_ones_own_shares_no_weight_and_ties_what_was_tied(
    backbone: Backbone, tokens: dict[str, torch.Tensor]
) -> None:
    twin = own_twin(backbone.model)
    assert twin.lm_head.weight is twin.model.embed_tokens.weight
    theirs = dict(backbone.model.named_parameters())
    for name, parameter in twin.named_parameters():
        assert torch.equal(parameter, theirs[name])
        assert parameter.data_ptr() != theirs[name].data_ptr()
        assert not parameter.requires_grad
    assert torch.equal(twin(**tokens).logits, backbone.model(**tokens).logits)


# ── the flat vector ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("trained", SIDES.values(), ids=SIDES)
def test_layout_vector_and_tensors_agree(
    backbone: Backbone, targets: list[str], trained: tuple[str, ...]
) -> None:
    model = adapted(backbone, targets, trained)
    assert model.module_names == tuple(targets)
    assert model.layout.names == tuple(f"{name}.{side}" for name in targets for side in trained)
    assert model.scaling == ALPHA / RANK
    assert model.mask.is_full
    tensors = model.tensors()
    assert sorted(tensors) == sorted(f"{n}.{side}" for n in targets for side in SIDES["ab"])
    for name in targets:
        layer = backbone.model.get_submodule(name)
        assert model.shape_of(f"{name}.lora_A") == (RANK, layer.in_features)
        assert model.shape_of(f"{name}.lora_B") == (layer.out_features, RANK)
    np.testing.assert_array_equal(model.layout.join(tensors), model.vector())
    assert model.vector().dtype == np.float32


@pytest.mark.parametrize("trained", SIDES.values(), ids=SIDES)
def test_load_and_set_tensors_are_undone_by_vector_and_tensors(
    backbone: Backbone,
    targets: list[str],
    trained: tuple[str, ...],
    tokens: dict[str, torch.Tensor],
) -> None:
    model = adapted(backbone, targets, trained)
    vector_N = np.random.default_rng(4).standard_normal(model.layout.size).astype(np.float32)
    frozen = {n: v for n, v in model.tensors().items() if n not in model.layout.names}
    model.load(vector_N)
    np.testing.assert_array_equal(model.vector(), vector_N)
    for name, values in model.layout.split(vector_N).items():
        np.testing.assert_array_equal(model.tensors()[name], values)
    for name, values in frozen.items():
        np.testing.assert_array_equal(model.tensors()[name], values)

    twin = adapted(backbone, targets, trained, seed=7)
    twin.set_tensors(model.tensors())
    np.testing.assert_array_equal(twin.vector(), vector_N)
    assert torch.equal(twin.module(**tokens).logits, model.module(**tokens).logits)


def test_returned_arrays_are_copies(backbone: Backbone, targets: list[str]) -> None:
    model = adapted(backbone, targets, SIDES["b"])
    before = model.vector()
    model.vector()[:] = 5
    for values in model.tensors().values():
        values[:] = 5
    loaded = before.copy()
    model.load(loaded)
    loaded[:] = 5
    np.testing.assert_array_equal(model.vector(), before)


def test_the_common_random_state_is_left_alone(backbone: Backbone, targets: list[str]) -> None:
    before = torch.get_rng_state()
    LoraModel(backbone.model, targets, RANK, ALPHA, SIDES["b"])
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_drops_out_while_training(
    backbone: Backbone, targets: list[str], tokens: dict[str, torch.Tensor]
) -> None:
    model = adapted(backbone, targets, SIDES["b"])
    assert not any(module.training for module in model.module.modules())
    assert torch.equal(loss_of(model.module, tokens), loss_of(model.module, tokens))


# ── training ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("trained", SIDES.values(), ids=SIDES)
def test_output_and_gradient_equal_a_plain_peft_model(
    backbone: Backbone,
    targets: list[str],
    trained: tuple[str, ...],
    tokens: dict[str, torch.Tensor],
) -> None:
    model = adapted(backbone, targets, trained)
    plain = plain_peft(backbone, targets, model)
    loss = loss_of(plain["module"], tokens)
    wanted = torch.autograd.grad(loss, [plain[name] for name in model.layout.names])
    ours = loss_of(model.module, tokens)
    assert torch.equal(ours, loss)

    seen: list[FloatArray] = []
    model.start_optimiser(0.01)
    model._trained.optimiser.register_step_pre_hook(
        lambda *_: seen.append(model._trained.parameter.grad.numpy().copy())
    )
    model.step([ours])
    np.testing.assert_allclose(
        seen[0], torch.cat([g.flatten() for g in wanted]).numpy(), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("trained", SIDES.values(), ids=SIDES)
def test_three_steps_equal_adamw_over_a_plain_peft_model(
    backbone: Backbone,
    targets: list[str],
    trained: tuple[str, ...],
    tokens: dict[str, torch.Tensor],
) -> None:
    model = adapted(backbone, targets, trained)
    plain = plain_peft(backbone, targets, model)
    learned = [plain[name] for name in model.layout.names]
    optimiser = torch.optim.AdamW(learned, lr=0.01, weight_decay=0.0)
    for _ in range(3):
        optimiser.zero_grad()
        loss_of(plain["module"], tokens).backward()
        optimiser.step()
    model.start_optimiser(0.01)
    train(model, tokens, 3)
    wanted = torch.cat([p.detach().flatten() for p in learned]).numpy()
    np.testing.assert_allclose(model.vector(), wanted, rtol=1e-4, atol=1e-5)


def test_only_kept_entries_train_and_all_others_stay_exactly_nought(
    backbone: Backbone, targets: list[str], tokens: dict[str, torch.Tensor]
) -> None:
    model = adapted(backbone, targets, SIDES["b"])
    projections = {n: v for n, v in model.tensors().items() if n.endswith("lora_A")}
    model.start_optimiser(0.05)
    train(model, tokens, 1)
    mask = some_mask(model.layout.size)
    model.restrict(mask)
    assert not model.vector().any()
    model.start_optimiser(0.05)
    train(model, tokens, 3)
    vector_N = model.vector()
    assert not vector_N[~mask.dense].any()
    assert (vector_N[mask.dense] != 0).mean() > 0.9
    for name, values in projections.items():
        np.testing.assert_array_equal(model.tensors()[name], values)


def test_adamw_over_kept_entries_equals_masked_gradients_over_all(
    backbone: Backbone, targets: list[str], tokens: dict[str, torch.Tensor]
) -> None:
    sparse = adapted(backbone, targets, SIDES["b"])
    mask = some_mask(sparse.layout.size)
    sparse.restrict(mask)
    sparse.start_optimiser(0.02)

    plain = plain_peft(backbone, targets, sparse)  # B is zero in both
    learned = [plain[name] for name in sparse.layout.names]
    kept = sparse.layout.split(mask.dense.astype(np.float32))
    optimiser = torch.optim.AdamW(learned, lr=0.02, weight_decay=0.0)
    for _ in range(3):
        optimiser.zero_grad()
        loss_of(plain["module"], tokens).backward()
        for name, parameter in zip(sparse.layout.names, learned, strict=True):
            parameter.grad *= torch.from_numpy(kept[name])
        optimiser.step()
    train(sparse, tokens, 3)
    wanted = torch.cat([p.detach().flatten() for p in learned]).numpy()
    np.testing.assert_allclose(sparse.vector(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("restricted", [False, True])
def test_training_continues_from_loaded_values_with_its_moments(
    backbone: Backbone, targets: list[str], tokens: dict[str, torch.Tensor], restricted: bool
) -> None:
    rate = 0.02
    models = [adapted(backbone, targets, SIDES["b"]) for _ in range(3)]
    for model in models:
        if restricted:
            model.restrict(some_mask(model.layout.size))
        model.start_optimiser(rate)
        train(model, tokens, 2)
    far_N = (models[0].vector() + 1) * models[0].mask.dense
    models[0].load(far_N)
    models[1].load(far_N * 3)  # a load in between has no effect
    models[1].load(far_N)
    models[2].load(far_N)
    models[2].start_optimiser(rate)  # forgets the moments
    for model in models:
        train(model, tokens, 1)
    assert 0 < np.abs(models[0].vector() - far_N).max() < 5 * rate
    np.testing.assert_array_equal(models[0].vector(), models[1].vector())
    assert np.abs(models[0].vector() - models[2].vector()).max() > rate / 10


@pytest.mark.parametrize("active_ranks", [1, 2, RANK, 3 * RANK])
def test_only_the_largest_of_a_h_pass_on_to_b(
    backbone: Backbone, targets: list[str], tokens: dict[str, torch.Tensor], active_ranks: int
) -> None:
    model = adapted(backbone, targets, SIDES["b"])
    plain = model.module(**tokens).logits.detach()
    model.keep_active(active_ranks)
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    inputs_of: dict[str, torch.Tensor] = {}
    for name, layer in model.module.named_modules():
        if name.endswith("lora_A.default"):
            layer.register_forward_pre_hook(lambda _, x, n=name: inputs_of.update({n: x[0]}))
        elif name.endswith("lora_B.default"):
            of_A = name.replace("lora_B", "lora_A")
            weight = model.module.get_submodule(of_A).weight
            layer.register_forward_pre_hook(
                lambda _, x, n=of_A, w=weight: seen.update({n: (x[0], inputs_of[n] @ w.T)})
            )
    logits = model.module(**tokens).logits
    assert len(seen) == len(targets)
    for passed, every in seen.values():
        for z_r, all_r in zip(
            passed.detach().flatten(0, -2).numpy(),
            every.detach().flatten(0, -2).numpy(),
            strict=True,
        ):
            largest = np.argsort(-np.abs(all_r))[:active_ranks]
            np.testing.assert_array_equal(np.flatnonzero(z_r), np.sort(largest))
            np.testing.assert_allclose(z_r[largest], all_r[largest], rtol=1e-5, atol=1e-7)
    assert torch.equal(logits, plain) == (active_ranks >= RANK)


def test_training_is_the_same_twice(
    backbone: Backbone, targets: list[str], tokens: dict[str, torch.Tensor]
) -> None:
    vectors = []
    for _ in range(2):
        model = adapted(backbone, targets, SIDES["ab"])
        model.start_optimiser(0.02)
        train(model, tokens, 2)
        vectors.append(model.vector().tobytes())
    assert vectors[0] == vectors[1]
