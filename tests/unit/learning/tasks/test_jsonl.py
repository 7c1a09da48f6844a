"""Tasks from files: the examples read, and the messages for wrong files."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from emulator.core.errors import OutOfReachError, ScenarioError
from emulator.core.types.data import Example
from emulator.learning.tasks.jsonl import JsonLines
from emulator.learning.tasks.partition import ByTask
from emulator.learning.tasks.reading import read_all

CHOICE = {"prompt": "a fine day", "choices": ["good", "bad"], "answer": "good"}
NUMBER = {"prompt": "1 + 1 =", "completion": "it is 2", "answer": 2}


def suite(folder: Path, *rows: Any, split: str = "train", **limits: int) -> JsonLines:
    """A folder with one file of rows; a row that is a string is written as it is."""
    file = folder / "t" / f"{split}.jsonl"
    file.parent.mkdir(exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return JsonLines(folder=folder, names=("t",), **limits)


def problem(tasks: JsonLines, split: str = "train") -> str:
    with pytest.raises(ScenarioError) as caught:
        tasks.examples("t", split, 1)
    (line,) = caught.value.problems
    return line


def test_rows_become_examples_in_file_order(tmp_path: Path) -> None:
    other = CHOICE | {"prompt": "Regen in Köln", "answer": "bad"}
    tasks = suite(tmp_path, CHOICE, "", other)
    assert tasks.examples("t", "train", 1) == (
        Example("t", "a fine day", "good", ("good", "bad"), kind="choice"),
        Example("t", "Regen in Köln", "bad", ("good", "bad"), kind="choice"),
    )
    (example,) = suite(tmp_path, NUMBER, split="test").examples("t", "test", 1)
    assert example == Example("t", "1 + 1 =", "2", (), "it is 2", "number")


@pytest.mark.parametrize("answer", [1050, "1,050", 1050.0, "1050.00"])
def test_numbers_are_compared_however_they_are_written(tmp_path: Path, answer: Any) -> None:
    row = NUMBER | {"completion": "so it is 1,050.", "answer": answer}
    (example,) = suite(tmp_path, row).examples("t", "train", 1)
    assert (example.answer, example.kind) == ("1050", "number")


def test_a_small_float_is_a_number(tmp_path: Path) -> None:
    row = NUMBER | {"completion": "it is 0.0000001", "answer": 1e-7}
    (example,) = suite(tmp_path, row).examples("t", "train", 1)
    assert (example.answer, example.kind) == ("0.0000001", "number")


def test_an_answer_that_is_all_of_the_completion_is_compared_whole(tmp_path: Path) -> None:
    words = {"prompt": "b b a ->", "completion": " a b b", "answer": "a b b"}
    number = {"prompt": "1 ->", "completion": " 1.0", "answer": "1.0"}
    numbers = {"prompt": "3 ->", "completion": "1,2,3", "answer": "1,2,3"}
    first, second, third = suite(tmp_path, words, number, numbers).examples("t", "train", 1)
    assert (third.answer, third.kind) == ("1,2,3", "text")
    assert (first.answer, first.completion, first.kind) == ("a b b", " a b b", "text")
    assert (second.answer, second.kind) == ("1.0", "text")


def test_choices_are_compared_as_json_writes_them(tmp_path: Path) -> None:
    truth = {"prompt": "is it so", "choices": [True, False], "answer": True}
    small = {"prompt": "how much", "choices": [1e-7, 2.0], "answer": 1e-7}
    first, second = suite(tmp_path, truth, small).examples("t", "train", 1)
    assert (first.answer, first.choices) == ("True", ("True", "False"))
    assert second.answer in second.choices


def test_a_number_inside_a_word_makes_no_text_of_it(tmp_path: Path) -> None:
    words = {"prompt": "b b a ->", "completion": "a b b", "answer": "a b b"}
    inside = {"prompt": "x ->", "completion": "x5", "answer": 5}
    assert "got rows with a number and rows with a text" in problem(suite(tmp_path, words, inside))


def test_rows_of_several_kinds_are_refused(tmp_path: Path) -> None:
    words = {"prompt": "b b a ->", "completion": "a b b", "answer": "a b b"}
    line = problem(suite(tmp_path, words, NUMBER))
    assert "got rows with a number and rows with a text, wanted one kind in a task" in line
    assert "rows with choices and rows with a number" in problem(suite(tmp_path, CHOICE, NUMBER))


def test_a_limit_keeps_a_keyed_subset_in_file_order(tmp_path: Path) -> None:
    rows = [CHOICE | {"prompt": f"{i:03}"} for i in range(50)]
    tasks = suite(tmp_path, *rows, train_samples=10)
    kept = [example.prompt for example in tasks.examples("t", "train", 1)]
    assert len(kept) == 10
    assert kept == sorted(kept)
    assert kept == [e.prompt for e in tasks.examples("t", "train", 1)]
    assert kept != [e.prompt for e in tasks.examples("t", "train", 2)]
    assert kept != [f"{i:03}" for i in range(10)]
    suite(tmp_path, *rows, split="test")
    assert len(tasks.examples("t", "test", 1)) == 50  # the limit is of train alone
    more = suite(tmp_path, *rows, train_samples=80)
    with pytest.warns(UserWarning, match=r"tasks.train_samples: got 80, .* has 50 rows: all are"):
        assert len(more.examples("t", "train", 1)) == 50


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    line = problem(suite(tmp_path, CHOICE), split="test")
    assert str(tmp_path / "t" / "test.jsonl") in line
    assert line.startswith("tasks.folder: ")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "empty file" in problem(suite(tmp_path, "", "  "))


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ("{not json", "got no JSON"),
        ("[1, 2]", "got [1, 2], wanted an object with prompt and answer"),
        ({"prompt": "a", "choices": ["b"]}, "answer: got nothing, wanted text"),
        ({"answer": "b", "choices": ["b"]}, "prompt: got nothing, wanted text"),
        (CHOICE | {"answer": "ugly"}, "got 'ugly', wanted one of ('good', 'bad')"),
        ({"prompt": "a", "answer": "b"}, "got neither choices nor completion, wanted"),
        (NUMBER | {"test": "assert f() == 1"}, "got tests, wanted choices, or the completion"),
        (NUMBER | {"answer": 3}, "answer: got '3', wanted the completion's last number ('2')"),
        (NUMBER | {"answer": "two"}, "got 'two', wanted a number, or all of the completion"),
        (NUMBER | {"answer": None}, "answer: got None, wanted text or a number"),
        (NUMBER | {"answer": ["2"]}, "answer: got ['2'], wanted text or a number"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: Any, wanted: str) -> None:
    line = problem(suite(tmp_path, CHOICE, "", row, CHOICE))
    assert line.startswith(f"{tmp_path / 't' / 'train.jsonl'}:3: ")
    assert wanted in line


@pytest.mark.parametrize(
    "row",
    [
        CHOICE | {"choices": 5},
        CHOICE | {"choices": "good"},
        CHOICE | {"prompt": 5},
        NUMBER | {"completion": None},
    ],
    ids=["choices-number", "choices-text", "prompt-number", "completion-null"],
)
def test_a_field_of_the_wrong_type_is_named_by_file_and_line(tmp_path: Path, row: Any) -> None:
    if row.get("choices") == "good":
        row = row | {"answer": "g"}
    assert problem(suite(tmp_path, CHOICE, row)).startswith(f"{tmp_path / 't' / 'train.jsonl'}:2: ")


def test_a_file_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    tasks = suite(tmp_path, CHOICE)
    (tmp_path / "t" / "train.jsonl").write_bytes(json.dumps(CHOICE).encode("utf-16"))
    assert "train.jsonl:1: got no UTF-8" in problem(tasks)
    latin = json.dumps(CHOICE).encode() + b"\n" + "Köln".encode("latin-1")
    (tmp_path / "t" / "train.jsonl").write_bytes(latin)
    assert "train.jsonl:2: got no UTF-8" in problem(tasks)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    reported = problem(JsonLines(folder=nowhere, names=("t",)))
    assert (
        reported
        == f"tasks.folder: got {nowhere}, which is no folder, wanted a folder with a folder for each task"
    )


def test_a_line_separator_inside_a_text_ends_no_row(tmp_path: Path) -> None:
    row = CHOICE | {"prompt": "one\u2028two\x85three\x0cfour"}
    tasks = suite(tmp_path, json.dumps(row, ensure_ascii=False))
    (example,) = tasks.examples("t", "train", 1)
    assert example.prompt == row["prompt"]


@pytest.mark.parametrize(
    "task",
    ["sst2", "trec", "subj", "cola", "boolq", "piqa", "siqa", "arc_challenge", "gsm8k", "svamp"],
)
def test_every_real_task_loads(task: str, task_folder: Path) -> None:
    if not (task_folder / task).is_dir():
        pytest.skip(f"{task_folder} has no {task}")
    tasks = JsonLines(folder=task_folder, names=(task,))
    for split in ("train", "test"):
        path = task_folder / task / f"{split}.jsonl"
        rows = tasks.examples(task, split, 1)
        assert len(rows) == path.read_text(encoding="utf-8").count("\n")
        assert {row.kind for row in rows} == {"number" if task in ("gsm8k", "svamp") else "choice"}


# ── characters that no tokenizer accepts ────────────────────────────────────────────────────────

HALF = r'{"prompt": "bad \ud83d half", "choices": ["a", "b"], "answer": "a"}'
BROKEN = {
    "half a character in the prompt": (HALF, "prompt: got '\\ud83d', half a character"),
    "half a character in a choice": (
        r'{"prompt": "p", "choices": ["a", "\udc00"], "answer": "a"}',
        "choices: got '\\udc00', half a character",
    ),
    "half a character in the completion": (
        r'{"prompt": "p", "completion": "\ud83d 2", "answer": 2}',
        "completion: got '\\ud83d', half a character",
    ),
    "digits under any key": (
        f'{{"prompt": "p", "choices": ["a", "b"], "answer": "a", "id": {"1" * 5000}}}',
        "got no JSON (a number of more than 4300 digits), wanted one object a line",
    ),
    "digits in the answer": (
        f'{{"prompt": "p", "completion": "1", "answer": {"1" * 5000}}}',
        "got no JSON (a number of more than 4300 digits)",
    ),
    "deep": ("[" * 100_000, "got no JSON (nested too deeply)"),
    "deep under any key": (
        '{"prompt": "p", "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "got no JSON (nested too deeply)",
    ),
    "zeros": ('{"prompt": "a\x00b"}', "got no JSON (Invalid control character"),
    "a key twice": (
        '{"prompt": "p", "choices": ["a", "b"], "answer": "a", "answer": "b"}',
        "got no JSON (the key 'answer' twice)",
    ),
    "a huge text": (json.dumps("x" * 1_000_000), "(1000002 characters), wanted an object"),
}


@pytest.mark.parametrize(("row", "reported"), BROKEN.values(), ids=BROKEN)
def test_a_row_that_cannot_be_read_is_reported_by_file_and_line(
    tmp_path: Path, row: str, reported: str
) -> None:
    line = problem(suite(tmp_path, CHOICE, row))
    assert line.startswith(f"{tmp_path}/t/train.jsonl:2: ")
    assert reported in line
    assert len(line) < 700
    line.encode()


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    tasks = suite(tmp_path, "\ufeff" + json.dumps(CHOICE))
    assert tasks.examples("t", "train", 1)[0].prompt == "a fine day"


def test_a_whole_pair_of_surrogates_is_a_character(tmp_path: Path) -> None:
    row = r'{"prompt": "\ud83d\ude00", "choices": ["a", "b"], "answer": "a"}'
    assert suite(tmp_path, row).examples("t", "train", 1)[0].prompt == "\U0001f600"


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "t" / "train.jsonl").mkdir(parents=True)
    assert "got no file" in problem(JsonLines(folder=tmp_path, names=("t",)))


@pytest.mark.parametrize(
    ("wrong", "last"),
    [(2, ""), (10, ""), (11, "and 1 more wrong row"), (13, "and 3 more wrong rows")],
)
def test_the_wrong_lines_of_a_file_are_reported_together(
    tmp_path: Path, wrong: int, last: str
) -> None:
    path = tmp_path / "mood" / "train.jsonl"
    path.parent.mkdir()
    good = json.dumps({"prompt": "rain", "choices": ["bad", "good"], "answer": "bad"})
    path.write_text("\n".join([good, *["{}, no row"] * wrong, good]) + "\n")
    with pytest.raises(ScenarioError) as caught:
        JsonLines(folder=tmp_path, names=("mood",)).examples("mood", "train", 1)
    lines = caught.value.problems
    reported = lines[:-1] if last else lines
    assert [line.split(": ")[0] for line in reported] == [
        f"{path}:{2 + number}" for number in range(min(wrong, 10))
    ]
    more = max(0, wrong - 10)
    assert not last or lines[-1] == f"{last}: {path} ({more})"


# ── all files of all tasks together ──────────────────────────────────────────────────────────────


def all_problems_of(folder: Path, *names: str) -> tuple[str, ...]:
    """The files of both splits of all tasks."""
    tasks = JsonLines(folder=folder, names=names)
    with pytest.raises(ScenarioError) as caught:
        read_all(tasks, product(names, ("train", "test")), 1)
    return caught.value.problems


def wrong_rows(path: Path, *, wrong: int) -> Path:
    """A file with a number of wrong rows after a good one."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([json.dumps(CHOICE), *["no row"] * wrong]))
    return path


