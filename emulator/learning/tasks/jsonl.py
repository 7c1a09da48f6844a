"""Tasks from a folder of JSON lines: `<folder>/<task>/{train,test}.jsonl`.

A row is {"prompt", "choices", "answer"} (one of the choices is right) or {"prompt", "completion",
"answer"} (the answer is generated). A numeric answer is compared with the last number of the generated
text. Every other answer must equal the completion, and is compared with the whole generated text.
"""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from emulator.core.errors import MOST_ROWS, ScenarioError, WrongRows, did_you_mean, shown
from emulator.core.names import Name
from emulator.core.places import is_file, is_folder
from emulator.core.rng import stream
from emulator.core.types.data import Example
from emulator.core.yaml_file import parse_json
from emulator.learning.tasks.answer_numbers import ONE_NUMBER, last_number
from emulator.learning.tasks.paraphrase import Paraphrases, paraphrase_examples
from emulator.learning.tasks.partition import ByTask, Partition

MOST_FOLDERS = 20
"""Most names of task folders in a message."""

KINDS = {"choice": "rows with choices", "number": "rows with a number", "text": "rows with a text"}


class JsonLines(BaseModel):
    """Text tasks from local files."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    names_key: ClassVar[str] = "tasks.names"
    """The key under which the scenario names the tasks."""
    kind: Literal["jsonl"] = "jsonl"
    folder: Path = Field(description="folder of task folders, relative to the scenario file")
    names: tuple[Name, ...] = Field(min_length=1, description="task folders, in device order")
    train_samples: int | None = Field(
        default=None, gt=0, description="most training rows of a task"
    )
    test_samples: int | None = Field(default=None, gt=0, description="most test rows of a task")
    partition: Partition = Field(default=ByTask(), description="training examples of each device")
    paraphrases: Paraphrases = Field(
        default={}, description="by task: the test questions in words unseen in training"
    )

    def examples(self, task: str, split: str, seed: int) -> tuple[Example, ...]:
        """All rows of a split, or a keyed random subset in file order.

        `paraphrased` is the test split in other words, empty for a task without paraphrases. The task may
        be any task of the folder, also one that no device learns. Warns if a file has fewer rows than the
        limit. Raises ScenarioError with file and line for a missing file or a wrong row.
        """
        if split == "paraphrased":
            return paraphrase_examples(
                self.examples(task, "test", seed), self.paraphrases.get(task, ())
            )
        path = self.folder / task / f"{split}.jsonl"
        self._check_there(task, path)
        rows = _read_rows(task, path)
        if {row.kind for row in rows} == {"number", "text"}:  # among texts, a number is a text
            rows = [_convert_to_text(row) for row in rows]
        if len(kinds := {row.kind for row in rows}) > 1:
            got = " and ".join(KINDS[kind] for kind in sorted(kinds))
            raise ScenarioError([f"{path}: got {got}, wanted one kind in a task"])
        limit = self.train_samples if split == "train" else self.test_samples
        if limit is not None and limit < len(rows):
            order = stream(seed, f"subset/{task}/{split}").permutation(len(rows))[:limit]
            rows = [rows[i] for i in sorted(order.tolist())]
        if not rows:
            raise ScenarioError([f"{path}: got an empty file, wanted at least one row"])
        if limit is not None and limit > len(rows):
            warnings.warn(
                f"tasks.{split}_samples: got {limit}, {path} has {len(rows)} rows: all are used",
                stacklevel=1,
            )
        return tuple(rows)

    def _check_there(self, task: str, path: Path) -> None:
        """Raise ScenarioError if the folder, the task's folder, or the file in it is missing."""
        if not is_folder(self.folder):
            raise ScenarioError(
                [
                    f"tasks.folder: got {self.folder}, which is no folder, wanted a folder with a folder "
                    "for each task"
                ]
            )
        if not is_folder(path.parent):
            key = self.names_key if task in self.names else "evaluation.unseen_tasks"
            there = sorted(file.parent.name for file in self.folder.glob("*/train.jsonl"))
            more = f" and {len(there) - MOST_FOLDERS} more" if len(there) > MOST_FOLDERS else ""
            raise ScenarioError(
                [
                    f"{key}: got {task!r}, which has no folder in {self.folder}, wanted some of the tasks "
                    f"there ({', '.join(there[:MOST_FOLDERS]) or 'none'}{more}){did_you_mean(task, there)}"
                ]
            )
        if not is_file(path):
            raise ScenarioError(
                [f"tasks.folder: got no file {path}, wanted {path.name} of {task!r}"]
            )


