"""The same question in other words."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from emulator.core.errors import ScenarioError
from emulator.core.types.data import Example
from emulator.learning.tasks.jsonl import JsonLines
from emulator.learning.tasks.paraphrase import Paraphrase, paraphrase_examples

PLAIN = Example("t", "true or false: a {b}?", "true", ("true", "false"), kind="choice")
ASKED = Paraphrase(prompt="Say. {prompt}", replace={"true or false:": "yes or no:"})
RENAMED = Paraphrase(choices={"true": "yes", "false": "no"})


def test_pieces_are_replaced_then_something_put_around_and_choices_renamed() -> None:
    assert ASKED.of(PLAIN).prompt == "Say. yes or no: a {b}?"
    assert ASKED.of(PLAIN).choices == PLAIN.choices
    reported = RENAMED.of(PLAIN)
    assert (reported.prompt, reported.choices, reported.answer) == (
        PLAIN.prompt,
        ("yes", "no"),
        "yes",
    )


def test_an_answer_that_is_no_choice_stays() -> None:
    number = Example("t", "1 + 1 =", "2", (), "it is 2", "number")
    reported = Paraphrase(prompt="Add. {prompt}", choices={"2": "two"}).of(number)
    assert (reported.prompt, reported.answer, reported.completion) == (
        "Add. 1 + 1 =",
        "2",
        "it is 2",
    )


def test_examples_take_turns() -> None:
    reported = paraphrase_examples([PLAIN] * 3, (ASKED, RENAMED))
    assert reported == (ASKED.of(PLAIN), RENAMED.of(PLAIN), ASKED.of(PLAIN))
    assert paraphrase_examples([PLAIN], ()) == ()
    assert paraphrase_examples([PLAIN], (ASKED, RENAMED)) == (ASKED.of(PLAIN),)  # fewer than words


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (Paraphrase(), "tasks.paraphrases.t.1: got words that change no example"),
        (Paraphrase(replace={"maybe": "x"}), "tasks.paraphrases.t.1: got words that change no"),
        (Paraphrase(choices={"true": "false"}), "tasks.paraphrases.t.1.choices: got ['false'"),
    ],
)
def test_paraphrases_without_a_change_are_refused(words: Paraphrase, line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        paraphrase_examples([PLAIN, PLAIN], (ASKED, words))
    assert caught.value.problems[0].startswith(line)


def test_a_template_holds_the_prompt() -> None:
    with pytest.raises(ValidationError, match="pattern"):
        Paraphrase(prompt="What do you think?")


def test_a_folder_gives_its_test_split_in_other_words(tmp_path: Path) -> None:
    row = {"prompt": PLAIN.prompt, "choices": list(PLAIN.choices), "answer": "true"}
    for task in ("t", "other"):
        (tmp_path / task).mkdir()
        (tmp_path / task / "test.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    suite = JsonLines(folder=tmp_path, names=("t",), paraphrases={"t": (ASKED,)})
    assert suite.examples("t", "paraphrased", 1) == (ASKED.of(PLAIN),)
    assert suite.examples("other", "paraphrased", 1) == ()
    assert suite.examples("other", "test", 1)[0].task == "other"  # not among the names