def test_the_first_wrong_file_does_not_hide_the_others(tmp_path: Path) -> None:
    first = wrong_rows(tmp_path / "a" / "train.jsonl", wrong=7)
    wrong_rows(tmp_path / "a" / "test.jsonl", wrong=0)
    second = wrong_rows(tmp_path / "b" / "train.jsonl", wrong=6)
    third = wrong_rows(tmp_path / "c" / "test.jsonl", wrong=1)
    lines = all_problems_of(tmp_path, "a", "b", "c")
    assert lines[:2] == (
        f"tasks.folder: got no file {tmp_path}/b/test.jsonl, wanted test.jsonl of 'b'",
        f"tasks.folder: got no file {tmp_path}/c/train.jsonl, wanted train.jsonl of 'c'",
    )
    shown = [
        *(f"{first}:{2 + row}" for row in range(7)),
        *(f"{second}:{2 + row}" for row in range(3)),
    ]
    assert [line.split(": ")[0] for line in lines[2:-1]] == shown
    assert lines[-1] == f"and 4 more wrong rows: {second} (3), {third} (1)"


def test_many_wrong_rows_are_counted_and_not_kept(tmp_path: Path) -> None:
    path = wrong_rows(tmp_path / "a" / "train.jsonl", wrong=20_000)
    wrong_rows(tmp_path / "a" / "test.jsonl", wrong=0)
    with pytest.raises(ScenarioError) as caught:
        JsonLines(folder=tmp_path, names=("a",)).examples("a", "train", 1)
    assert sum(len(rows.first) for rows in caught.value.rows) == 10
    assert caught.value.problems[-1] == f"and 19990 more wrong rows: {path} (19990)"


