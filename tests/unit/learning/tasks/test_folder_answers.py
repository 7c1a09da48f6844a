"""Effects of a folder's generation settings, special tokens and lengths on training and answers."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emulator.core.errors import ScenarioError
from emulator.core.types.data import Example, Shard
from emulator.learning.backbone.load import Backbone, CausalLM, SentenceEncoder
from emulator.learning.tasks.causal_learner import IGNORED, CausalLearner
from emulator.learning.tasks.learner import check_language

sys.path.append(str(Path(__file__).parents[4] / "support"))

from tiny_models import DECODERS, bert, byte_tokenizer, llama, model_folder, with_json

MAX_TOKENS = 24


def loaded(folder: Path, max_tokens: int = MAX_TOKENS, *modules: str) -> Backbone:
    return CausalLM(
        name=str(folder), max_tokens=max_tokens, target_modules=modules or ("q_proj",)
    ).load()


def choice(prompt: str, *choices: str) -> Example:
    return Example("t", prompt, choices[0], choices, kind="choice")


def text(prompt: str, answer: str) -> Example:
    return Example("t", prompt, answer, (), answer, "text")


# ── greedy under every configuration ────────────────────────────────────────────────────────────

SETTINGS = {
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 9,
    "suppress_tokens": list(range(64, 128)),
    "begin_suppress_tokens": [64],
    "forced_bos_token_id": 70,
    "forced_eos_token_id": 66,
    "bad_words_ids": [[65], [66]],
    "repetition_penalty": 9.0,
    "do_sample": True,
    "num_beams": 3,
    "temperature": 5.0,
    "eos_token_id": list(range(64)),
    "max_length": 3,
    "exponential_decay_length_penalty": [1, 5.0],
}


def greedy(backbone: Backbone, prompt: str, steps: int) -> str:
    """One token after the other, each the most likely, without a cache."""
    ids = backbone.tokenizer(prompt)["input_ids"]
    decoded: list[int] = []
    while len(decoded) < steps and decoded[-1:] != [backbone.tokenizer.eos_token_id]:
        with torch.no_grad():
            decoded.append(
                int(backbone.model(torch.tensor([ids + decoded])).logits[0, -1].argmax())
            )
    return str(backbone.tokenizer.decode(decoded, skip_special_tokens=True)).strip()


def test_decoding_is_greedy_with_every_generation_config(tmp_path: Path) -> None:
    plain = loaded(llama(tmp_path / "plain"))
    folder = with_json(llama(tmp_path / "other"), "generation_config.json", **SETTINGS)
    with_json(folder, "tokenizer_config.json", clean_up_tokenization_spaces=True)
    other = loaded(folder)
    for prompt in ("ab", "the cat", "7 + 5 ="):
        wanted = greedy(plain, prompt, 8)
        for backbone in (plain, other):
            got = CausalLearner(backbone).answer(backbone.model, Example("t", prompt, ""), 8)
            assert got == wanted


# ── tokens around a prompt ──────────────────────────────────────────────────────────────────────


def test_no_end_token_is_between_a_prompt_and_its_answer(tmp_path: Path) -> None:
    around = byte_tokenizer(template="<s> $A </s>", bos_token="<s>")
    backbone = loaded(llama(tmp_path / "model", around))
    start, end = backbone.tokenizer.bos_token_id, backbone.tokenizer.eos_token_id
    learner = CausalLearner(backbone)
    shard = Shard(0, "t", (text("ab</s>", "cd"),))
    batch = next(learner.batches(shard, 1, np.random.default_rng(1)))
    ids = batch.input_ids[0].tolist()
    letter = {c: backbone.tokenizer(c, add_special_tokens=False)["input_ids"][0] for c in "abcd "}
    wanted = [letter[c] for c in "ab"]
    assert ids == [start, *wanted, end, letter[" "], letter["c"], letter["d"], end]  # one it wrote
    assert batch.labels[0].tolist() == [IGNORED] * 4 + ids[4:]
    long = next(
        learner.batches(Shard(0, "t", (text("a" * 90 + "b", "cd"),)), 1, np.random.default_rng(1))
    )
    ids = long.input_ids[0].tolist()
    assert (len(ids), ids[0], ids[1], ids[-5]) == (MAX_TOKENS, start, letter["a"], letter["b"])


def test_a_question_ends_where_its_text_ends(tmp_path: Path) -> None:
    """With the end token in the tokenizer's template all answers are the same as without it."""
    start = {"bos_token": "<s>"}
    plain = loaded(llama(tmp_path / "a", byte_tokenizer(template="<s> $A", **start)))
    ending = loaded(llama(tmp_path / "b", byte_tokenizer(template="<s> $A </s>", **start)))
    asked = [choice("is it so ?", "yes", "no", "may be"), choice("x" * 60, "one", "three")]
    reported = [
        CausalLearner(backbone)._log_likelihoods(backbone.model, asked)
        for backbone in (plain, ending)
    ]
    assert reported[0] == reported[1]
    for question in (text("say it", "cat"), text("y" * 60, "a dog")):
        answers = {
            CausalLearner(backbone).predict(backbone.model, [question])
            for backbone in (plain, ending)
        }
        assert len(answers) == 1
    learner = CausalLearner(ending)
    assert learner.unread(text("y" * 40, "x"), 4) == "the first 21 tokens"  # of 41 with the start


