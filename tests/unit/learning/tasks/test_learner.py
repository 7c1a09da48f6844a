"""Training and answers of the two backbone families."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from emulator.core.errors import ScenarioError
from emulator.core.rng import stream
from emulator.core.types.data import Example, Shard
from emulator.learning.adapters.lora import LoraModel
from emulator.learning.backbone.load import Backbone, Tiny
from emulator.learning.tasks import answer_numbers, batches, causal_learner
from emulator.learning.tasks.batches import epochs
from emulator.learning.tasks.causal_learner import IGNORED, CausalLearner
from emulator.learning.tasks.encoder_learner import COSINE_TEMPERATURE, EncoderLearner
from emulator.learning.tasks.learner import learner_for, score

SORT = Example("sort", "tag02 : d b c a ->", "a b c d", completion="a b c d")
SHORT = Example("sort", "tag02 : b a ->", "a b", completion="a b")
SUM = Example("sum", "tag05 : 1 2 ->", "3", completion="1 2 3", kind="number")
PICK = Example("pick", "tag01 : c a", "c c", ("a", "c c", "b"), kind="choice")


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return Tiny().load()


@pytest.fixture(scope="module")
def learner(tiny: Backbone) -> CausalLearner:
    return CausalLearner(tiny)


# ── epochs and scores ────────────────────────────────────────────────────────────────────────────


@given(count=st.integers(1, 30), batch_size=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_every_example_comes_once_an_epoch_in_batches_of_one_size(
    count: int, batch_size: int, seed: int
) -> None:
    whole_epochs = 4
    batches = list(islice(epochs(count, batch_size, stream(seed, "test")), 4 * count))
    assert {len(batch) for batch in batches} == {batch_size}
    flat = np.concatenate(batches)[: whole_epochs * count].reshape(-1, count)
    for epoch in flat:
        assert sorted(epoch.tolist()) == list(range(count))


def test_epochs_are_shuffled_anew_and_by_key() -> None:
    first = list(islice(epochs(20, 20, stream(1, "test")), 3))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[1], first[2])
    again = list(islice(epochs(20, 20, stream(1, "test")), 3))
    np.testing.assert_array_equal(np.stack(first), np.stack(again))


def test_score_is_the_share_of_right_answers_named_by_kind() -> None:
    assert score(["c c", "a", "c c", "b"], [PICK] * 4) == {"accuracy": 0.5}
    assert score(["a b c d", "a b c"], [SORT, SORT]) == {"exact_match": 0.5}
    assert score(["3"], [SUM]) == {"exact_match": 1.0}
    with pytest.raises(ValueError):
        score(["a"], [PICK, PICK])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", ""),
        ("none at all", ""),
        ("it is 42", "42"),
        ("10 and then 7.", "7"),
        ("costs $1,234,567.50 in all", "1234567.5"),
        ("72.00 or 7.0", "7"),
        ("from 5 to -3", "-3"),
        ("1, 2, 3, ", "3"),
        ("3.14 or 2.", "2"),
    ],
)
def test_the_last_number_of_a_text(text: str, number: str) -> None:
    assert answer_numbers.last_number(text) == number


# ── causal language models ───────────────────────────────────────────────────────────────────────


def test_labels_cover_exactly_the_completion_and_the_end_token(
    tiny: Backbone, learner: CausalLearner
) -> None:
    shard = Shard(0, "sort", (SORT, SHORT, PICK, SUM))
    (batch,) = islice(learner.batches(shard, 4, stream(1, "test")), 1)
    order = next(epochs(4, 4, stream(1, "test")))
    end, pad = tiny.tokenizer.eos_token_id, tiny.tokenizer.pad_token_id
    for row, index in enumerate(order):
        example = shard.train[index]
        reported = example.answer if example.kind == "choice" else example.completion
        prompt = tiny.tokenizer(learner.router_text(example))["input_ids"]
        completion = [*tiny.tokenizer(reported)["input_ids"], end]
        padding = batch.input_ids.shape[1] - len(prompt) - len(completion)
        assert batch.input_ids[row].tolist() == prompt + completion + [pad] * padding
        assert batch.attention_mask[row].tolist() == (
            [1] * (len(prompt) + len(completion)) + [0] * padding
        )
        assert batch.labels[row].tolist() == (
            [IGNORED] * len(prompt) + completion + [IGNORED] * padding
        )
    assert (batch.attention_mask.sum(1) == batch.input_ids.shape[1]).any()  # no wider than need be


@pytest.mark.parametrize("large", [False, True])
def test_the_loss_is_the_mean_over_completion_tokens(
    tiny: Backbone, learner: CausalLearner, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causal_learner, "_has_more_tokens_than_width", lambda _model: large)
    shard = Shard(0, "sort", (SORT, SHORT))
    batch = next(iter(learner.batches(shard, 2, stream(1, "test"))))
    losses = []
    for example in shard.train:  # one by one, so without padding
        prompt = tiny.tokenizer(example.prompt)["input_ids"]
        ids = [*prompt, *tiny.tokenizer(example.completion)["input_ids"], 1]
        with torch.no_grad():
            log_p = tiny.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        losses += [-float(log_p[i - 1, ids[i]]) for i in range(len(prompt), len(ids))]
    with torch.no_grad():
        loss = learner.loss(tiny.model, batch)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_prompt_of_a_choice_shows_the_choices_and_not_the_answer(
    learner: CausalLearner,
) -> None:
    assert learner.router_text(PICK) == "tag01 : c a\nChoices: a, c c, b\nAnswer:"
    asked = replace(PICK, prompt="Is it a, c c or b?\nAnswer: ")
    assert learner.router_text(asked) == asked.prompt
    assert learner.router_text(SORT) == SORT.prompt
    swapped = replace(PICK, answer="a")
    assert learner.router_text(swapped) == learner.router_text(PICK)


def test_a_choice_is_the_likeliest_one_by_a_slow_sum(
    tiny: Backbone, learner: CausalLearner
) -> None:
    """Token by token, one forward pass each; a mean over the tokens would choose otherwise."""
    examples = [
        replace(PICK, prompt=f"tag0{i} : {prompt} ->", choices=choices)
        for i, (prompt, choices) in enumerate(
            [
                ("a b", ("a", "c c", "b a c d")),
                ("c", ("b a c d", "c c", "a")),
                ("d c b a", ("d c", "a b c d", "b b")),
                ("b", ("c", "d d")),
            ]
        )
    ]
    sums, means, all_totals = [], [], []
    for example in examples:
        totals, lengths = [], []
        for choice in example.choices:
            ids = list(tiny.tokenizer(learner.router_text(example))["input_ids"])
            tokens = [*tiny.tokenizer(choice)["input_ids"], tiny.tokenizer.eos_token_id]
            total = 0.0
            for token in tokens:
                with torch.no_grad():
                    logits = tiny.model(torch.tensor([ids])).logits[0, -1]
                total += float(logits.log_softmax(-1)[token])
                ids.append(token)
            totals.append(total)
            lengths.append(len(tokens))
        assert np.diff(sorted(totals)).min() > 1e-3  # no near ties that rounding could reverse
        all_totals += totals
        sums.append(example.choices[int(np.argmax(totals))])
        means.append(example.choices[int(np.argmax(np.divide(totals, lengths)))])
    assert learner.predict(tiny.model, examples) == tuple(sums)
    assert sums != means
    together = learner._log_likelihoods(tiny.model, examples)
    np.testing.assert_allclose(together, all_totals, rtol=1e-4)
    (model := LoraModel(tiny.model, tiny.target_modules, 4, 4, ("lora_B",))).start_optimiser(0.1)
    np.testing.assert_allclose(
        learner._log_likelihoods(model.module, examples), all_totals, rtol=1e-4
    )


def test_what_is_learnt_is_generated_and_chosen(tiny: Backbone, learner: CausalLearner) -> None:
    """The round trip: tokens to learn from, loss, steps, and the model answers with the same words."""
    pick = replace(PICK, prompt="tag01 : c a ->", choices=("a", "c c", "b"))
    shard = Shard(0, "sort", (SORT, SHORT, SUM, pick))
    model = LoraModel(tiny.model, tiny.target_modules, 8, 8, ("lora_A", "lora_B"))
    draws = np.random.default_rng(1)
    model.set_tensors(
        {
            name: (0.1 * draws.standard_normal(tensor.shape)).astype(np.float32)
            for name, tensor in model.tensors().items()
            if name.endswith("lora_A")
        }
    )
    model.start_optimiser(0.02)
    for batch in islice(learner.batches(shard, 4, stream(1, "test")), 40):
        loss = learner.loss(model.module, batch)
        model.step([loss])
    assert loss.item() < 0.05
    assert learner.predict(model.module, [SORT, SHORT]) == ("a b c d", "a b")
    assert learner.predict(model.module, [SUM]) == ("3",)
    assert learner.predict(model.module, [pick]) == ("c c",)
    assert learner.answer(model.module, replace(SORT, answer="", completion=""), 8) == "a b c d"
    assert learner.answer(model.module, SORT, 2) == "a b"
    assert learner.answer(model.module, pick, 8) == "c c"


def test_answers_do_not_depend_on_the_batch(
    tiny: Backbone, learner: CausalLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [SORT, SHORT, replace(SORT, prompt="tag11 : k j i h g f ->")]
    together = learner.predict(tiny.model, examples)
    monkeypatch.setattr(batches, "ANSWER_TOKENS", 30)
    assert learner.predict(tiny.model, examples) == together


@pytest.mark.parametrize("max_tokens", [4, 6, 9])
def test_long_inputs_lose_the_head_of_the_prompt(tiny: Backbone, max_tokens: int) -> None:
    """The end of the prompt and the completion stay; at least one token of the prompt does."""
    learner = CausalLearner(replace(tiny, max_tokens=max_tokens))
    batch = next(iter(learner.batches(Shard(0, "sort", (SORT,)), 1, stream(1, "test"))))
    prompt = tiny.tokenizer(SORT.prompt)["input_ids"]
    completion = [*tiny.tokenizer(SORT.completion)["input_ids"], tiny.tokenizer.eos_token_id]
    learned = completion[: max_tokens - 1]
    wanted = [*prompt[-(max_tokens - len(learned)) :], *learned]
    assert len(wanted) <= max_tokens
    assert batch.input_ids[0].tolist() == wanted
    assert batch.labels[0][batch.labels[0] != IGNORED].tolist() == learned


def test_generation_cuts_a_long_prompt_as_training_does(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    generate = tiny.model.generate

    def watched(**arguments: Any) -> Tensor:
        seen.append(arguments["input_ids"])
        return generate(**arguments)

    monkeypatch.setattr(tiny.model, "generate", watched)
    CausalLearner(replace(tiny, max_tokens=6)).predict(tiny.model, [SORT])
    assert seen[0][0, -1] == tiny.tokenizer(SORT.prompt)["input_ids"][-1]


def test_the_unread_part_of_a_question_is_reported(tiny: Backbone) -> None:
    """Beside room for a generated answer, or for the longest choice and the end token."""
    tokens = len(tiny.tokenizer(SORT.prompt)["input_ids"])
    learner = CausalLearner(replace(tiny, max_tokens=tokens + 2))
    assert learner.unread(SORT, 2) == ""
    assert learner.unread(SORT, 5) == "the first 3 tokens"
    pick = replace(SORT, prompt=f"{SORT.prompt} Answer:", kind="choice", choices=("a", "a b c"))
    asked = len(tiny.tokenizer(pick.prompt)["input_ids"])
    assert learner.unread(pick, 0) == f"the first {asked - (tokens + 2 - 4)} tokens"


def test_an_encoder_reads_the_head_of_a_question() -> None:
    encoder = FakeEncoder()
    encoder.max_tokens = 2
    encoder.tokenizer = lambda text: {"input_ids": text.split()}
    assert EncoderLearner(encoder).unread(ROAD, 0) == "the last 1 tokens"
    assert EncoderLearner(encoder).unread(SIDE, 0) == ""


def test_a_learner_for_each_family(tiny: Backbone) -> None:
    assert isinstance(learner_for(tiny), CausalLearner)
    assert isinstance(learner_for(FakeEncoder()), EncoderLearner)


# ── sentence encoders ────────────────────────────────────────────────────────────────────────────

WORDS = {"": 0, "up": 1, "down": 2, "left": 3, "very": 4, "odd": 5}
VECTORS = torch.tensor(
    [[9.0, 9, 9], [0, 1, 0], [0, -1, 0.5], [1, 0, 0], [0.2, 0.2, 0.2], [-1, 0.3, 1]]
)


class FakeModel(nn.Module):
    """An encoder in which every word is a vector; that of padding is large and must have no effect."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Parameter(VECTORS.clone())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self.vectors[input_ids])


