"""Tasks from the `datasets` hub (optional extra `hub`; it needs a network connection to the hub).

A folder of JSON lines can replace the hub: `emulator.learning.tasks.jsonl` documents its format.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from emulator.core.errors import OutOfReachError, ScenarioError
from emulator.core.names import Name
from emulator.core.rng import stream
from emulator.core.types.data import Example
from emulator.learning.tasks.answer_numbers import last_number
from emulator.learning.tasks.jsonl import JsonLines
from emulator.learning.tasks.paraphrase import Paraphrases, paraphrase_examples
from emulator.learning.tasks.partition import ByTask, Partition

INSTEAD = (
    "or the tasks as JSON lines in a folder: --set tasks.folder=FOLDER (configs/real_text.yaml also reads "
    "EMULATOR_TASKS=FOLDER)"
)
"""The alternative to the hub, for messages."""

INSTALL = ".venv/bin/pip install -e '.[hub]'"
"""The command that installs the extra, in the project's folder."""


class HubTask(BaseModel):
    """One dataset, and the conversion of its rows to examples.

    `prompt` and `completion` are format strings over the row's columns, e.g. "{question}\\nAnswer:".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Name = Field(description="task name")
    dataset: str = Field(description="dataset id on the hub")
    config: str | None = Field(default=None, description="configuration of the dataset")
    train_split: str = "train"
    test_split: str = "test"
    prompt: str = Field(description="format string over the columns")
    completion: str = Field(default="", description="format string, for generated answers")
    choices: tuple[str, ...] | dict[str, str] = Field(
        default=(),
        description="labels, which the answer column gives by index or name; or a label for each of "
        "its values",
    )
    answer_column: str = Field(
        description="column of the right answer (an index where choices are)"
    )

    @property
    def labels(self) -> tuple[str, ...]:
        """The choices of every question."""
        return tuple(self.choices.values()) if isinstance(self.choices, dict) else self.choices

    def label(self, answer: Any) -> str | None:
        """The choice for a value of the answer column; None if there is none."""
        if isinstance(self.choices, dict):
            return self.choices.get(str(answer))
        if isinstance(answer, int) and 0 <= answer < len(self.choices):
            return self.choices[answer]
        return answer if answer in self.choices else None


class InPlaceOfHub(JsonLines):
    """The tasks of a hub suite, read from a folder in place of the hub."""

    names_key: ClassVar[str] = "tasks.tasks"


class Hub(BaseModel):
    """Tasks from the hub, each with its own columns."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["hub"] = "hub"
    folder: Path | None = Field(
        default=None,
        description="folder of task folders (as under jsonl), read instead of the hub",
    )
    tasks: tuple[HubTask, ...] = Field(min_length=1)
    unseen: tuple[HubTask, ...] = Field(
        default=(), description="more data sets, for evaluation.unseen_tasks: no device learns them"
    )
    train_samples: int | None = Field(
        default=None, gt=0, description="most training rows of a task"
    )
    test_samples: int | None = Field(default=None, gt=0, description="most test rows of a task")
    partition: Partition = Field(default=ByTask(), description="training examples of each device")
    paraphrases: Paraphrases = Field(
        default={}, description="by task: the test questions in words unseen in training"
    )

    @property
    def names(self) -> tuple[str, ...]:
        """Task names in device order."""
        return tuple(task.name for task in self.tasks)

    def examples(self, task: str, split: str, seed: int) -> tuple[Example, ...]:
        """All rows of a split, or a keyed random subset; `paraphrased`: the test split in other words.

        Rows come from `folder` if it is set. Raises ScenarioError for an unknown task and for data that
        cannot be reached.
        """
        if split == "paraphrased":
            return paraphrase_examples(
                self.examples(task, "test", seed), self.paraphrases.get(task, ())
            )
        specs = {spec.name: spec for spec in (*self.tasks, *self.unseen)}
        if task not in specs:
            raise ScenarioError([f"task {task!r}: wanted one of {', '.join(specs)}"])
        if self.folder is not None:
            return self.in_folder(self.folder).examples(task, split, seed)
        spec = specs[task]
        try:
            from datasets import load_dataset
        except ImportError as error:
            raise ScenarioError(
                [
                    f"tasks.kind: got hub without its extra, wanted it installed ({INSTALL}), {INSTEAD}"
                ]
            ) from error
        try:
            table = load_dataset(
                spec.dataset,
                spec.config,
                split=spec.train_split if split == "train" else spec.test_split,
            )
        except (OSError, ValueError) as error:
            raise OutOfReachError(
                [
                    f"tasks.tasks.{task}.dataset: got {spec.dataset!r}, which is out of reach "
                    f"({' '.join(str(error).split())}), wanted a network with the hub, {INSTEAD}"
                ]
            ) from error
        limit = self.train_samples if split == "train" else self.test_samples
        chosen = list(range(len(table)))
        if limit is not None and limit < len(table):
            order = stream(seed, f"subset/{task}/{split}").permutation(len(table))[:limit]
            chosen = sorted(order.tolist())
        return tuple(_make_example(spec, table[i]) for i in chosen)

    def in_folder(self, folder: Path) -> JsonLines:
        """The same tasks, read from a folder."""
        return InPlaceOfHub(
            folder=folder,
            names=self.names,
            train_samples=self.train_samples,
            test_samples=self.test_samples,
        )


def _make_example(spec: HubTask, row: dict[str, Any]) -> Example:
    """Convert one row with the format strings. Raises ScenarioError, which names task and columns."""
    where = f"tasks.tasks.{spec.name}"
    try:
        prompt, answer = spec.prompt.format(**row), row[spec.answer_column]
        completion = spec.completion.format(**row)
    except (KeyError, IndexError) as error:
        raise ScenarioError(
            [f"{where}: got a column {error}, wanted one of {', '.join(row)}"]
        ) from None
    if spec.choices:
        label = spec.label(answer)
        if label is None:
            raise ScenarioError(
                [f"{where}.answer_column: got {answer!r}, wanted an index or one of {spec.choices}"]
            )
        return Example(spec.name, prompt, label, spec.labels, kind="choice")
    number = last_number(str(answer))
    if not number or not completion.strip():
        raise ScenarioError(
            [
                f"{where}: got answer {answer!r} and completion {completion!r}, wanted a number and text"
            ]
        )
    return Example(spec.name, prompt, number, (), completion, "number")
