"""Layers that store W as [k, d] (GPT-2), and an adapted output layer: they behave as every other linear layer."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers.pytorch_utils import Conv1D

from emulator.core.types.result import Expert
from emulator.learning.adapters.calibration import input_second_moments, spectral_entropies
from emulator.learning.adapters.export import build_peft_files, read_expert_tensors
from emulator.learning.adapters.lora import LoraModel, frozen_twin
from emulator.learning.backbone.load import Backbone, CausalLM
from emulator.learning.linear_layers import weight_of
from emulator.learning.routing.mixture import RoutedModel
from emulator.learning.training import count_linear_weights

sys.path.append(str(Path(__file__).parents[4] / "support"))

from tiny_models import DECODERS, GPT2, model_folder

TEXTS = ["the cat sat on the mat", "so", "and then ?"]
RANK, ALPHA = 3, 6


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """Both ways of storing W: c_attn and c_proj transposed, lm_head (tied) not."""
    folder = model_folder(tmp_path_factory.mktemp("models") / "gpt2", "GPT2LMHeadModel", GPT2)
    modules = ("c_attn", "c_proj", "lm_head")
    return CausalLM(name=str(folder), max_tokens=32, target_modules=modules).load()


@pytest.fixture(scope="module")
def straight(gpt2: Backbone) -> Backbone:
    """The same model with nn.Linear instead of Conv1D."""
    model = frozen_twin(gpt2.model)
    for name, module in gpt2.model.named_modules():
        if isinstance(module, Conv1D):
            linear = nn.Linear(*module.weight.shape)
            linear.weight = nn.Parameter(module.weight.T.contiguous(), requires_grad=False)
            linear.bias = module.bias
            model.set_submodule(name, linear)
    return Backbone(
        model, gpt2.tokenizer, gpt2.family, gpt2.name, gpt2.target_modules, gpt2.max_tokens
    )


def adapted(backbone: Backbone) -> LoraModel:
    """A LoRA model that changes the logits visibly."""
    model = LoraModel(backbone.model, backbone.target_modules, RANK, ALPHA, ("lora_A", "lora_B"))
    draws = np.random.default_rng(1)
    model.load((0.2 * draws.standard_normal(model.layout.size)).astype(np.float32))
    return model


def logits(model: nn.Module, backbone: Backbone) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(**backbone.tokenize(TEXTS)).logits
    return found


def expert_of(model: LoraModel) -> Expert:
    return Expert("sort", 10, model.scaling, model.tensors())


def test_they_learn_as_linear_layers_do(gpt2: Backbone, straight: Backbone) -> None:
    one, other = adapted(gpt2), adapted(straight)
    assert one.layout == other.layout
    assert one.shape_of("transformer.h.0.attn.c_attn.lora_A") == (RANK, 16)
    assert one.shape_of("transformer.h.0.attn.c_attn.lora_B") == (48, RANK)
    got, wanted = logits(one.module, gpt2), logits(other.module, gpt2)
    assert (wanted - logits(gpt2.model, gpt2)).abs().max() > 0.1
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert count_linear_weights(gpt2.model) == count_linear_weights(straight.model)


def test_their_entropies_are_those_of_linear_layers(gpt2: Backbone, straight: Backbone) -> None:
    modules = gpt2.target_modules
    assert "lm_head" in modules
    got = spectral_entropies(gpt2, modules, TEXTS, 1e-3)
    np.testing.assert_allclose(got, spectral_entropies(straight, modules, TEXTS, 1e-3), rtol=1e-4)
    assert weight_of(gpt2.model.get_submodule("transformer.h.0.attn.c_attn")).shape == (48, 16)


def test_the_output_layer_is_read_like_the_others(gpt2: Backbone) -> None:
    moments, tokens_seen = input_second_moments(gpt2, ["lm_head"], TEXTS)
    slow = np.zeros((16, 16))
    for text in TEXTS:
        with torch.no_grad():
            states = gpt2.model.transformer(**gpt2.tokenizer([text], return_tensors="pt"))
        hidden_Tk = states.last_hidden_state[0].double().numpy()
        slow += hidden_Tk.T @ hidden_Tk
    assert tokens_seen == sum(map(len, TEXTS))
    np.testing.assert_allclose(moments["lm_head"].numpy(), slow, rtol=1e-4, atol=1e-5)


def test_products_are_folded_into_them(gpt2: Backbone) -> None:
    model = adapted(gpt2)
    wanted = logits(model.module, gpt2)
    factors = {name: tensor.copy() for name, tensor in model.tensors().items()}
    model.load(np.zeros(model.layout.size, dtype=np.float32))
    model.absorb(factors)
    torch.testing.assert_close(logits(model.module, gpt2), wanted, rtol=1e-4, atol=1e-4)


def test_a_mixture_answers_as_the_adapted_layers(gpt2: Backbone) -> None:
    model = adapted(gpt2)
    mixture = RoutedModel(gpt2.model, [expert_of(model)], frozen_twin)
    mixture.set_gates(torch.ones(1, 1))
    got, wanted = logits(mixture.module, gpt2), logits(model.module, gpt2)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.filterwarnings("ignore:fan_in_fan_out")  # one flag for both kinds of layers
@pytest.mark.parametrize("modules", [("c_attn", "c_fc"), ("c_attn", "lm_head"), ("lm_head",)])
def test_peft_loads_them_with_the_same_logits(modules: tuple[str, ...], tmp_path: Path) -> None:
    model_folder(tmp_path, "GPT2LMHeadModel", GPT2)
    backbone = CausalLM(name=str(tmp_path), max_tokens=32, target_modules=modules).load()
    model = adapted(backbone)
    wanted = logits(model.module, backbone)
    assert (wanted - logits(backbone.model, backbone)).abs().max() > 0.1
    for name, data in build_peft_files(expert_of(model), backbone).items():
        (tmp_path / name).write_bytes(data)
    loaded = PeftModel.from_pretrained(frozen_twin(backbone.model), tmp_path).eval()
    torch.testing.assert_close(logits(loaded, backbone), wanted, rtol=1e-5, atol=1e-5)
    if "lm_head" not in modules:  # tied to the embeddings, which merging would change
        merged = loaded.merge_and_unload()
        torch.testing.assert_close(logits(merged, backbone), wanted, rtol=1e-4, atol=1e-4)
    back = read_expert_tensors((tmp_path / "adapter_model.safetensors").read_bytes())
    assert back.keys() == model.tensors().keys()


@pytest.mark.filterwarnings("error:fan_in_fan_out")
def test_the_peft_config_names_transposed_weights(tmp_path: Path) -> None:
    model_folder(tmp_path, "GPT2LMHeadModel", GPT2)
    backbone = CausalLM(name=str(tmp_path), max_tokens=32, target_modules=("c_attn",)).load()
    for name, data in build_peft_files(expert_of(adapted(backbone)), backbone).items():
        (tmp_path / name).write_bytes(data)
    PeftModel.from_pretrained(frozen_twin(backbone.model), tmp_path)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_a_tied_output_layer_of_another_architecture(tmp_path: Path) -> None:
    model_name, fields, modules = DECODERS["llama_tied"]
    model_folder(tmp_path, model_name, fields)
    backbone = CausalLM(name=str(tmp_path), max_tokens=32, target_modules=tuple(modules)).load()
    model = adapted(backbone)
    wanted = logits(model.module, backbone)
    for name, data in build_peft_files(expert_of(model), backbone).items():
        (tmp_path / name).write_bytes(data)
    loaded = PeftModel.from_pretrained(frozen_twin(backbone.model), tmp_path).eval()
    torch.testing.assert_close(logits(loaded, backbone), wanted, rtol=1e-5, atol=1e-5)
    embeddings = backbone.model.get_input_embeddings().weight
    assert model.module.get_input_embeddings().weight.data_ptr() == embeddings.data_ptr()
