"""Common objects of all devices: the validation split, and results that are computed once."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from emulator.core.errors import ScenarioError
from emulator.core.types.data import Example
from emulator.network.flooding import count_hops
from emulator.network.topology.graphs import Ring
from emulator.scenario.world import MOST_HELD, build_world, hold_out


def rows(count):
    return [Example("sort", f"prompt {i}", str(i)) for i in range(count)]


@given(st.integers(2, 300), st.integers(1, 40), st.integers(0, 5))
def test_nothing_is_lost_and_nothing_is_both_learnt_and_asked(count, most, seed):
    examples = rows(count)
    validation, rest = hold_out(examples, seed, "sort", most)
    assert sorted((*validation, *rest), key=examples.index) == examples
    assert len(validation) == max(1, min(most, round(0.1 * count)))
    assert list(rest) == sorted(rest, key=examples.index)
    assert (validation, rest) == hold_out(examples, seed, "sort", most)


def test_another_seed_or_task_holds_out_others():
    examples = rows(200)
    first = hold_out(examples, 1, "sort", 100)
    assert first != hold_out(examples, 2, "sort", 100)
    assert first != hold_out(examples, 1, "reverse", 100)


def test_one_example_cannot_be_split():
    with pytest.raises(ScenarioError, match=r"evaluation\.split: got validation for 1 training"):
        hold_out(rows(1), 1, "sort", 5)


def test_a_world_of_validation_asks_what_nobody_trains_on(read):
    text = "devices: 2\ntasks: {names: [reverse, sort], train_samples: 50, test_samples: 9}"
    test = build_world(read(text).scenario)
    validation = build_world(read(text, "evaluation.split=validation").scenario)
    trained = {e for shard in validation.shards for e in shard.train}
    asked = {e for task in validation.questions.tests.values() for e in task.examples}
    assert len(asked) == 2 * 5
    assert not trained & asked
    assert trained | asked == {e for shard in test.shards for e in shard.train}


def test_what_all_work_out_alike_is_done_once_and_little_is_held(read):
    world = build_world(read("devices: 4").scenario)
    done: list[int] = []

    def work(number):
        return lambda: done.append(number) or number

    for number in [0, 1, 0, *range(MOST_HELD + 1), 0]:
        assert world.compute_once(("number", number), work(number)) == number
    assert done == [*range(MOST_HELD + 1), 0]  # 0 was the least recently used


def test_fixed_links_are_drawn_once_and_others_for_each_round(read, monkeypatch):
    world = build_world(read("devices: 4\nmethod: {kind: lora}\ntopology: {kind: ring}").scenario)
    survey, asked = object(), []

    def links(graph, round_index, survey, seed):
        asked.append((round_index, survey, seed))
        return ()

    monkeypatch.setattr(Ring, "links", links)
    for round_index in (0, 1, 1, 2):
        world.links(round_index, survey)
    assert asked == [(0, survey, 1)]
    monkeypatch.setattr(Ring, "fixed", False)
    for round_index in (1, 1, 2):
        world.links(round_index, survey)
    assert asked[1:] == [(1, survey, 1), (2, survey, 1)]


@given(st.integers(2, 12), st.floats(0.2, 1.0), st.integers(0, 1000))
def test_hops_are_those_of_the_undirected_graph(devices, probability, seed):
    heard_MM = np.random.default_rng(seed).random((devices, devices)) < probability
    np.fill_diagonal(heard_MM, False)
    graph = nx.from_numpy_array(heard_MM)
    assume(nx.is_connected(graph))
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    wanted = [[lengths[i][j] for j in range(devices)] for i in range(devices)]
    assert count_hops(heard_MM).tolist() == wanted
