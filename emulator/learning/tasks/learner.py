"""The learner of a backbone's family, checks of tasks against its tokenizer, and the score of answers.

No task has an output layer of its own, so one backbone serves all tasks.
"""

import warnings
from collections.abc import Mapping, Sequence

from emulator.core.errors import ScenarioError
from emulator.core.protocols.backbone import LoadedBackbone
from emulator.core.types.data import Example
from emulator.learning.tasks.causal_learner import CausalLearner, put_behind_prompt
from emulator.learning.tasks.encoder_learner import EncoderLearner

MOST_UNKNOWN = 0.2
"""Largest share of unknown tokens at which the tokenizer is suitable for a task."""

CHECKED_EXAMPLES = 100


def learner_for(backbone: LoadedBackbone) -> CausalLearner | EncoderLearner:
    """The learner of the backbone's family."""
    return CausalLearner(backbone) if backbone.family == "causal_lm" else EncoderLearner(backbone)


def check_language(backbone: LoadedBackbone, task: str, examples: Sequence[Example]) -> None:
    """Check that the tokenizer knows a task's words and distinguishes its choices.

    Raises ScenarioError otherwise, and if `max_tokens` cuts every generated answer. Warns if it cuts
    some of them.
    """
    sample = examples[:CHECKED_EXAMPLES]
    unknown = unknown_share(backbone, [example.prompt for example in sample])
    if unknown > MOST_UNKNOWN:
        raise ScenarioError(
            [
                f"tasks: got {100 * unknown:.0f} % unknown tokens in task {task!r}, wanted a backbone "
                f"whose tokenizer knows its words ({backbone.name} does not)"
            ]
        )
    for choices in dict.fromkeys(example.choices for example in sample):
        if not can_distinguish(backbone, choices):
            raise ScenarioError(
                [
                    f"tasks: got choices {list(choices)} in task {task!r}, which the tokenizer of "
                    f"{backbone.name} cannot tell apart within backbone.max_tokens "
                    f"({backbone.max_tokens}), wanted different ones"
                ]
            )
    generated = [example.completion for example in sample if example.kind != "choice"]
    if backbone.family == "causal_lm" and generated:
        _check_room(backbone, task, generated)


def _check_room(backbone: LoadedBackbone, task: str, completions: Sequence[str]) -> None:
    """Raise ScenarioError if no answer fits after one token of its prompt; warn if some do not fit."""
    behind = [put_behind_prompt(text) for text in completions]
    encoded = backbone.tokenizer(behind, add_special_tokens=False)["input_ids"]
    room = backbone.max_tokens - 2  # one token of the prompt, and the end token
    lengths = [len(ids) for ids in encoded]
    longer = sum(length > room for length in lengths)
    if not longer:
        return
    problem = (
        f"backbone.max_tokens: got {backbone.max_tokens}, which cuts {longer} of {len(lengths)} checked "
        f"answers of task {task!r}, wanted {max(lengths) + 2} or more for them"
    )
    if longer == len(lengths):
        raise ScenarioError([problem])
    warnings.warn(problem, stacklevel=1)


def unknown_share(backbone: LoadedBackbone, prompts: Sequence[str]) -> float:
    """Share of tokens that the tokenizer does not know; 0 for a tokenizer without an unknown token."""
    tokenizer = backbone.tokenizer
    if tokenizer.unk_token_id is None:
        return 0.0
    ids: list[int] = [i for prompt in prompts for i in tokenizer(prompt)["input_ids"]]
    return ids.count(tokenizer.unk_token_id) / max(1, len(ids))


def can_distinguish(backbone: LoadedBackbone, choices: Sequence[str]) -> bool:
    """Whether all choices have different tokens within `max_tokens`."""
    causal = backbone.family == "causal_lm"
    room = backbone.max_tokens - 1 if causal else backbone.max_tokens
    distinct = {
        tuple(
            backbone.tokenizer(
                f" {choice}", add_special_tokens=not causal, truncation=True, max_length=room
            )["input_ids"]
        )
        for choice in choices
    }
    return len(distinct) == len(choices)


def score(predictions: Sequence[str], references: Sequence[Example]) -> Mapping[str, float]:
    """Share of right answers: `accuracy` over choices, `exact_match` over generated answers."""
    right = sum(p == r.answer for p, r in zip(predictions, references, strict=True))
    metric = "accuracy" if references[0].kind == "choice" else "exact_match"
    return {metric: right / len(references)}