class FakeEncoder:
    """A sentence encoder of six words."""

    family = "sentence_encoder"

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        ids = [[WORDS[word] for word in text.split()] for text in texts]
        width = max(map(len, ids))
        padded = torch.tensor([row + [0] * (width - len(row)) for row in ids])
        return {"input_ids": padded, "attention_mask": (padded > 0).long()}


ROAD = Example("road", "very up up", "up", ("up", "down"), kind="choice")
SIDE = Example("side", "left", "very left", ("very left", "odd"), kind="choice")
"""The text is nearest to one of its own choices, but other examples' choices are in the batch too."""


def cosine(text: str, choice: str) -> float:
    first, second = (VECTORS[[WORDS[w] for w in t.split()]].mean(0) for t in (text, choice))
    return float(first @ second / first.norm() / second.norm())


def test_cosines_are_those_of_the_means_and_masked_to_the_own_choices() -> None:
    learner = EncoderLearner(FakeEncoder())
    batch = learner._collate([ROAD, SIDE, ROAD])
    road, side = [True, True, False, False], [False, False, True, True]
    assert batch.allowed.tolist() == [road, side, road]
    assert batch.target.tolist() == [0, 2, 0]
    got = learner._cosines(FakeModel(), batch).detach()
    for row, example in enumerate((ROAD, SIDE, ROAD)):
        for column, choice in enumerate(("up", "down", "very left", "odd")):
            wanted = cosine(example.prompt, choice) if choice in example.choices else -np.inf
            assert float(got[row, column]) == pytest.approx(wanted, abs=1e-6)


