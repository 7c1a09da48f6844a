"""Who teaches a backbone: the learner of its family; how answers are scored.

No task has a head of its own, so one backbone serves all tasks.
"""

from collections.abc import Mapping, Sequence

from emulator.errors import ScenarioError
from emulator.protocols import LoadedBackbone
from emulator.state import Example
from emulator.tasks.causal import CausalLearner
from emulator.tasks.encoder import EncoderLearner

MOST_UNKNOWN = 0.2
"""With more unknown tokens than this, a task is not in the tokenizer's language."""

CHECKED_EXAMPLES = 100


def learner_for(backbone: LoadedBackbone) -> CausalLearner | EncoderLearner:
    """The learner of the backbone's family."""
    return CausalLearner(backbone) if backbone.family == "causal_lm" else EncoderLearner(backbone)


def check_language(backbone: LoadedBackbone, task: str, examples: Sequence[Example]) -> None:
    """Raise ScenarioError when the tokenizer cannot tell a task's words or choices apart."""
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
        if not tells_apart(backbone, choices):
            raise ScenarioError(
                [
                    f"tasks: got choices {list(choices)} in task {task!r}, which the tokenizer of "
                    f"{backbone.name} cannot tell apart, wanted different ones"
                ]
            )


def unknown_share(backbone: LoadedBackbone, prompts: Sequence[str]) -> float:
    """Share of tokens that are no words of the tokenizer; 0 for one that can write any text."""
    tokenizer = backbone.tokenizer
    if tokenizer.unk_token_id is None:
        return 0.0
    ids: list[int] = [i for prompt in prompts for i in tokenizer(prompt)["input_ids"]]
    return ids.count(tokenizer.unk_token_id) / max(1, len(ids))


def tells_apart(backbone: LoadedBackbone, choices: Sequence[str]) -> bool:
    """Whether every choice is different tokens."""
    encoded = {tuple(backbone.tokenizer(f" {choice}")["input_ids"]) for choice in choices}
    return len(encoded) == len(choices)


def score(predictions: Sequence[str], references: Sequence[Example]) -> Mapping[str, float]:
    """Share of right answers: `accuracy` over choices, `exact_match` over generated answers."""
    right = sum(p == r.answer for p, r in zip(predictions, references, strict=True))
    metric = "accuracy" if references[0].kind == "choice" else "exact_match"
    return {metric: right / len(references)}
