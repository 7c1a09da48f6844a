"""How a backbone family learns from examples and answers them.

Shapes: S sequences, T tokens, V vocabulary, C choices of one example, U distinct choices of a batch,
H hidden width. No task has a head of its own, so one backbone serves all tasks.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emulator.errors import ScenarioError
from emulator.protocols import LoadedBackbone
from emulator.state import Example, IndexArray, Shard
from emulator.streams import Stream

IGNORED = -100
"""Label of a position that is not learned from."""

PREDICT_BATCH = 100
COSINE_TEMPERATURE = 0.05
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def learner_for(backbone: LoadedBackbone) -> "CausalLearner | EncoderLearner":
    """The learner of the backbone's family."""
    return CausalLearner(backbone) if backbone.family == "causal_lm" else EncoderLearner(backbone)


MOST_UNKNOWN = 0.2
"""With more unknown tokens than this, a task is not in the tokenizer's language."""

CHECKED_EXAMPLES = 100


def check_language(backbone: LoadedBackbone, task: str, examples: Sequence[Example]) -> None:
    """Raise ScenarioError when the tokenizer cannot tell a task's words or choices apart."""
    tokenizer = backbone.tokenizer
    sample = examples[:CHECKED_EXAMPLES]
    ids = [i for example in sample for i in tokenizer(example.prompt)["input_ids"]]
    unknown = sum(i == tokenizer.unk_token_id for i in ids) / max(1, len(ids))
    if tokenizer.unk_token_id is not None and unknown > MOST_UNKNOWN:
        raise ScenarioError(
            [
                f"tasks: got {100 * unknown:.0f} % unknown tokens in task {task!r}, wanted a backbone "
                f"whose tokenizer knows its words ({backbone.name} does not)"
            ]
        )
    for choices in dict.fromkeys(example.choices for example in sample):
        encoded = {tuple(tokenizer(f" {choice}")["input_ids"]) for choice in choices}
        if len(encoded) < len(choices):
            raise ScenarioError(
                [
                    f"tasks: got choices {list(choices)} in task {task!r}, which the tokenizer of "
                    f"{backbone.name} cannot tell apart, wanted different ones"
                ]
            )


def score(predictions: Sequence[str], references: Sequence[Example]) -> Mapping[str, float]:
    """Share of right answers: `accuracy` over choices, `exact_match` over generated answers."""
    right = sum(p == r.answer for p, r in zip(predictions, references, strict=True))
    metric = "accuracy" if references[0].kind == "choice" else "exact_match"
    return {metric: right / len(references)}


def epochs(count: int, batch_size: int, stream: Stream) -> Iterator[IndexArray]:
    """Endless batches of indices below `count`; every epoch is a fresh permutation.

    A batch may straddle two epochs, so that all batches have the same size.
    """
    pool = stream.permutation(count)
    while True:
        while len(pool) < batch_size:
            pool = np.concatenate([pool, stream.permutation(count)])
        yield pool[:batch_size]
        pool = pool[batch_size:]


