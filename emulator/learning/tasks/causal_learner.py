"""Training examples and answers of a causal language model.

Shapes: S sequences, T tokens, V vocabulary, U choices of all examples of a batch.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emulator.core.protocols.backbone import LoadedBackbone
from emulator.core.rng import Stream
from emulator.core.types.data import Example, Shard
from emulator.learning.tasks.answer_numbers import last_number
from emulator.learning.tasks.batches import answer_in_batches, epochs

IGNORED = -100
"""Label of a position that is not in the loss."""

Encoded = tuple[list[int], list[int]]
"""Token ids of a prompt and of its completion."""


@dataclass(frozen=True)
class CausalBatch:
    """Token ids, attention mask and labels [S, T]; labels are IGNORED on prompts and padding."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


class CausalLearner:
    """A causal language model: it learns completions, and chooses among choices by their likelihood."""

    def __init__(self, backbone: LoadedBackbone) -> None:
        self._tokenizer = backbone.tokenizer
        self._max_tokens = backbone.max_tokens

    def router_text(self, example: Example) -> str:
        """The prompt. The choices are added, unless the prompt ends with "Answer:" and so contains them."""
        if example.kind != "choice" or example.prompt.rstrip().endswith("Answer:"):
            return example.prompt
        return f"{example.prompt}\nChoices: {', '.join(example.choices)}\nAnswer:"

    def batches(
        self, shard: Shard, batch_size: int, stream: Stream, skip: int = 0
    ) -> Iterator[CausalBatch]:
        """Endless batches; the shard is tokenised once."""
        encoded = self._encode(shard.train)
        for chosen in epochs(len(encoded), batch_size, stream, skip):
            yield self._collate([encoded[i] for i in chosen])

    def parts(self, batch: CausalBatch, size: int) -> Iterator[tuple[CausalBatch, float]]:
        """Parts of `size` sequences with their shares of the loss, which is a mean over tokens."""
        if size >= len(batch.input_ids):
            yield batch, 1.0
            return
        whole = int((batch.labels != IGNORED).sum())
        columns = (batch.input_ids, batch.attention_mask, batch.labels)
        for rows in zip(*(torch.split(column, size) for column in columns), strict=True):
            part = CausalBatch(*rows)
            yield part, int((part.labels != IGNORED).sum()) / whole

    def loss(self, model: nn.Module, batch: CausalBatch) -> Tensor:
        """Mean cross-entropy over the completion tokens, shape ()."""
        device = _device_of(model)
        next_ST = batch.labels[:, 1:]
        needed_A = torch.arange(next_ST.shape[1])
        some: dict[str, Tensor] = {}
        if _has_more_tokens_than_width(model):
            needed_A = (next_ST != IGNORED).any(dim=0).nonzero().flatten()
            some = {"logits_to_keep": needed_A.to(device)}
        logits_STV = model(
            input_ids=batch.input_ids.to(device),
            attention_mask=batch.attention_mask.to(device),
            use_cache=False,
            **some,
        ).logits
        logits_SAV = logits_STV if some else logits_STV[:, :-1]
        return F.cross_entropy(
            logits_SAV.flatten(0, 1).float(),
            next_ST[:, needed_A].flatten().to(device),
            ignore_index=IGNORED,
        )

    def tokens(self, batch: CausalBatch) -> int:
        """Number of tokens of prompts and completions."""
        return int(batch.attention_mask.sum())

    def predict(self, model: nn.Module, examples: Sequence[Example]) -> tuple[str, ...]:
        """The most likely choice, or the greedily decoded answer, of each example."""
        pairs = self._encode(examples)
        lengths = [len(prompt) + len(completion) for prompt, completion in pairs]
        if examples[0].kind == "choice":  # each choice has a copy of its prompt's cache
            copies = [len(e.choices) * n for e, n in zip(examples, lengths, strict=True)]
            return answer_in_batches(examples, copies, partial(self._choose, model))
        questions = list(zip(examples, (len(ids) for _, ids in pairs), strict=True))
        return answer_in_batches(questions, lengths, partial(self._generate, model))

    def answer(self, model: nn.Module, question: Example, max_new_tokens: int) -> str:
        """The most likely choice, or decoded text of at most `max_new_tokens` if there are no choices."""
        if question.choices:
            return self._choose(model, [question])[0]
        room = max(1, self._max_tokens - max_new_tokens)
        prompts = self._encode_prompts([question.prompt], [room])
        return self._decode(model, prompts, max_new_tokens)[0].strip()

    def unread(self, question: Example, max_new_tokens: int) -> str:
        """The part of a question that does not fit beside its answer; empty if there is none."""
        length = len(self._encode_uncut([self.router_text(question)])[0][0])
        answers = (
            [len(ids) for ids in self._encode_completions(question.choices)]
            if question.choices
            else []
        )
        room = max(1, self._max_tokens - max(answers, default=max_new_tokens))
        return f"the first {length - room} tokens" if length > room else ""

    def _encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """Token ids of prompts and completions with the end token; long prompts lose their beginning."""
        completions = self._encode_completions(
            [e.answer if e.kind == "choice" else e.completion for e in examples]
        )
        rooms = [self._max_tokens - len(ids) for ids in completions]
        prompts = self._encode_prompts([self.router_text(e) for e in examples], rooms)
        return list(zip(prompts, completions, strict=True))

    def _encode_prompts(self, texts: Sequence[str], rooms: Sequence[int]) -> list[list[int]]:
        """Token ids of prompts; a prompt with more tokens than its room loses its beginning.

        The start token, which the tokenizer puts before every text, stays.
        """
        cut = []
        for (ids, opening), room in zip(self._encode_uncut(texts), rooms, strict=True):
            kept = min(opening, room - 1) if len(ids) > room else 0
            cut.append(ids[:kept] + ids[kept:][-(room - kept) :])
        return cut

    def _encode_uncut(self, texts: Sequence[str]) -> list[tuple[list[int], int]]:
        """Token ids of each text, and the number of special tokens before it.

        Special tokens after a text are left out, because an answer follows.
        """
        encoded = self._tokenizer(list(texts), return_special_tokens_mask=True)
        prompts = []
        for ids, own in zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True):
            opening = next((i for i, special in enumerate(own) if not special), len(own))
            end = next((i for i in range(len(own), opening, -1) if not own[i - 1]), opening)
            prompts.append((ids[:end], opening))
        return prompts

    def _encode_completions(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of answers after a prompt, with the end token; they leave room for one more token."""
        behind = [put_behind_prompt(text) for text in texts]
        encoded = self._tokenizer(behind, add_special_tokens=False)["input_ids"]
        end = self._tokenizer.eos_token_id
        return [[*ids, end][: self._max_tokens - 1] for ids in encoded]

    def _collate(self, pairs: Sequence[Encoded]) -> CausalBatch:
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
        """argmax over choices of sum log p(choice tokens | prompt); the model reads every prompt once.

        A long prompt loses its beginning, so that the longest of its choices fits.
        """
        totals_U = iter(self._log_likelihoods(model, examples))
        chosen = []
        for example in examples:
            of_choices = [next(totals_U) for _ in example.choices]
            chosen.append(example.choices[of_choices.index(max(of_choices))])
        return chosen

    def _log_likelihoods(self, model: nn.Module, examples: Sequence[Example]) -> list[float]:
        """Log-likelihoods of all choices of all examples, in order [U]."""
        choices = [self._encode_completions(example.choices) for example in examples]
        rooms = [self._max_tokens - max(map(len, of_one)) for of_one in choices]
        prompts = self._encode_prompts([self.router_text(e) for e in examples], rooms)
        device = _device_of(model)
        prompt = self._pad(prompts, "left", device)
        owner_U = torch.tensor(
            [i for i, of_one in enumerate(choices) for _ in of_one], device=device
        )
        answer = self._pad(list(chain.from_iterable(choices)), "right", device)
        ids_UT, mask_UT = answer["input_ids"], answer["attention_mask"]
        lengths_S = prompt["attention_mask"].sum(1)
        with torch.inference_mode():
            read = model(
                **prompt,
                position_ids=_positions(prompt["attention_mask"]),
                use_cache=True,
                **_keep_last_logits(model),
            )
            read.past_key_values.batch_select_indices(owner_U)
            positions_UT = lengths_S[owner_U, None] + torch.arange(
                ids_UT.shape[1] - 1, device=device
            )
            mask_past_UT = torch.cat([prompt["attention_mask"][owner_U], mask_UT[:, :-1]], dim=1)
            followed = model(
                input_ids=ids_UT[:, :-1],
                attention_mask=mask_past_UT,
                position_ids=positions_UT.clamp(max=self._max_tokens - 1),  # padding exceeds it
                past_key_values=read.past_key_values,
            )
            logits_UTV = torch.cat([read.logits[owner_U, -1:], followed.logits], dim=1)
            log_p_UTV = F.log_softmax(logits_UTV.float(), dim=-1)
            picked_UT = log_p_UTV.gather(-1, ids_UT.unsqueeze(-1)).squeeze(-1)
            totals: list[float] = (picked_UT * mask_UT).sum(-1).tolist()
        return totals

    def _pad(self, ids: Sequence[list[int]], side: str, device: torch.device) -> dict[str, Tensor]:
        """input_ids and attention_mask [S, T], padded to the longest."""
        padded = self._tokenizer.pad(
            {"input_ids": list(ids)}, return_tensors="pt", padding_side=side
        )
        return {name: padded[name].to(device) for name in ("input_ids", "attention_mask")}

    def _generate(self, model: nn.Module, questions: Sequence[tuple[Example, int]]) -> list[str]:
        """Greedy answers with as many tokens as the longest right answer of these examples."""
        longest = max(length for _, length in questions)
        texts = [self.router_text(example) for example, _ in questions]
        prompts = self._encode_prompts(texts, [self._max_tokens - longest] * len(texts))
        answers = self._decode(model, prompts, longest)
        return [
            last_number(text) if example.kind == "number" else text.strip()
            for text, (example, _) in zip(answers, questions, strict=True)
        ]

    def _decode(
        self, model: nn.Module, prompts: Sequence[list[int]], max_new_tokens: int
    ) -> list[str]:
        """Greedy continuations with the key-value cache, without special tokens.

        Law: only the arguments set here affect the decoding, not the settings of the model's folder.
        """
        from transformers import GenerationConfig

        padded = self._pad(prompts, "left", _device_of(model))
        with torch.inference_mode():
            output = model.generate(  # type: ignore[operator]
                **padded,
                generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    num_beams=1,
                    pad_token_id=self._tokenizer.pad_token_id,
                    eos_token_id=self._tokenizer.eos_token_id,
                ),
            )
        texts: list[str] = self._tokenizer.batch_decode(
            output[:, padded["input_ids"].shape[1] :],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,  # answers are compared character by character
        )
        return texts


def put_behind_prompt(text: str) -> str:
    """Begin an answer with a space, as it follows a prompt."""
    return text if text[:1].isspace() else f" {text}"


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _positions(mask_ST: Tensor) -> Tensor:
    """The position of each token, without the padding on its left."""
    return (mask_ST.cumsum(1) - 1).clamp(min=0)


def _keep_last_logits(model: nn.Module) -> dict[str, Any]:
    """The argument for the logits of the last token alone, if the model has it; this saves memory."""
    return {"logits_to_keep": 1} if _gives_some_logits(model) else {}


def _has_more_tokens_than_width(model: nn.Module) -> bool:
    """Whether the vocabulary is so large that only the needed logits should be computed."""
    config = _unwrap(model).config.get_text_config()
    return bool(config.vocab_size > config.hidden_size) and _gives_some_logits(model)


def _gives_some_logits(model: nn.Module) -> bool:
    return "logits_to_keep" in inspect.signature(_unwrap(model).forward).parameters


def _unwrap(model: nn.Module) -> Any:
    """The model inside PEFT's; the signature of PEFT's forward does not show the arguments."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
