"""Model folders as people have them, made in a moment: random weights, and a tokenizer of bytes.

Every architecture has two layers of width 16; vocabulary and tokenizer agree.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedModel, PreTrainedTokenizerFast

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
WORDS = 260
"""Embeddings of a model: 256 bytes, and room for special tokens."""

LLAMA = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 96,
}
GPT2 = {"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 48}
OPT = {
    "vocab_size": WORDS, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 48, "word_embed_proj_dim": 16,
}  # fmt: skip
SMALL_T5 = {
    "vocab_size": WORDS,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 2,
}
MAMBA = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
BLOOM = {"vocab_size": WORDS, "hidden_size": 16, "n_layer": 2, "n_head": 2}


def byte_tokenizer(
    eos: str | None = "</s>", template: str | None = None, **named: str
) -> PreTrainedTokenizerFast:
    """One token a byte, then the special tokens. template: what is put around a text, as "<s> $A"."""
    special = [token for token in (eos, *named.values()) if token]
    ids = {token: number for number, token in enumerate([*BYTES, *special])}
    words = Tokenizer(models.BPE(vocab=ids, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    if template:
        words.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(token, ids[token]) for token in special]
        )
    tokens = {**named, "eos_token": eos} if eos else named
    return PreTrainedTokenizerFast(tokenizer_object=words, **tokens)


def model_folder(
    folder: Path,
    model: str,
    fields: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerFast | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """A folder with a model of transformers by its class name; seeded, so equal calls give equal bytes."""
    kind = getattr(transformers, model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: PreTrainedModel = kind(kind.config_class(**fields)).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4.0)  # so that what is read shows in what is answered
    made.save_pretrained(folder)
    (tokenizer or byte_tokenizer()).save_pretrained(folder)
    return folder


def llama(folder: Path, tokenizer: PreTrainedTokenizerFast | None = None, **fields: Any) -> Path:
    """A decoder with rotary positions."""
    return model_folder(folder, "LlamaForCausalLM", LLAMA | fields, tokenizer)


def bert(folder: Path, model: str = "BertModel") -> Path:
    """An encoder with 48 positions."""
    return model_folder(
        folder, model, LLAMA | {"max_position_embeddings": 48}, byte_tokenizer(pad_token="<pad>")
    )


def with_json(folder: Path, file: str, **fields: Any) -> Path:
    """Change fields in a JSON file of the folder; return the folder."""
    path = folder / file
    values = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(values | fields))
    return folder


def with_weights(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> Path:
    """The same folder with other weights."""
    path = folder / "model.safetensors"
    changed = change(dict(load_file(path)))
    save_file(changed, path, metadata={"format": "pt"})
    return folder


DECODERS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "llama_tied": ("LlamaForCausalLM", LLAMA | {"num_key_value_heads": 1, "tie_word_embeddings": True}, ["q_proj", "lm_head"]),
    "qwen2": ("Qwen2ForCausalLM", LLAMA | {"num_key_value_heads": 1, "tie_word_embeddings": True}, ["q_proj", "down_proj"]),
    "mistral": ("MistralForCausalLM", LLAMA | {"num_key_value_heads": 1, "sliding_window": 8}, ["v_proj"]),
    "gemma3": ("Gemma3ForCausalLM", LLAMA | {"num_key_value_heads": 1, "head_dim": 8, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}, ["v_proj"]),
    "mixtral": ("MixtralForCausalLM", LLAMA | {"num_key_value_heads": 1, "num_local_experts": 2}, ["q_proj"]),
    "phi3": ("Phi3ForCausalLM", LLAMA | {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}, ["qkv_proj"]),
    "neox": ("GPTNeoXForCausalLM", LLAMA, ["query_key_value"]),
    "bloom": ("BloomForCausalLM", BLOOM, ["query_key_value"]),
    "gpt2": ("GPT2LMHeadModel", GPT2, ["c_attn", "c_fc", "lm_head"]),
    "opt": ("OPTForCausalLM", OPT, ["q_proj", "out_proj"]),
}  # fmt: skip
"""By name: class, fields of its config, suffixes of modules to adapt."""
