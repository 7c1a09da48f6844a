"""What devices share: the validation split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ScenarioError
from emulator.state import Example
from emulator.world import build_world, held_out


def rows(count):
    return [Example("sort", f"prompt {i}", str(i)) for i in range(count)]


@given(st.integers(2, 300), st.integers(1, 40), st.integers(0, 5))
def test_nothing_is_lost_and_nothing_is_both_learnt_and_asked(count, most, seed):
    examples = rows(count)
    validation, rest = held_out(examples, seed, "sort", most)
    assert sorted((*validation, *rest), key=examples.index) == examples
    assert len(validation) == max(1, min(most, round(0.1 * count)))
    assert list(rest) == sorted(rest, key=examples.index)
    assert (validation, rest) == held_out(examples, seed, "sort", most)


def test_another_seed_or_task_holds_out_others():
    examples = rows(200)
    first = held_out(examples, 1, "sort", 100)
    assert first != held_out(examples, 2, "sort", 100)
    assert first != held_out(examples, 1, "reverse", 100)


def test_one_example_cannot_be_split():
    with pytest.raises(ScenarioError, match=r"evaluation\.split: got validation for 1 training"):
        held_out(rows(1), 1, "sort", 5)


def test_a_world_of_validation_asks_what_nobody_trains_on(read):
    text = "devices: 2\ntasks: {names: [reverse, sort], train_samples: 50, test_samples: 9}"
    test = build_world(read(text).scenario)
    validation = build_world(read(text, "evaluation.split=validation").scenario)
    trained = {e for shard in validation.shards for e in shard.train}
    asked = {e for task in validation.tests.values() for e in task.examples}
    assert len(asked) == 2 * 5
    assert not trained & asked
    assert trained | asked == {e for shard in test.shards for e in shard.train}
