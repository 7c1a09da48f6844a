"""The embedded backbone: its files, its accuracy, and the script that wrote it."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from emulator.core.rng import stream
from emulator.learning.backbone.tiny import WEIGHTS_FOLDER
from emulator.learning.backbone.tiny.architecture import build_model, build_tokenizer
from emulator.learning.backbone.tiny.pretrain import (
    Recipe,
    draw_batch,
    exact_matches,
    sequences,
    write_backbone,
)
from emulator.learning.list_operations import (
    ARROW,
    IDENTITIES,
    LETTERS,
    MAX_ITEMS,
    MIN_ITEMS,
    OPERATIONS,
    TAGS,
    TASK_NAMES,
    VOCABULARY,
    prompt_text,
    tag_of,
)


@pytest.fixture(scope="module")
def offline_model():
    return AutoModelForCausalLM.from_pretrained(WEIGHTS_FOLDER, local_files_only=True).eval()


@pytest.fixture(scope="module")
def offline_tokenizer():
    return AutoTokenizer.from_pretrained(WEIGHTS_FOLDER, local_files_only=True)


def test_the_folder_is_small_and_complete() -> None:
    sizes = {file.name: file.stat().st_size for file in WEIGHTS_FOLDER.iterdir()}
    wanted = {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "pretrain.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert set(sizes) == wanted
    assert sizes["model.safetensors"] <= 3_000_000
    assert sum(sizes.values()) <= 3_100_000


def test_the_model_is_a_small_float32_llama_with_tied_embeddings(offline_model) -> None:
    assert offline_model.config.model_type == "llama"
    assert 300_000 <= sum(p.numel() for p in offline_model.parameters()) <= 700_000
    assert {p.dtype for p in offline_model.parameters()} == {torch.float32}
    assert offline_model.lm_head.weight is offline_model.model.embed_tokens.weight
    assert offline_model.config.vocab_size == len(VOCABULARY)


def test_committed_files_match_the_code_that_writes_them(offline_model, offline_tokenizer) -> None:
    assert offline_tokenizer.get_vocab() == build_tokenizer().get_vocab()
    built = {name: tensor.shape for name, tensor in build_model(0).state_dict().items()}
    assert built == {name: tensor.shape for name, tensor in offline_model.state_dict().items()}


def test_every_word_is_one_token_and_text_survives_the_round_trip(offline_tokenizer) -> None:
    text = " ".join(VOCABULARY)
    ids = offline_tokenizer(text)["input_ids"]
    assert ids == list(range(len(VOCABULARY)))
    assert offline_tokenizer.decode(ids) == text
    prompt = prompt_text("tag07", "c a f b")
    assert offline_tokenizer.decode(offline_tokenizer(prompt)["input_ids"]) == prompt
    assert offline_tokenizer("never seen")["input_ids"] == [offline_tokenizer.unk_token_id] * 2


def test_padding_and_end_are_tokens_of_their_own(offline_tokenizer) -> None:
    assert (offline_tokenizer.pad_token, offline_tokenizer.eos_token) == ("<pad>", "<end>")
    padded = offline_tokenizer(["a b c", "a"], padding=True)
    assert padded["attention_mask"] == [[1, 1, 1], [1, 0, 0]]
    assert padded["input_ids"][1][1:] == [offline_tokenizer.pad_token_id] * 2
    skipped = offline_tokenizer.decode(padded["input_ids"][1], skip_special_tokens=True)
    assert skipped == "a"


def test_drawing_an_untrained_model_leaves_torch_alone() -> None:
    torch.manual_seed(4)
    wanted = torch.rand(1)
    torch.manual_seed(4)
    build_model(1)
    assert torch.equal(torch.rand(1), wanted)


def test_sequences_spell_the_example(offline_tokenizer) -> None:
    lists_Sn = LETTERS.draw(1, MIN_ITEMS, stream(0, "test"))
    tokens = sequences(OPERATIONS["reverse"], ["reverse"], lists_Sn)[0]
    items = LETTERS.write(lists_Sn[0])
    answer = " ".join(reversed(items.split()))
    assert offline_tokenizer.decode(tokens) == f"reverse : {items} -> {answer} <end>"


def test_tags_come_with_every_operation_in_pretraining() -> None:
    recipe = Recipe(seed=0, steps=1, batch_size=20_000)
    tokens_ST = draw_batch(recipe, stream(0, "test"))
    heads = [VOCABULARY[i] for i in tokens_ST[:, 0]]
    tagged = sum(head in TAGS for head in heads) / len(heads)
    assert tagged == pytest.approx(recipe.tagged_share, abs=0.02)
    assert set(heads) == {*TAGS, *OPERATIONS}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_backbone_solves_named_operations(offline_model, name: str) -> None:
    draws = stream(7, "test")
    assert exact_matches(offline_model, OPERATIONS[name], [name] * 100, draws) >= 0.9


@pytest.mark.parametrize("name", TASK_NAMES)
def test_the_backbone_does_not_know_the_operation_of_a_tag(offline_model, name: str) -> None:
    draws = stream(8, "test")
    heads = [tag_of(name)] * 200
    assert exact_matches(offline_model, OPERATIONS[name], heads, draws) < 0.05


def test_a_tag_is_answered_by_a_copy(offline_model) -> None:
    for name in IDENTITIES:
        draws = stream(9, "test")
        assert exact_matches(offline_model, OPERATIONS[name], list(TAGS) * 4, draws) >= 0.9


def test_a_linear_router_distinguishes_tags_of_one_format(offline_model) -> None:
    names, num_lists = ("reverse", "sort", "rotate", "successor"), 250
    lists_Sn = LETTERS.draw(num_lists, MIN_ITEMS, stream(10, "test"))
    prompt_tokens = MIN_ITEMS + 3
    states = []
    for name in names:
        tokens_ST = sequences(OPERATIONS[name], [tag_of(name)] * num_lists, lists_Sn)
        prompts_ST = torch.from_numpy(tokens_ST[:, :prompt_tokens])
        with torch.no_grad():
            hidden = offline_model(prompts_ST, output_hidden_states=True).hidden_states
        states.append(hidden[2].mean(dim=1))
    features_NSH = torch.stack(states)
    centred_NSH = features_NSH - features_NSH.mean(dim=(0, 1))
    fitted, held_out = centred_NSH[:, :200], centred_NSH[:, 200:]
    wanted = torch.eye(len(names)).repeat_interleave(200, dim=0)
    weights = torch.linalg.lstsq(fitted.flatten(0, 1), wanted).solution
    chosen_NS = (held_out @ weights).argmax(-1)
    right = chosen_NS == torch.arange(len(names))[:, None]
    assert right.float().mean() >= 0.95


def test_greedy_decoding_ends_by_itself_and_agrees_with_one_pass(
    offline_model, offline_tokenizer
) -> None:
    prompt = prompt_text("sort", "f a d b")
    encoded = offline_tokenizer(prompt, return_tensors="pt")
    prompt_tokens = encoded["input_ids"].shape[1]
    written = offline_model.generate(
        **encoded, max_new_tokens=MAX_ITEMS + 2, do_sample=False, pad_token_id=0
    )
    assert offline_tokenizer.decode(written[0, prompt_tokens:]) == "a b d f <end>"
    assert prompt.endswith(ARROW)


def test_pretraining_writes_the_same_bytes_twice(tmp_path: Path, capsys) -> None:
    for name in ("once", "again"):
        write_backbone(["--out", str(tmp_path / name), "--steps", "3", "--seed", "5"])
    once, again = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ("once", "again")
    )
    assert once == again
    documentation = json.loads(once["pretrain.json"])
    assert (documentation["recipe"]["seed"], documentation["recipe"]["steps"]) == (5, 3)
    assert [step for step, _ in documentation["losses"]] == [1, 2, 3]
    assert set(documentation["accuracy"]["named"]) == set(OPERATIONS)
    assert "reverse" in capsys.readouterr().out


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    first, second = (build_model(seed).state_dict() for seed in (1, 2))
    assert not torch.equal(first["lm_head.weight"], second["lm_head.weight"])


def test_the_committed_story_is_the_default_recipe() -> None:
    documentation = json.loads((WEIGHTS_FOLDER / "pretrain.json").read_text(encoding="utf-8"))
    assert min(documentation["accuracy"]["named"].values()) >= 0.9
    assert max(documentation["accuracy"]["tagged"].values()) < 0.05
    assert {"torch", "transformers", "numpy"} <= set(documentation["libraries"])
