"""The synthetic tasks and their operations."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from emulator.core.errors import ScenarioError
from emulator.core.rng import stream
from emulator.learning.list_operations import (
    DIGITS,
    LETTERS,
    MAX_ITEMS,
    MIN_ITEMS,
    OPERATIONS,
    TAGS,
    TASK_NAMES,
    VOCABULARY,
    prompt_text,
    tag_of,
)
from emulator.learning.tasks.synthetic import Synthetic


def running_sum(items: list[int]) -> list[int]:
    total, sums = 0, []
    for item in items:
        total = (total + item) % 10
        sums.append(total)
    return sums


def swap_pairs(items: list[int]) -> list[int]:
    swapped = list(items)
    for low in range(0, len(items) - 1, 2):
        swapped[low], swapped[low + 1] = items[low + 1], items[low]
    return swapped


# One list at a time, in plain Python: the reference for every operation.
SLOW: dict[str, Callable[[list[int]], list[int]]] = {
    "copy": lambda x: x,
    "reverse": lambda x: list(reversed(x)),
    "sort": sorted,
    "sort_descending": lambda x: sorted(x, reverse=True),
    "rotate": lambda x: [*x[1:], x[0]],
    "rotate_back": lambda x: [x[-1], *x[:-1]],
    "successor": lambda x: [(i + 1) % 16 for i in x],
    "predecessor": lambda x: [(i - 1) % 16 for i in x],
    "swap_pairs": swap_pairs,
    "swap_ends": lambda x: [x[-1], *x[1:-1], x[0]],
    "evens_first": lambda x: [*x[0::2], *x[1::2]],
    "echo": lambda x: x,
    "mirror": lambda x: list(reversed(x)),
    "increment": lambda x: [(i + 1) % 10 for i in x],
    "decrement": lambda x: [(i - 1) % 10 for i in x],
    "complement": lambda x: [9 - i for i in x],
    "double": lambda x: [2 * i % 10 for i in x],
    "running_sum": running_sum,
    "running_max": lambda x: [max(x[: k + 1]) for k in range(len(x))],
    "differences": lambda x: [x[0], *((b - a) % 10 for a, b in pairwise(x))],
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("num_items", range(MIN_ITEMS, MAX_ITEMS + 1))
def test_operation_equals_its_slow_reference(name: str, num_items: int) -> None:
    operation = OPERATIONS[name]
    lists_Sn = operation.format.draw(50, num_items, stream(3, "test", num_items))
    before = lists_Sn.copy()
    answers_Sn = operation.apply(lists_Sn)
    assert answers_Sn.tolist() == [SLOW[name](items) for items in lists_Sn.tolist()]
    assert answers_Sn.min() >= 0
    assert answers_Sn.max() < len(operation.format.symbols)
    np.testing.assert_array_equal(lists_Sn, before)


@pytest.mark.parametrize(
    ("name", "items", "answer"),
    [
        ("reverse", "c a f b", "b f a c"),
        ("sort", "c a f b", "a b c f"),
        ("rotate", "c a f b", "a f b c"),
        ("successor", "c a p b", "d b a c"),
        ("swap_pairs", "c a f b e", "a c b f e"),
        ("running_sum", "3 4 5 0", "3 7 2 2"),
        ("complement", "3 4 0 9", "6 5 9 0"),
    ],
)
def test_operation_by_hand(name: str, items: str, answer: str) -> None:
    operation = OPERATIONS[name]
    lists_Sn = np.array([[operation.format.symbols.index(word) for word in items.split()]])
    assert operation.format.write(operation.apply(lists_Sn)[0]) == answer


@given(num_items=st.integers(MIN_ITEMS, MAX_ITEMS), seed=st.integers(0, 2**32))
def test_letters_are_distinct_within_a_list(num_items: int, seed: int) -> None:
    lists_Sn = LETTERS.draw(20, num_items, stream(seed, "test"))
    assert lists_Sn.shape == (20, num_items)
    assert all(len(set(items)) == num_items for items in lists_Sn.tolist())


def test_every_symbol_occurs_about_equally_often() -> None:
    for symbols in (LETTERS, DIGITS):
        drawn = symbols.draw(8000, 4, stream(0, "test"))
        shares = np.bincount(drawn.reshape(-1), minlength=len(symbols.symbols)) / drawn.size
        np.testing.assert_allclose(shares, 1 / len(symbols.symbols), atol=0.01)


def test_vocabulary_is_small_and_every_operation_has_its_own_tag() -> None:
    assert 60 <= len(VOCABULARY) <= 80
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert len({tag_of(name) for name in OPERATIONS}) == len(OPERATIONS) == len(TAGS)
    assert prompt_text("tag07", "c a f b") == "tag07 : c a f b ->"


def test_at_least_two_tasks_compete_for_each_format_and_differ_on_it() -> None:
    assert len(TASK_NAMES) >= 10
    for symbols in (LETTERS, DIGITS):
        rivals = [OPERATIONS[name] for name in TASK_NAMES if OPERATIONS[name].format is symbols]
        assert len(rivals) >= 2
        lists_Sn = symbols.draw(20, MAX_ITEMS, stream(1, "test"))
        answers = {rival.apply(lists_Sn).tobytes() for rival in rivals}
        assert len(answers) == len(rivals)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_examples_are_right_distinct_and_disjoint(task: str) -> None:
    suite = Synthetic(names=(task,), train_samples=300, test_samples=100)
    train, test = (suite.examples(task, split, 5) for split in ("train", "test"))
    assert (len(train), len(test)) == (300, 100)
    assert len({each.prompt for each in (*train, *test)}) == 400
    operation = OPERATIONS[task]
    for each in (*train, *test):
        head, separator, *items, arrow = each.prompt.split(" ")
        assert (head, separator, arrow) == (tag_of(task), ":", "->")
        indices = [operation.format.symbols.index(item) for item in items]
        wanted = " ".join(operation.format.symbols[i] for i in SLOW[task](indices))
        assert each.answer == each.completion == wanted
        assert each.task == task
        assert each.choices == ()
    lengths = [len(each.answer.split()) for each in test]
    assert [lengths.count(n) for n in range(MIN_ITEMS, MAX_ITEMS + 1)] == [25] * 4


def test_examples_depend_on_the_seed_and_on_nothing_else() -> None:
    suite = Synthetic(names=("sort", "mirror"), train_samples=100)
    alone = Synthetic(names=("mirror",), train_samples=40)
    assert suite.examples("mirror", "train", 1) == suite.examples("mirror", "train", 1)
    assert suite.examples("mirror", "train", 1) != suite.examples("mirror", "train", 2)
    assert suite.examples("mirror", "train", 1)[:40] == alone.examples("mirror", "train", 1)
    assert suite.examples("mirror", "test", 1) == alone.examples("mirror", "test", 1)


def test_the_largest_suite_still_finds_distinct_digit_lists() -> None:
    suite = Synthetic(names=("double",), train_samples=10_000, test_samples=2_000)
    train, test = (suite.examples("double", split, 0) for split in ("train", "test"))
    assert len({each.prompt for each in (*train, *test)}) == 12_000


def test_names_are_the_operations_in_their_order() -> None:
    assert Synthetic().names == ("reverse", "sort", "rotate", "successor")
    assert Synthetic(names=("sort", "reverse")).names == ("sort", "reverse")


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        (["revers"], r"got 'revers'; did you mean 'reverse'\?"),
        (["zzz"], r"got 'zzz', wanted some of reverse, sort"),
        (["copy"], r"got 'copy'"),
        (["sort", "sort"], "wanted each once"),
        ([], "at least 1"),
    ],
)
def test_wrong_operations_are_refused(operations: list[str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Synthetic.model_validate({"kind": "synthetic", "names": operations})


def test_unknown_task_or_split_is_a_scenario_error() -> None:
    with pytest.raises(ScenarioError, match="task 'mirrro': got 'mirrro'; did you mean 'mirror'"):
        Synthetic().examples("mirrro", "train", 0)
    with pytest.raises(
        ScenarioError, match="split 'valid': wanted one of train, test, paraphrased"
    ):
        Synthetic().examples("sort", "valid", 0)


def test_an_operation_that_no_device_learns_has_examples_too() -> None:
    (example,) = Synthetic(test_samples=1).examples("mirror", "test", 0)
    assert example.task == "mirror"


def test_other_words_are_the_operation_s_own_name() -> None:
    suite = Synthetic(test_samples=5)
    plain, reported = suite.examples("sort", "test", 0), suite.examples("sort", "paraphrased", 0)
    assert [e.answer for e in reported] == [e.answer for e in plain]
    assert [e.prompt for e in reported] == [e.prompt.replace(tag_of("sort"), "sort") for e in plain]
    assert all(tag_of("sort") in e.prompt for e in plain)