@dataclass(frozen=True)
class CausalBatch:
    """input_ids, attention_mask, labels [S, T]; labels are IGNORED on prompts and padding."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


class CausalLearner:
    """A causal language model: completions are learned, choices compared by their likelihood."""

    def __init__(self, backbone: LoadedBackbone) -> None:
        self._tokenizer = backbone.tokenizer
        self._max_tokens = backbone.max_tokens

    def router_text(self, example: Example) -> str:
        """The prompt; for a choice whose prompt does not end in "Answer:", with its choices."""
        if example.kind != "choice" or example.prompt.rstrip().endswith("Answer:"):
            return example.prompt
        return f"{example.prompt}\nChoices: {', '.join(example.choices)}\nAnswer:"

    def batches(self, shard: Shard, batch_size: int, stream: Stream) -> Iterator[CausalBatch]:
        """Endless batches; the shard is tokenised once."""
        encoded = [self._encode(example) for example in shard.train]
        for chosen in epochs(len(encoded), batch_size, stream):
            yield self._collate([encoded[i] for i in chosen])

    def loss(self, model: nn.Module, batch: CausalBatch) -> Tensor:
        """Mean cross-entropy over the completion tokens, shape ()."""
        output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        logits_STV = output.logits[:, :-1]
        return F.cross_entropy(
            logits_STV.reshape(-1, logits_STV.shape[-1]).float(),
            batch.labels[:, 1:].reshape(-1),
            ignore_index=IGNORED,
        )

    def tokens(self, batch: CausalBatch) -> int:
        """Tokens of prompts and completions."""
        return int(batch.attention_mask.sum())

    def predict(self, model: nn.Module, examples: Sequence[Example]) -> tuple[str, ...]:
        """The most likely choice, or the greedily decoded answer, of each example."""
        answers: list[str] = []
        for start in range(0, len(examples), PREDICT_BATCH):
            part = examples[start : start + PREDICT_BATCH]
            if part[0].kind == "choice":
                answers += self._choose(model, part)
            else:
                answers += self._generate(model, part)
        return tuple(answers)

    def answer(self, model: nn.Module, question: Example, max_new_tokens: int) -> str:
        """The most likely of the choices; without any what is decoded, at most so many tokens."""
        if question.choices:
            return self._choose(model, [question])[0]
        prompt = self._tokenizer(question.prompt)["input_ids"]
        room = max(1, self._max_tokens - max_new_tokens)
        return self._decode(model, [prompt[-room:]], max_new_tokens)[0].strip()

    def unread(self, question: Example, max_new_tokens: int) -> str:
        """Which part of a question does not fit beside its answer; empty when all of it does."""
        prompt = self._tokenizer(self.router_text(question))["input_ids"]
        answers = [len(self._encode_pair(question, choice)[1]) for choice in question.choices]
        room = max(1, self._max_tokens - max(answers, default=max_new_tokens))
        return f"the first {len(prompt) - room} tokens" if len(prompt) > room else ""

    def _encode(self, example: Example) -> tuple[list[int], list[int]]:
        """Token ids of prompt and completion, the end token included; the prompt's head is cut."""
        text = example.answer if example.kind == "choice" else example.completion
        return self._encode_pair(example, text)

    def _encode_pair(self, example: Example, completion: str) -> tuple[list[int], list[int]]:
        prompt = self._tokenizer(self.router_text(example))["input_ids"]
        spaced = completion if completion[:1].isspace() else f" {completion}"
        ids = self._tokenizer(spaced, add_special_tokens=False)["input_ids"]
        ids = [*ids, self._tokenizer.eos_token_id][: self._max_tokens - 1]
        return prompt[-(self._max_tokens - len(ids)) :], ids

    def _collate(self, pairs: Sequence[tuple[list[int], list[int]]]) -> CausalBatch:
        """Pad on the right to the longest pair."""
        width = max(len(prompt) + len(completion) for prompt, completion in pairs)
        input_ids = torch.full((len(pairs), width), self._tokenizer.pad_token_id)
        labels = torch.full((len(pairs), width), IGNORED)
        attention = torch.zeros((len(pairs), width), dtype=torch.long)
        for row, (prompt, completion) in enumerate(pairs):
            length = len(prompt) + len(completion)
            input_ids[row, :length] = torch.tensor(prompt + completion)
            labels[row, len(prompt) : length] = torch.tensor(completion)
            attention[row, :length] = 1
        return CausalBatch(input_ids, attention, labels)

    def _choose(self, model: nn.Module, examples: Sequence[Example]) -> list[str]:
        """argmax over choices of sum log p(choice tokens | prompt)."""
        chosen = []
        for example in examples:
            batch = self._collate(
                [self._encode_pair(example, choice) for choice in example.choices]
            )
            with torch.inference_mode():
                output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
            log_p = F.log_softmax(output.logits[:, :-1].float(), dim=-1)
            labels = batch.labels[:, 1:]
            picked = log_p.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
            totals_C = (picked * (labels != IGNORED)).sum(-1)
            chosen.append(example.choices[int(totals_C.argmax())])
        return chosen

    def _generate(self, model: nn.Module, examples: Sequence[Example]) -> list[str]:
        """Greedy answers, as many tokens as the longest right one needs."""
        pairs = [self._encode(example) for example in examples]
        longest = max(len(completion) for _, completion in pairs)
        texts = self._decode(model, [prompt for prompt, _ in pairs], longest)
        return [
            last_number(text) if example.kind == "number" else text.strip()
            for text, example in zip(texts, examples, strict=True)
        ]

    def _decode(
        self, model: nn.Module, prompts: Sequence[list[int]], max_new_tokens: int
    ) -> list[str]:
        """Greedy continuations with the key-value cache, special tokens left out."""
        padded = self._tokenizer.pad(
            {"input_ids": list(prompts)}, return_tensors="pt", padding_side="left"
        )
        with torch.inference_mode():
            output = model.generate(  # type: ignore[operator]
                input_ids=padded["input_ids"],
                attention_mask=padded["attention_mask"],
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,
                pad_token_id=self._tokenizer.pad_token_id,
                eos_token_id=self._tokenizer.eos_token_id,
            )
        texts: list[str] = self._tokenizer.batch_decode(
            output[:, padded["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return texts


@dataclass(frozen=True)
class EncoderBatch:
    """Tokens of the texts [S, T] and of the distinct choices [U, T]; which belong together.

    allowed [S, U]: the example's own choices; target [S]: column of the right one.
    """

    texts: Mapping[str, Tensor]
    choices: Mapping[str, Tensor]
    allowed: Tensor
    target: Tensor


class EncoderLearner:
    """A sentence encoder: the choice whose embedding has the largest cosine with the text's."""

    def __init__(self, backbone: LoadedBackbone) -> None:
        self._backbone = backbone

    def router_text(self, example: Example) -> str:
        """The text and its choices."""
        return f"{example.prompt} {', '.join(example.choices)}"

    def batches(self, shard: Shard, batch_size: int, stream: Stream) -> Iterator[EncoderBatch]:
        """Endless batches of a shard of choice tasks."""
        for example in shard.train:
            self._check(example)
        for chosen in epochs(len(shard.train), batch_size, stream):
            yield self._collate([shard.train[i] for i in chosen])

    def loss(self, model: nn.Module, batch: EncoderBatch) -> Tensor:
        """Cross-entropy of softmax(cosine / COSINE_TEMPERATURE) over each example's choices."""
        return F.cross_entropy(self._cosines(model, batch) / COSINE_TEMPERATURE, batch.target)

    def tokens(self, batch: EncoderBatch) -> int:
        """Tokens of the texts and of the distinct choices."""
        return sum(int(part["attention_mask"].sum()) for part in (batch.texts, batch.choices))

    def predict(self, model: nn.Module, examples: Sequence[Example]) -> tuple[str, ...]:
        """The choice of largest cosine for each example."""
        answers: list[str] = []
        for start in range(0, len(examples), PREDICT_BATCH):
            part = examples[start : start + PREDICT_BATCH]
            for example in part:
                self._check(example)
            with torch.inference_mode():
                best = self._cosines(model, self._collate(part)).argmax(-1)
            names = _distinct_choices(part)
            answers += [names[int(column)] for column in best]
        return tuple(answers)

    def answer(self, model: nn.Module, question: Example, max_new_tokens: int) -> str:
        """The choice of largest cosine. Raises ScenarioError where there are no choices."""
        return self.predict(model, [question])[0]

    def unread(self, question: Example, max_new_tokens: int) -> str:
        """Which part of a question does not fit; empty when all of it does."""
        backbone = self._backbone
        excess = len(backbone.tokenizer(question.prompt)["input_ids"]) - backbone.max_tokens
        return f"the last {excess} tokens" if excess > 0 else ""

    def _check(self, example: Example) -> None:
        if example.kind != "choice":
            raise ScenarioError(
                [
                    f"tasks: got task {example.task!r} of kind {example.kind!r} under a sentence encoder, "
                    "wanted choice tasks only (a sentence encoder cannot generate)"
                ]
            )

    def _collate(self, examples: Sequence[Example]) -> EncoderBatch:
        names = _distinct_choices(examples)
        column = {name: index for index, name in enumerate(names)}
        allowed = torch.zeros((len(examples), len(names)), dtype=torch.bool)
        for row, example in enumerate(examples):
            allowed[row, [column[choice] for choice in example.choices]] = True
        return EncoderBatch(
            self._backbone.tokenize([example.prompt for example in examples]),
            self._backbone.tokenize(names),
            allowed,
            torch.tensor([column[example.answer] for example in examples]),
        )

    def _cosines(self, model: nn.Module, batch: EncoderBatch) -> Tensor:
        """[S, U] cosines, minus infinity where a choice is not the example's own."""
        cosines = _embed(model, batch.texts) @ _embed(model, batch.choices).T
        return cosines.masked_fill(~batch.allowed, float("-inf"))


def _distinct_choices(examples: Sequence[Example]) -> list[str]:
    """All choices of a batch, each once, in order of first appearance."""
    return list(dict.fromkeys(choice for example in examples for choice in example.choices))


def _embed(model: nn.Module, tokens: Mapping[str, Tensor]) -> Tensor:
    """Mean over tokens of the last hidden state, normalised: [S, H]."""
    hidden_STH = model(**tokens).last_hidden_state
    weight_ST1 = tokens["attention_mask"].unsqueeze(-1).to(hidden_STH.dtype)
    return F.normalize((hidden_STH * weight_ST1).sum(1) / weight_ST1.sum(1), dim=-1)


def last_number(text: str) -> str:
    """The last number of a text without thousands separators; empty when there is none."""
    found = NUMBER.findall(text)
    return found[-1].replace(",", "") if found else ""