def test_the_answer_is_the_nearest_of_the_own_choices() -> None:
    learner = EncoderLearner(FakeEncoder())
    lost = replace(ROAD, prompt="left", choices=("down", "odd"), answer="odd")
    assert cosine("left", "very left") > max(cosine("left", c) for c in lost.choices)
    wanted = max(lost.choices, key=lambda choice: cosine("left", choice))
    assert learner.predict(FakeModel(), [ROAD, SIDE, lost]) == ("up", "very left", wanted)
    assert learner.answer(FakeModel(), lost, 1) == wanted


def test_predictions_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = EncoderLearner(FakeEncoder())
    examples = [ROAD, SIDE, replace(ROAD, prompt="odd down"), replace(SIDE, prompt="odd")]
    together = learner.predict(FakeModel(), examples)
    monkeypatch.setattr(batches, "ANSWER_TOKENS", 1)
    assert learner.predict(FakeModel(), examples) == together


def test_the_encoder_loss_is_the_cross_entropy_over_the_own_choices() -> None:
    learner = EncoderLearner(FakeEncoder())
    batch = next(iter(learner.batches(Shard(0, "road", (ROAD, SIDE)), 2, stream(1, "test"))))
    model = FakeModel()
    losses = []
    for example in (ROAD, SIDE):
        cosines = np.array([cosine(example.prompt, choice) for choice in example.choices])
        raised = np.exp(cosines / COSINE_TEMPERATURE)
        losses.append(-np.log(raised[example.choices.index(example.answer)] / raised.sum()))
    loss = learner.loss(model, batch)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-4)
    loss.backward()
    assert torch.isfinite(model.vectors.grad).all()
    assert not model.vectors.grad[0].any()  # nothing is learnt from padding


def test_the_router_sees_the_choices_and_not_the_answer() -> None:
    learner = EncoderLearner(FakeEncoder())
    assert learner.router_text(ROAD) == "very up up up, down"
    assert learner.router_text(replace(ROAD, answer="down")) == learner.router_text(ROAD)


def test_a_task_without_choices_is_refused_by_name() -> None:
    learner = EncoderLearner(FakeEncoder())
    wanted = "got task 'sum' of kind 'number' under a sentence encoder, wanted choice tasks only"
    with pytest.raises(ScenarioError, match=wanted):
        next(iter(learner.batches(Shard(0, "sum", (ROAD, SUM)), 1, stream(1, "test"))))
    with pytest.raises(ScenarioError, match=wanted):
        learner.predict(FakeModel(), [ROAD, SUM])
