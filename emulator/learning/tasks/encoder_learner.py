"""Training examples and answers of a sentence encoder, for choice tasks.

Shapes: S sequences, T tokens, U distinct choices of a batch, H hidden width.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emulator.core.errors import ScenarioError
from emulator.core.protocols.backbone import LoadedBackbone
from emulator.core.rng import Stream
from emulator.core.types.data import Example, Shard
from emulator.learning.tasks.batches import answer_in_batches, epochs

COSINE_TEMPERATURE = 0.05


@dataclass(frozen=True)
class EncoderBatch:
    """Tokens of the texts [S, T] and of the distinct choices [U, T].

    allowed [S, U]: whether a choice belongs to an example. target [S]: column of the right choice.
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

    def batches(
        self, shard: Shard, batch_size: int, stream: Stream, skip: int = 0
    ) -> Iterator[EncoderBatch]:
        """Endless batches of a shard of choice tasks."""
        for example in shard.train:
            self._check_kind(example)
        for chosen in epochs(len(shard.train), batch_size, stream, skip):
            yield self._collate([shard.train[i] for i in chosen])

    def parts(self, batch: EncoderBatch, size: int) -> Iterator[tuple[EncoderBatch, float]]:
        """Parts of `size` texts, each with all choices of the batch."""
        whole = len(batch.target)
        if size >= whole:
            yield batch, 1.0
            return
        for rows_s in torch.split(torch.arange(whole, device=batch.target.device), size):
            texts = {name: column[rows_s] for name, column in batch.texts.items()}
            part = replace(
                batch, texts=texts, allowed=batch.allowed[rows_s], target=batch.target[rows_s]
            )
            yield part, len(rows_s) / whole

    def loss(self, model: nn.Module, batch: EncoderBatch) -> Tensor:
        """Cross-entropy of softmax(cosine / COSINE_TEMPERATURE) over each example's choices."""
        return F.cross_entropy(self._cosines(model, batch) / COSINE_TEMPERATURE, batch.target)

    def tokens(self, batch: EncoderBatch) -> int:
        """Number of tokens of the texts and of the distinct choices."""
        return sum(int(part["attention_mask"].sum()) for part in (batch.texts, batch.choices))

    def predict(self, model: nn.Module, examples: Sequence[Example]) -> tuple[str, ...]:
        """The choice with the largest cosine for each example."""
        for example in examples:
            self._check_kind(example)
        tokens = self._backbone.tokenize([example.prompt for example in examples])
        lengths = tokens["attention_mask"].sum(1).tolist()
        return answer_in_batches(examples, lengths, partial(self._choose_nearest, model))

    def _choose_nearest(self, model: nn.Module, examples: Sequence[Example]) -> list[str]:
        with torch.inference_mode():
            best_S = self._cosines(model, self._collate(examples)).argmax(-1)
        names = _list_choices(examples)
        return [names[int(column)] for column in best_S]

    def answer(self, model: nn.Module, question: Example, max_new_tokens: int) -> str:
        """The choice with the largest cosine. Raises ScenarioError if there are no choices."""
        return self.predict(model, [question])[0]

    def unread(self, question: Example, max_new_tokens: int) -> str:
        """The part of a question that does not fit; empty if there is none."""
        backbone = self._backbone
        excess = len(backbone.tokenizer(question.prompt)["input_ids"]) - backbone.max_tokens
        return f"the last {excess} tokens" if excess > 0 else ""

    def _check_kind(self, example: Example) -> None:
        if example.kind != "choice":
            raise ScenarioError(
                [
                    f"tasks: got task {example.task!r} of kind {example.kind!r} under a sentence encoder, "
                    "wanted choice tasks only (a sentence encoder cannot generate)"
                ]
            )

    def _collate(self, examples: Sequence[Example]) -> EncoderBatch:
        names = _list_choices(examples)
        column = {name: index for index, name in enumerate(names)}
        allowed = torch.zeros((len(examples), len(names)), dtype=torch.bool)
        for row, example in enumerate(examples):
            allowed[row, [column[choice] for choice in example.choices]] = True
        texts = self._backbone.tokenize([example.prompt for example in examples])
        target = torch.tensor([column[example.answer] for example in examples])
        device = texts["input_ids"].device
        choices = self._backbone.tokenize(names)
        return EncoderBatch(texts, choices, allowed.to(device), target.to(device))

    def _cosines(self, model: nn.Module, batch: EncoderBatch) -> Tensor:
        """Cosines [S, U]; minus infinity if a choice does not belong to the example."""
        cosines = _embed(model, batch.texts) @ _embed(model, batch.choices).T
        return cosines.masked_fill(~batch.allowed, float("-inf"))


def _list_choices(examples: Sequence[Example]) -> list[str]:
    """All choices of a batch, each once, in order of first appearance."""
    return list(dict.fromkeys(choice for example in examples for choice in example.choices))


def _embed(model: nn.Module, tokens: Mapping[str, Tensor]) -> Tensor:
    """Mean over tokens of the last hidden state, normalised: [S, H]."""
    hidden_STH = model(**tokens).last_hidden_state
    weight_ST1 = tokens["attention_mask"].unsqueeze(-1).to(hidden_STH.dtype)
    return F.normalize((hidden_STH * weight_ST1).sum(1) / weight_ST1.sum(1), dim=-1)