# ── choices of every decoder ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", DECODERS)
def test_choices_are_as_likely_as_without_a_cache(name: str, tmp_path: Path) -> None:
    """Also where attention sees the last few tokens only, and where prompts differ in length."""
    model, fields, modules = DECODERS[name]
    backbone = loaded(model_folder(tmp_path, model, fields), 40, *modules)
    asked = [choice("the sun is", "up", "down and out"), choice("b" * 25, "c", "d")]
    learner = CausalLearner(backbone)
    got = learner._log_likelihoods(backbone.model, asked)
    wanted = []
    for question in asked:
        prompt = backbone.tokenizer(learner.router_text(question))["input_ids"]
        completions = learner._encode_completions(question.choices)
        for ids in completions:
            room = 40 - max(map(len, completions))
            whole = torch.tensor([prompt[-room:] + ids])
            with torch.no_grad():
                log_p = backbone.model(whole).logits[0].log_softmax(-1)[-len(ids) - 1 : -1]
            wanted.append(float(log_p.gather(-1, whole[0, -len(ids) :, None]).sum()))
    assert got == pytest.approx(wanted, rel=1e-4, abs=1e-3)


# ── lengths ──────────────────────────────────────────────────────────────────────────────────────


def test_a_long_question_beside_a_long_answer_stays_within_the_positions(tmp_path: Path) -> None:
    model, fields, modules = DECODERS["opt"]
    backbone = loaded(model_folder(tmp_path, model, fields), 48, *modules)
    asked = [text("a" * 90, "b"), text("a", "b" * 20)]
    assert len(CausalLearner(backbone).predict(backbone.model, asked)) == 2


def test_choices_must_differ_where_they_are_cut(tmp_path: Path) -> None:
    short = replace(loaded(llama(tmp_path / "model")), max_tokens=5)
    check_language(short, "t", [choice("q", "abc", "axc")])
    with pytest.raises(ScenarioError, match=r"cannot tell apart within backbone.max_tokens \(5\)"):
        check_language(short, "t", [choice("q", "abcde", "abcxy")])
    encoder = SentenceEncoder(
        name=str(bert(tmp_path / "bert")), target_modules=("query",), max_tokens=4
    ).load()
    check_language(encoder, "t", [choice("q", "abc", "abd")])  # and the space before them
    with pytest.raises(ScenarioError, match="cannot tell apart"):
        check_language(encoder, "t", [choice("q", "abcd", "abce")])


def test_cut_answers_are_reported_and_refused_if_all_are_cut(tmp_path: Path) -> None:
    short = replace(loaded(llama(tmp_path / "model")), max_tokens=8)
    whole, cut = text("q", "abcde"), text("q", "abcdef")
    check_language(short, "t", [whole])
    with pytest.warns(
        UserWarning, match=r"got 8, which cuts 1 of 2 checked answers of task 't'.* 9 or"
    ):
        check_language(short, "t", [whole, cut])
    with pytest.raises(ScenarioError, match=r"backbone.max_tokens: got 8, which cuts 2 of 2"):
        check_language(short, "t", [cut, cut])


@pytest.mark.parametrize("kind", [CausalLM, SentenceEncoder])
@pytest.mark.parametrize("max_tokens", [1, 2])
def test_three_tokens_are_the_least(
    kind: type[CausalLM] | type[SentenceEncoder], max_tokens: int
) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 3"):
        kind(name="x", max_tokens=max_tokens)
