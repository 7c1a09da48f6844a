"""Tasks from the hub, with a fake `datasets` package, without a network."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from emulator.core.errors import ScenarioError
from emulator.core.types.data import Example
from emulator.learning.tasks.hub import Hub, HubTask
from emulator.learning.tasks.jsonl import JsonLines
from emulator.learning.tasks.paraphrase import Paraphrase

MOOD = HubTask(
    name="mood",
    dataset="someone/mood",
    config="small",
    test_split="validation",
    prompt="{text}\nAnswer:",
    choices=("bad", "good"),
    answer_column="label",
)
SUMS = HubTask(
    name="sums",
    dataset="someone/sums",
    prompt="{question}",
    completion="{steps} so {result}",
    answer_column="result",
)
ROWS = {
    ("someone/mood", "train"): [{"text": f"text {i}", "label": i % 2} for i in range(30)],
    ("someone/mood", "validation"): [{"text": "a fine day", "label": "good"}],
    ("someone/sums", "train"): [{"question": "1 + 1", "steps": "count", "result": 2}],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, str]]:
    """The requested data sets."""
    calls: list[tuple[str, str | None, str]] = []

    def load_dataset(name: str, config: str | None, *, split: str) -> list[dict[str, Any]]:
        calls.append((name, config, split))
        if (name, split) not in ROWS:
            raise FileNotFoundError(f"no data set\n{name}")
        return ROWS[name, split]

    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


def test_rows_go_through_the_format_strings(asked: list[tuple[str, str | None, str]]) -> None:
    hub = Hub(tasks=(MOOD, SUMS))
    assert hub.names == ("mood", "sums")
    first, second, *_ = hub.examples("mood", "train", 1)
    assert first == Example("mood", "text 0\nAnswer:", "bad", ("bad", "good"), kind="choice")
    assert second.answer == "good"
    (worded,) = hub.examples("mood", "test", 1)
    assert worded.answer == "good"
    (sums,) = hub.examples("sums", "train", 1)
    assert sums == Example("sums", "1 + 1", "2", (), "count so 2", "number")
    assert asked == [
        ("someone/mood", "small", "train"),
        ("someone/mood", "small", "validation"),
        ("someone/sums", None, "train"),
    ]


def test_a_limit_keeps_a_keyed_subset_in_order(asked: list[tuple[str, str | None, str]]) -> None:
    hub = Hub(tasks=(MOOD,), train_samples=8, test_samples=1)
    kept = [int(e.prompt.split()[1]) for e in hub.examples("mood", "train", 1)]
    assert len(set(kept)) == 8
    assert kept == sorted(kept)
    assert kept == [int(e.prompt.split()[1]) for e in hub.examples("mood", "train", 1)]
    assert kept != [int(e.prompt.split()[1]) for e in hub.examples("mood", "train", 2)]


def test_a_data_set_out_of_reach_is_one_clear_line(
    asked: list[tuple[str, str | None, str]],
) -> None:
    with pytest.raises(ScenarioError) as caught:
        Hub(tasks=(SUMS,)).examples("sums", "test", 1)
    (line,) = caught.value.problems
    assert line == (
        "tasks.tasks.sums.dataset: got 'someone/sums', which is out of reach (no data set someone/sums), "
        "wanted a network with the hub, or the tasks as JSON lines in a folder: --set tasks.folder=FOLDER "
        "(configs/real_text.yaml also reads EMULATOR_TASKS=FOLDER)"
    )


def test_without_the_extra_its_name_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ScenarioError) as caught:
        Hub(tasks=(MOOD,)).examples("mood", "train", 1)
    assert caught.value.problems == (
        "tasks.kind: got hub without its extra, wanted it installed (.venv/bin/pip install -e '.[hub]'), or "
        "the tasks as JSON lines in a folder: --set tasks.folder=FOLDER (configs/real_text.yaml also reads "
        "EMULATOR_TASKS=FOLDER)",
    )


def test_a_folder_replaces_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "mood").mkdir()
    row = {"prompt": "rain", "choices": ["bad", "good"], "answer": "bad"}
    lines = (json.dumps({**row, "prompt": f"rain {i}"}) for i in range(30))
    (tmp_path / "mood" / "train.jsonl").write_text("\n".join(lines))
    hub = Hub(tasks=(MOOD,), folder=tmp_path, train_samples=8)
    rows = hub.examples("mood", "train", 1)
    assert rows == JsonLines(folder=tmp_path, names=("mood",), train_samples=8).examples(
        "mood", "train", 1
    )
    assert len(rows) == 8
    with pytest.raises(ScenarioError, match=r"got no file .*test\.jsonl"):
        hub.examples("mood", "test", 1)


def test_a_label_for_each_value_of_the_column(
    asked: list[tuple[str, str | None, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": "x", "label": "POS"}, {"text": "y", "label": 0}]
    monkeypatch.setitem(ROWS, ("someone/mood", "train"), rows)
    named = MOOD.model_copy(update={"choices": {"0": "bad", "POS": "good"}})
    first, second = Hub(tasks=(named,)).examples("mood", "train", 1)
    assert (first.answer, first.choices) == ("good", ("bad", "good"))
    assert second.answer == "bad"
    monkeypatch.setitem(ROWS, ("someone/mood", "train"), [{"text": "x", "label": "good"}])
    with pytest.raises(ScenarioError, match="got 'good', wanted an index or one of"):
        Hub(tasks=(named,)).examples("mood", "train", 1)


@pytest.mark.parametrize("label", [-1, "ugly"])
def test_a_label_that_is_no_choice_is_refused(
    asked: list[tuple[str, str | None, str]], monkeypatch: pytest.MonkeyPatch, label: int | str
) -> None:
    monkeypatch.setitem(ROWS, ("someone/mood", "train"), [{"text": "x", "label": label}])
    with pytest.raises(ScenarioError, match="mood"):
        Hub(tasks=(MOOD,)).examples("mood", "train", 1)


def test_an_unknown_column_is_named(asked: list[tuple[str, str | None, str]]) -> None:
    wrong = MOOD.model_copy(update={"prompt": "{sentence}"})
    with pytest.raises(ScenarioError, match="sentence"):
        Hub(tasks=(wrong,)).examples("mood", "train", 1)


def test_a_task_that_no_device_learns_and_other_words(
    asked: list[tuple[str, str | None, str]],
) -> None:
    words = {"mood": (Paraphrase(replace={"Answer": "Mood"}, choices={"good": "fine"}),)}
    hub = Hub(tasks=(SUMS,), unseen=(MOOD,), paraphrases=words)
    assert hub.names == ("sums",)
    (plain,) = hub.examples("mood", "test", 1)
    (reported,) = hub.examples("mood", "paraphrased", 1)
    assert reported == replace(
        plain, prompt="a fine day\nMood:", choices=("bad", "fine"), answer="fine"
    )
    with pytest.raises(ScenarioError, match="task 'x': wanted one of sums, mood"):
        hub.examples("x", "test", 1)
