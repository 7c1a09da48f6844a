"""Synthetic tasks: one list operation each, under a tag whose meaning the backbone does not know.

Tasks of one format (letters or digits) have the same lists and different answers, so an average of their
adapters is worse than each of them. LoRA learns a single task in about 150 steps.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from emulator.core.errors import ScenarioError, did_you_mean
from emulator.core.rng import Stream, stream
from emulator.core.types.data import Example
from emulator.learning.list_operations import (
    MAX_ITEMS,
    MIN_ITEMS,
    OPERATIONS,
    TASK_NAMES,
    Operation,
    prompt_text,
    tag_of,
)
from emulator.learning.tasks.paraphrase import Paraphrase, paraphrase_examples
from emulator.learning.tasks.partition import ByTask, Partition

SPLITS = ("train", "test", "paraphrased")
LISTS_PER_DRAW = 64
"""Lists of each length per draw; another number gives other data."""


class Synthetic(BaseModel):
    """List operations under tags without a meaning: the suite of the embedded backbone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["synthetic"] = "synthetic"
    names: tuple[str, ...] = Field(
        default=("reverse", "sort", "rotate", "successor"),
        min_length=1,
        description="one task each, in the order in which they are assigned to devices",
    )
    train_samples: int = Field(
        default=2000, gt=0, le=10_000, description="training examples of each task"
    )
    test_samples: int = Field(
        default=200, gt=0, le=2_000, description="test examples of each task, never trained on"
    )
    partition: Partition = Field(default=ByTask(), description="training examples of each device")

    @field_validator("names")
    @classmethod
    def _check_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in TASK_NAMES:
                raise ValueError(_describe_unknown(name))
        if len(set(names)) != len(names):
            raise ValueError(f"got {list(names)}, wanted each once (devices repeat tasks)")
        return names

    def examples(self, task: str, split: str, seed: int) -> tuple[Example, ...]:
        """All examples of one task; split is `train`, `test` or `paraphrased`.

        `paraphrased` is the test split with the operation's own name, which the backbone knows, in
        place of the tag. The task may be any operation, also one that no device learns.
        Laws: the same arguments give the same examples; no prompt occurs twice, neither in one split nor
        in both; the list lengths alternate; of two suites that differ only in `train_samples`, the smaller
        has the first examples of the larger. Raises ScenarioError for an unknown task or split.
        """
        if task not in TASK_NAMES:
            raise ScenarioError([f"task {task!r}: {_describe_unknown(task)}"])
        if split not in SPLITS:
            raise ScenarioError([f"split {split!r}: wanted one of {', '.join(SPLITS)}"])
        if split == "paraphrased":
            by_name = Paraphrase(replace={tag_of(task): task})
            return paraphrase_examples(self.examples(task, "test", seed), (by_name,))
        draws = stream(seed, "examples", tuple(OPERATIONS).index(task))
        fresh = _draw_examples(OPERATIONS[task], draws)
        test = tuple(islice(fresh, self.test_samples))
        return test if split == "test" else tuple(islice(fresh, self.train_samples))


def _draw_examples(operation: Operation, draws: Stream) -> Iterator[Example]:
    """Endless examples of one operation without repeated prompts; the lengths alternate."""
    tag = tag_of(operation.name)
    seen: set[str] = set()
    lengths = range(MIN_ITEMS, MAX_ITEMS + 1)
    while True:
        drawn = [operation.format.draw(LISTS_PER_DRAW, length, draws) for length in lengths]
        answered = [operation.apply(lists_Sn) for lists_Sn in drawn]
        for row in range(LISTS_PER_DRAW):
            for lists_Sn, answers_Sn in zip(drawn, answered, strict=True):
                prompt = prompt_text(tag, operation.format.write(lists_Sn[row]))
                if prompt in seen:
                    continue
                seen.add(prompt)
                answer = operation.format.write(answers_Sn[row])
                yield Example(operation.name, prompt, answer, completion=answer)


def _describe_unknown(name: str) -> str:
    """The message for an unknown operation."""
    wanted = did_you_mean(name, TASK_NAMES) or f", wanted some of {', '.join(TASK_NAMES)}"
    return f"got {name!r}{wanted}"