def test_tasks_without_a_folder_are_reported_with_the_existing_ones(tmp_path: Path) -> None:
    for name in ("mood", "topic"):
        wrong_rows(tmp_path / name / "train.jsonl", wrong=0)
        wrong_rows(tmp_path / name / "test.jsonl", wrong=0)
    (tmp_path / "notes").mkdir()
    reported = f"which has no folder in {tmp_path}, wanted some of the tasks there (mood, topic)"
    assert all_problems_of(tmp_path, "reverse", "topics", "mood") == (
        f"tasks.names: got 'reverse', {reported}",
        f"tasks.names: got 'topics', {reported}; did you mean 'topic'?",
    )
    with pytest.raises(
        ScenarioError, match=r"^evaluation\.unseen_tasks: got 'mirror', which has no "
    ):
        JsonLines(folder=tmp_path, names=("mood",)).examples("mirror", "test", 1)


def test_a_missing_folder_is_reported_once(tmp_path: Path) -> None:
    assert len(all_problems_of(tmp_path / "nowhere", "a", "b")) == 1


def test_data_out_of_reach_is_read_once() -> None:
    asked = []

    class Far:
        names = ("a", "b")
        partition = ByTask()

        def examples(self, task: str, split: str, seed: int) -> tuple[Example, ...]:
            asked.append(task)
            raise OutOfReachError([f"{task}: no network"])

    with pytest.raises(ScenarioError, match=r"^a: no network$"):
        read_all(Far(), product(Far.names, ("train", "test")), 1)
    assert asked == ["a"]
