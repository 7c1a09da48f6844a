"""Model folders of users: a suitable folder is loaded, any other is refused in one line before training."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from emulator.core.errors import ScenarioError
from emulator.learning.backbone.load import CausalLM, SentenceEncoder

sys.path.append(str(Path(__file__).parents[4] / "support"))

from tiny_models import (
    DECODERS,
    GPT2,
    LLAMA,
    MAMBA,
    OPT,
    SMALL_T5,
    bert,
    byte_tokenizer,
    llama,
    model_folder,
    with_json,
    with_weights,
)

MAX_TOKENS = 32
Make = Callable[[Path], Path]
Kind = type[CausalLM] | type[SentenceEncoder]


def problem(
    folder: Path,
    *modules: str,
    kind: Kind = CausalLM,
    max_tokens: int = MAX_TOKENS,
) -> str:
    """The one line of the refusal."""
    with pytest.raises(ScenarioError) as caught:
        kind(name=str(folder), target_modules=modules, max_tokens=max_tokens).load()
    (line,) = caught.value.problems
    assert "\n" not in line
    return line


def test_every_decoder_is_loaded(tmp_path: Path) -> None:
    for name, (model, fields, modules) in DECODERS.items():
        folder = model_folder(tmp_path / name, model, fields)
        backbone = CausalLM(
            name=str(folder), max_tokens=MAX_TOKENS, target_modules=tuple(modules)
        ).load()
        assert {m.rsplit(".", 1)[-1] for m in backbone.target_modules} == set(modules)


# ── weights that are not the architecture's ──────────────────────────────────────────────────────


def renamed(folder: Path) -> Path:
    return with_weights(
        llama(folder), lambda reported: {f"module.net.{k}": v for k, v in reported.items()}
    )


def without_a_head(folder: Path) -> Path:
    llama(folder)
    LlamaModel(LlamaConfig(**LLAMA)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (renamed, ["missing: lm_head.weight, ", "unknown: module.net.lm_head.weight, "]),
        (without_a_head, ["missing: lm_head.weight"]),
        (
            lambda f: with_json(llama(f), "config.json", num_hidden_layers=3),
            ["missing: model.layers.2.input_layernorm.weight, ", " and 6 more"],
        ),
        (
            lambda f: with_json(llama(f), "config.json", num_hidden_layers=1),
            ["unknown: model.layers.1.input_layernorm.weight, "],
        ),
        (
            lambda f: with_json(llama(f), "config.json", intermediate_size=32),
            ["of another shape: model.layers.0.mlp.down_proj.weight [16, 24] for [16, 32], "],
        ),
    ],
    ids=["renamed", "without a head", "a layer missing", "a layer too many", "another shape"],
)
def test_weights_of_another_architecture_are_named(
    make: Make, named: list[str], tmp_path: Path
) -> None:
    line = problem(make(tmp_path / "model"), "q_proj")
    assert "whose weights are not those of LlamaForCausalLM" in line
    for words in named:
        assert words in line


def test_an_extra_layer_differs_from_the_head_of_a_task(
    tmp_path: Path,
) -> None:
    folder = bert(tmp_path / "model", "BertForMaskedLM")  # it has a head, and no pooler
    encoder = SentenceEncoder(name=str(folder), max_tokens=MAX_TOKENS, target_modules=("query",))
    pooler = encoder.load().model.pooler
    assert not any(parameter.any() for parameter in pooler.parameters())  # never random
    with_json(folder, "config.json", num_hidden_layers=1)
    line = problem(folder, "query", kind=SentenceEncoder)
    assert "unknown: bert.encoder.layer.1." in line
    assert "cls." not in line


def test_other_parts_of_a_checkpoint_are_left_over_rightly(tmp_path: Path) -> None:
    def with_a_critic(reported: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return reported | {"v_head.summary.weight": torch.zeros(1, 16)}

    folder = with_weights(llama(tmp_path / "model"), with_a_critic)
    CausalLM(name=str(folder), max_tokens=MAX_TOKENS, target_modules=("q_proj",)).load()


# ── unsuitable architectures ────────────────────────────────────────────────────────────────────


def decoder(folder: Path, model: str, fields: dict[str, object]) -> Path:
    return model_folder(folder, model, fields, byte_tokenizer(pad_token="<pad>"))


@pytest.mark.parametrize(
    ("make", "module", "kind", "words"),
    [
        (lambda f: bert(f, "BertForMaskedLM"), "query", CausalLM, "no key-value cache"),
        (lambda f: decoder(f, "MambaForCausalLM", MAMBA), "in_proj", CausalLM, "no key-value cache"),
        (lambda f: decoder(f, "T5ForConditionalGeneration", SMALL_T5), "q", SentenceEncoder, "an encoder with a decoder (t5)"),
        (lambda f: decoder(f, "T5ForConditionalGeneration", SMALL_T5), "q", CausalLM, "an encoder with a decoder (t5)"),
        (lambda f: with_json(llama(f), "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}), "q_proj", CausalLM, "quantised (bitsandbytes)"),
        (lambda f: with_json(llama(f), "config.json", quantization_config={"quant_method": "gptq", "bits": 4}), "q_proj", CausalLM, "quantised (gptq)"),
        (lambda f: decoder(f, "ViTModel", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 8, "patch_size": 4}), "q_proj", SentenceEncoder, "which fails on 3 tokens"),
    ],
    ids=["encoder", "no cache", "T5 encodes", "T5 decodes", "bitsandbytes", "gptq", "images"],
)  # fmt: skip
def test_a_model_that_cannot_answer_is_refused_when_loading(
    make: Make,
    module: str,
    kind: Kind,
    words: str,
    tmp_path: Path,
) -> None:
    folder = make(tmp_path / "model")
    line = problem(folder, module, kind=kind)
    assert line.startswith(f"backbone.name: got {str(folder)!r}")
    assert words in line


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_a_folder_is_neither_run_nor_asked_for(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {
        "config.json": {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}},
        "tokenizer_config.json": {
            "tokenizer_class": "Own",
            "auto_map": {"AutoTokenizer": ["own.Own", None]},
        },
    }
    folder = with_json(llama(tmp_path / "model"), file, **own[file])
    (folder / "own.py").write_text("raise SystemExit('the code was run')\n")
    answers = io.StringIO("y\n" * 9)
    monkeypatch.setattr(sys, "stdin", answers)
    line = problem(folder, "q_proj")
    assert line.endswith("it needs code of its own (auto_map), which is not run")
    assert answers.tell() == 0


# ── tokens and positions ─────────────────────────────────────────────────────────────────────────


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    folder = llama(tmp_path / "model", byte_tokenizer(eos=None))
    assert "no end token (eos_token)" in problem(folder, "q_proj")
    encoder = model_folder(tmp_path / "encoder", "BertModel", LLAMA, byte_tokenizer(eos=None))
    assert "no padding token" in problem(encoder, "query", kind=SentenceEncoder)


def test_a_token_without_an_embedding_is_named(tmp_path: Path) -> None:
    folder = llama(tmp_path / "model", byte_tokenizer(pad_token="[PAD]"), vocab_size=257)
    line = problem(folder, "q_proj")
    assert "257 embeddings" in line
    assert "'[PAD]', 257" in line


@pytest.mark.parametrize(
    ("make", "module", "kind"),
    [
        (lambda f: model_folder(f, "OPTForCausalLM", OPT), "q_proj", CausalLM),
        (lambda f: model_folder(f, "GPT2LMHeadModel", GPT2), "c_attn", CausalLM),
        (bert, "query", SentenceEncoder),
        (lambda f: model_folder(f, "RobertaModel", LLAMA | {"max_position_embeddings": 50}), "query", SentenceEncoder),
    ],
    ids=["opt", "gpt2", "bert", "roberta, which begins behind its padding"],
)  # fmt: skip
def test_inputs_have_as_many_tokens_as_there_are_positions(
    make: Make,
    module: str,
    kind: Kind,
    tmp_path: Path,
) -> None:
    folder = make(tmp_path / "model")
    line = problem(folder, module, kind=kind, max_tokens=49)
    assert line == f"backbone.max_tokens: got 49, wanted at most 48 (positions of {folder})"
    whole = kind(name=str(folder), target_modules=(module,), max_tokens=48).load()
    assert len(next(whole.read(["x" * 99]))[1][0][0]) == 48


# ── adapted modules ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        (("q_proj", "v_porj"), ["got ['v_porj']", "did you mean 'v_proj'?"]),
        (("embed_tokens", "q_proj"), ["got ['embed_tokens']", "embed_tokens is of type Embedding"]),
        (("k_proj", "head", "proj"), ["got ['head', 'proj']", "it has down_proj, "]),
    ],
)
def test_every_suffix_that_fits_nothing_is_named(
    modules: tuple[str, ...], words: list[str], tmp_path: Path
) -> None:
    line = problem(llama(tmp_path / "model"), *modules)
    for part in words:
        assert part in line


@pytest.mark.parametrize(
    ("make", "modules", "kind", "named"),
    [
        (lambda f: model_folder(f, "OPTForCausalLM", OPT), ("q_proj", "fc1"), CausalLM, "(fc1)"),
        (bert, ("pooler.dense", "query"), SentenceEncoder, "(dense)"),
    ],
    ids=["tokens of all texts in one row", "the first token only"],
)
def test_modules_that_do_not_read_every_token_are_refused(
    make: Make,
    modules: tuple[str, ...],
    kind: Kind,
    named: str,
    tmp_path: Path,
) -> None:
    line = problem(make(tmp_path / "model"), *modules, kind=kind)
    assert line.startswith("backbone.target_modules: got modules of ")
    assert f"do not read every token of a text {named}" in line


# ── messages for an existing folder ─────────────────────────────────────────────────────────────


def test_the_cause_is_whole_and_on_one_line(tmp_path: Path) -> None:
    folder = with_json(
        llama(tmp_path / "model"), "tokenizer.json", pre_tokenizer={"type": "NewKind"}
    )
    line = problem(folder, "q_proj")
    assert "wanted a folder from which transformers loads a causal_lm and its tokenizer: " in line
    assert "did not match any variant" in line
    unknown = with_json(llama(tmp_path / "unknown"), "config.json", model_type="brand_new")
    line = problem(unknown, "q_proj")
    assert (
        "`brand_new` but Transformers does not recognize this architecture. This could be" in line
    )
    assert len(line) < 600
    assert "existing folder" not in line
