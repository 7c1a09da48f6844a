"""Partitions: disjoint, complete, even; the same in every call."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from emulator.core.errors import ScenarioError
from emulator.core.types.data import Example, Shard
from emulator.learning.tasks.partition import ByTask, Dirichlet


def examples_of(**sizes: int) -> dict[str, list[Example]]:
    return {
        task: [Example(task, f"{task} {i}", "a", ("a", "b"), kind="choice") for i in range(size)]
        for task, size in sizes.items()
    }


def prompts(shards: tuple[Shard, ...]) -> list[str]:
    return sorted(example.prompt for shard in shards for example in shard.train)


def everything(examples: dict[str, list[Example]]) -> list[str]:
    return sorted(example.prompt for rows in examples.values() for example in rows)


@given(
    devices=st.integers(3, 12), sizes=st.tuples(*[st.integers(4, 30)] * 3), seed=st.integers(0, 99)
)
@settings(max_examples=40, deadline=None)
def test_by_task_is_disjoint_complete_and_even(
    devices: int, sizes: tuple[int, ...], seed: int
) -> None:
    examples = examples_of(**dict(zip("xyz", sizes, strict=True)))
    shards = ByTask().shards(devices, examples, seed)
    assert [shard.device for shard in shards] == list(range(devices))
    assert [shard.task for shard in shards] == ["xyz"[i % 3] for i in range(devices)]
    assert prompts(shards) == everything(examples)
    for task in "xyz":
        lengths = [len(shard.train) for shard in shards if shard.task == task]
        assert max(lengths) - min(lengths) <= 1
    assert all(example.task == shard.task for shard in shards for example in shard.train)
    assert shards == ByTask().shards(devices, examples, seed)


@given(
    devices=st.integers(1, 9),
    rows=st.integers(9, 60),
    imbalance=st.floats(0, 10),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_an_imbalance_gives_earlier_devices_more_and_all_devices_some(
    devices: int, rows: int, imbalance: float, seed: int
) -> None:
    examples = examples_of(x=rows)
    shards = ByTask(imbalance=imbalance).shards(devices, examples, seed)
    lengths = [len(shard.train) for shard in shards]
    assert prompts(shards) == everything(examples)
    assert lengths == sorted(lengths, reverse=True)
    assert min(lengths) >= 1


def test_an_imbalance_of_one_halves_the_second_share() -> None:
    shards = ByTask(imbalance=1.0).shards(2, examples_of(x=302), 1)
    assert [len(shard.train) for shard in shards] == [201, 101]


def test_by_task_shuffles_by_seed_and_task() -> None:
    examples = examples_of(x=40, y=40)
    first, second = ByTask().shards(2, examples, 1)
    numbers = [[int(e.prompt.split()[1]) for e in shard.train] for shard in (first, second)]
    assert numbers[0] != sorted(numbers[0])
    assert numbers[0] != numbers[1]
    assert ByTask().shards(2, examples, 2)[0] != first


def test_by_task_with_fewer_devices_than_tasks_takes_the_first_tasks() -> None:
    shards = ByTask().shards(2, examples_of(x=3, y=3, z=0), 1)
    assert [shard.task for shard in shards] == ["x", "y"]


def test_more_devices_than_examples_are_refused() -> None:
    with pytest.raises(
        ScenarioError, match=r"got 2 training examples of task 'x', wanted at least 3"
    ):
        ByTask().shards(5, examples_of(x=2, y=9), 1)


@given(
    devices=st.integers(1, 12),
    alpha=st.floats(0.01, 100),
    sizes=st.tuples(*[st.integers(4, 40)] * 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_dirichlet_is_disjoint_complete_and_leaves_no_device_empty(
    devices: int, alpha: float, sizes: tuple[int, ...], seed: int
) -> None:
    examples = examples_of(**dict(zip("xyz", sizes, strict=True)))
    shards = Dirichlet(alpha=alpha).shards(devices, examples, seed)
    assert [shard.device for shard in shards] == list(range(devices))
    assert prompts(shards) == everything(examples)
    for shard in shards:
        held = Counter(example.task for example in shard.train)
        assert held[shard.task] == max(held.values()) > 0
    assert shards == Dirichlet(alpha=alpha).shards(devices, examples, seed)


def test_alpha_goes_from_one_task_each_to_the_same_mixture_everywhere() -> None:
    examples = examples_of(x=300, y=300, z=300)

    def commonest_share(alpha: float) -> float:
        shards = Dirichlet(alpha=alpha).shards(6, examples, 3)
        return sum(
            sum(e.task == shard.task for e in shard.train) / len(shard.train) for shard in shards
        ) / len(shards)

    assert commonest_share(1000.0) < 0.45 < 0.75 < commonest_share(0.05)


def test_dirichlet_needs_an_example_per_device_and_a_positive_alpha() -> None:
    assert [len(s.train) for s in Dirichlet(alpha=1.0).shards(3, examples_of(x=3), 1)] == [1, 1, 1]
    with pytest.raises(ScenarioError, match=r"got 3 training examples .* wanted at least 4"):
        Dirichlet(alpha=1.0).shards(4, examples_of(x=3), 1)
    with pytest.raises(ValidationError):
        Dirichlet(alpha=0)