def _read_rows(task: str, path: Path) -> list[Example]:
    """Read all rows of a file. Raises ScenarioError with all wrong rows."""
    rows: list[Example] = []
    first: list[tuple[str, ...]] = []
    wrong = 0
    for number, line in enumerate(_read_lines(path), start=1):
        if line.strip():
            try:
                rows.append(_parse_row(task, line, f"{path}:{number}"))
            except ScenarioError as error:
                wrong += 1
                if len(first) < MOST_ROWS:
                    first.append(error.problems)
    if wrong:
        raise ScenarioError([], [WrongRows(str(path), tuple(first), wrong)])
    return rows


def _read_lines(path: Path) -> list[str]:
    """The lines of a file, without a byte order mark. Raises ScenarioError if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ScenarioError(
            [f"{path}: cannot be read ({error.strerror}), wanted JSON lines"]
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ScenarioError(
            [f"{path}:{line}: got no UTF-8 ({error.reason}), wanted JSON lines"]
        ) from None
    return text.split("\n")  # splitlines() would also split at other Unicode line ends


def _convert_to_text(row: Example) -> Example:
    """Convert a row to a text row if its completion consists of the number."""
    text = row.completion.strip()
    alone = ONE_NUMBER.fullmatch(text) and last_number(text) == row.answer
    return replace(row, answer=text, kind="text") if alone else row


def _find_half_characters(value: Any) -> Iterator[str]:
    """Surrogates without a partner, which no tokenizer and no file accepts."""
    if isinstance(value, str):
        yield from (character for character in value if "\ud800" <= character <= "\udfff")
    elif isinstance(value, list):
        for inner in value:
            yield from _find_half_characters(inner)


def _parse_row(task: str, line: str, where: str) -> Example:
    """Parse and check one row. Raises ScenarioError."""
    try:
        row: Any = parse_json(line)
    except ValueError as error:
        raise ScenarioError([f"{where}: got no JSON ({error}), wanted one object a line"]) from None
    if not isinstance(row, dict):
        raise ScenarioError([f"{where}: got {shown(row)}, wanted an object with prompt and answer"])
    for name in ("prompt", "choices", "completion", "answer"):
        if half := next(_find_half_characters(row.get(name)), None):
            raise ScenarioError(
                [f"{where}: {name}: got {half!a}, half a character, wanted text in whole ones"]
            )
    if missing := [name for name in ("prompt", "answer") if name not in row]:
        raise ScenarioError([f"{where}: {name}: got nothing, wanted text" for name in missing])
    if not isinstance(row["prompt"], str) or not row["prompt"].strip():
        raise ScenarioError([f"{where}: prompt: got {row['prompt']!r}, wanted text"])
    value = row["answer"]
    if "choices" in row:
        answer = str(value)
        if not isinstance(row["choices"], list) or len(row["choices"]) < 2:
            raise ScenarioError(
                [f"{where}: choices: got {row['choices']!r}, wanted a list of two or more"]
            )
        choices = tuple(str(choice) for choice in row["choices"])
        if len(set(choices)) < len(choices):
            raise ScenarioError(
                [f"{where}: choices: got {shown(choices)}, wanted every choice once"]
            )
        if answer not in choices:
            raise ScenarioError(
                [f"{where}: answer: got {shown(answer)}, wanted one of {shown(choices)}"]
            )
        return Example(task, row["prompt"], answer, choices, kind="choice")
    completion = row.get("completion")
    has_tests = not row.keys().isdisjoint(("test", "test_list"))
    if has_tests or completion is None:
        got = "tests" if has_tests else "neither choices nor completion"
        raise ScenarioError(
            [f"{where}: got {got}, wanted choices, or the completion to learn from"]
        )
    if not isinstance(completion, str) or not completion.strip():
        raise ScenarioError([f"{where}: completion: got {shown(completion)}, wanted text"])
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ScenarioError([f"{where}: answer: got {shown(value)}, wanted text or a number"])
    answer = f"{Decimal(repr(value)):f}" if isinstance(value, float) else str(value)
    if ONE_NUMBER.fullmatch(answer.strip()):
        if (ends := last_number(completion)) != last_number(answer):
            raise ScenarioError(
                [
                    f"{where}: answer: got {shown(answer)}, wanted the completion's last number ({shown(ends)})"
                ]
            )
        return Example(task, row["prompt"], last_number(answer), (), completion, "number")
    if answer.strip() != completion.strip():
        raise ScenarioError(
            [f"{where}: answer: got {shown(answer)}, wanted a number, or all of the completion"]
        )
    return Example(task, row["prompt"], answer.strip(), (), completion, "text")
