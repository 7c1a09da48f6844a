"""The discriminant: additive statistics, the fit against a slow reference, the size of each scatter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.core.types.arrays import DoubleArray
from emulator.core.types.data import Question
from emulator.learning.backbone.load import Tiny
from emulator.learning.routing import RidgeLda
from emulator.learning.tasks.causal_learner import CausalLearner
from emulator.learning.tasks.synthetic import Synthetic

WIDTH, TASKS = 6, 4
RIDGE = RidgeLda().ridge
SCATTERS = ("full", "diagonal", "none")


def summed(*parts):
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}


def fitted(router, states, task_of, num_tasks=TASKS):
    return router.fit(router.statistics(states, task_of, num_tasks), states, num_tasks)


def slow_gates(states, task_of, asked, temperature) -> DoubleArray:
    """The rule of the docstring, computed from the raw data."""
    means = np.array([states[np.array(task_of) == j].mean(axis=0) for j in range(TASKS)])
    within = np.zeros((WIDTH, WIDTH))
    for state, task in zip(states, task_of, strict=True):
        within += np.outer(state - means[task], state - means[task]) / len(states)
    sigma = within + RIDGE * np.trace(within) / WIDTH * np.eye(WIDTH)
    inverse, centre = np.linalg.inv(sigma), means.mean(axis=0)
    rows = []
    for x in asked:
        scores = [
            (mu - centre) @ inverse @ (x - centre) - (mu - centre) @ inverse @ (mu - centre) / 2
            for mu in means
        ]
        raised = np.exp((np.array(scores) - max(scores)) / temperature)
        rows.append(raised / raised.sum())
    return np.array(rows)


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_the_fit_equals_a_slow_reference_from_the_raw_data(drawn, temperature):
    states, task_of = drawn(1)
    router = RidgeLda(temperature=temperature, top_m=TASKS)
    asked, _ = drawn(2, 50)
    got = router.gates(fitted(router, states, task_of), asked)
    np.testing.assert_allclose(got, slow_gates(states, task_of, asked, temperature), atol=1e-4)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_devices_of_different_tasks_add_up_to_one_that_holds_all(seed):
    draws = np.random.default_rng(seed)
    task_of = draws.integers(0, TASKS, 60)
    states = 1e3 + 5 * task_of[:, None] + draws.standard_normal((60, WIDTH))
    router = RidgeLda()
    whole = router.statistics(states, task_of.tolist(), TASKS)
    parts = [
        router.statistics(states[task_of == j], [j] * int((task_of == j).sum()), TASKS)
        for j in range(TASKS)
        if (task_of == j).any()
    ]
    total = summed(*parts)
    assert {v.dtype for v in whole.values()} == {np.dtype(np.float32)}
    for name in whole:
        np.testing.assert_allclose(total[name], whole[name], rtol=1e-5, atol=1e-3)


def test_the_scatter_of_devices_of_one_task_lacks_only_the_distances_of_means(drawn):
    states, _ = drawn(3)
    router = RidgeLda()
    halves = [router.statistics(part, [0] * 100, 1) for part in (states[:100], states[100:])]
    whole = router.statistics(states, [0] * 200, 1)
    apart = states[:100].mean(axis=0) - states[100:].mean(axis=0)
    missing = 50 * np.outer(apart, apart)[np.triu_indices(WIDTH)]
    got = summed(*halves)["scatter"]
    np.testing.assert_allclose(got + missing, whole["scatter"], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(("scatter", "entries"), [("full", 21), ("diagonal", 6), ("none", 0)])
def test_the_statistics_of_each_scatter(drawn, scatter, entries):
    states, task_of = drawn(4)
    parts = RidgeLda(scatter=scatter).statistics(states, task_of, TASKS)
    assert sum(part.size for part in parts.values()) == TASKS + TASKS * WIDTH + TASKS + entries


def test_the_diagonal_is_that_of_the_full_scatter_and_decides_like_it_where_it_is_all(drawn):
    states, task_of = drawn(5)
    full, diagonal = RidgeLda(top_m=TASKS), RidgeLda(top_m=TASKS, scatter="diagonal")
    upper = np.zeros((WIDTH, WIDTH))
    statistics = full.statistics(states, task_of, TASKS)
    upper[np.triu_indices(WIDTH)] = statistics["scatter"]
    short = diagonal.statistics(states, task_of, TASKS)
    np.testing.assert_allclose(np.diagonal(upper), short["scatter"], rtol=1e-5)
    upright = {**statistics, "scatter": np.diag(short["scatter"])[np.triu_indices(WIDTH)]}
    np.testing.assert_allclose(
        full.gates(full.fit(upright, states, TASKS), states),
        diagonal.gates(diagonal.fit(short, states, TASKS), states),
        atol=1e-5,
    )


def test_without_a_scatter_the_nearest_mean_decides(drawn):
    states, task_of = drawn(6)
    router = RidgeLda(scatter="none")
    means = np.array([states[np.array(task_of) == j].mean(axis=0) for j in range(TASKS)])
    nearest = np.square(states[:, None] - means).sum(axis=2).argmin(axis=1)
    got = router.gates(fitted(router, states, task_of), states).argmax(axis=1)
    np.testing.assert_array_equal(got, nearest)


@pytest.mark.parametrize("scatter", SCATTERS)
def test_one_sample_a_task_is_enough_for_the_nearest_mean(scatter):
    states = 10.0 * np.eye(3, WIDTH)
    router = RidgeLda(scatter=scatter)
    gates = router.gates(fitted(router, states, [0, 1, 2], 3), states)
    np.testing.assert_array_equal(gates, np.eye(3))


def test_ties_go_to_the_first():
    states = np.array([[1.0, 0.0], [-1.0, 0.0]])
    router = RidgeLda()
    found = fitted(router, states, [0, 1], 2)
    assert router.gates(found, np.zeros((1, 2))).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("scatter", SCATTERS)
def test_a_task_without_samples_gets_no_gate_and_does_not_move_the_others(drawn, scatter):
    states, task_of = drawn(7)
    present = np.array(task_of) != 2
    states, task_of = states[present], [t for t in task_of if t != 2]
    router = RidgeLda(top_m=TASKS, scatter=scatter)
    asked = np.vstack([states, np.zeros((1, WIDTH))])
    gates = router.gates(fitted(router, states, task_of), asked)
    assert not gates[:, 2].any()
    np.testing.assert_allclose(gates.sum(axis=1), 1, rtol=1e-6)
    closer = [t - (t > 2) for t in task_of]
    wanted = router.gates(fitted(router, states, closer, TASKS - 1), asked)
    np.testing.assert_allclose(np.delete(gates, 2, axis=1), wanted, atol=1e-5)


def test_no_samples_at_all_are_refused():
    router = RidgeLda()
    nothing = router.statistics(np.ones((1, WIDTH)), [0], TASKS)
    empty = {name: np.zeros_like(part) for name, part in nothing.items()}
    with pytest.raises(ValueError, match="got no samples"):
        router.fit(empty, np.ones((1, WIDTH)), TASKS)


def test_a_wide_task_is_as_familiar_as_a_tight_one():
    """The choice of the device that sets the threshold must not decide which questions are rejected."""
    draws = np.random.default_rng(1)
    tight, wide = draws.standard_normal((2, 300, WIDTH)) * [[[1.0]], [[5.0]]]
    states = np.vstack([tight, wide + 100])
    router = RidgeLda(abstain=0.05)
    statistics = router.statistics(states, [0] * 300 + [1] * 300, 2)
    for own in (states[:300], states[300:]):
        gates = router.gates(router.fit(statistics, own, 2), states)
        closed = ~gates.any(axis=1)
        assert closed[:300].mean() == pytest.approx(0.05, abs=0.05)
        assert closed[300:].mean() == pytest.approx(0.05, abs=0.05)


def test_half_as_many_bytes_decide_alike_though_states_share_a_large_part(drawn):
    """Rounded to bfloat16; a second moment would become useless."""
    states, task_of = drawn(8)
    states = states + 300.0 * np.eye(WIDTH)[0]
    router = RidgeLda()
    parts = router.statistics(states, task_of, TASKS)
    scatter = parts["scatter"].view(np.uint32) + np.uint32(0x8000)
    rounded = {**parts, "scatter": (scatter & np.uint32(0xFFFF0000)).view(np.float32)}
    exact = router.gates(router.fit(parts, states, TASKS), states).argmax(axis=1)
    short = router.gates(router.fit(rounded, states, TASKS), states).argmax(axis=1)
    assert (exact == short).mean() > 0.97


@pytest.mark.parametrize("scatter", SCATTERS)
def test_familiarity_falls_with_the_distance(drawn, scatter):
    states, task_of = drawn(9)
    router = RidgeLda(scatter=scatter)
    found = fitted(router, states, task_of)
    away = states.mean(axis=0) + np.outer([10.0, 100.0, 1000.0], np.ones(WIDTH))
    near, far, farther = router.familiarity(found, away)
    assert 0 >= router.familiarity(found, states).min() > near > far > farther
    np.testing.assert_allclose(router.familiarity(found, found["means"]), 0, atol=1e-4)


def test_the_default_tasks_are_distinguished_with_the_embedded_backbone():
    """At least 95 % of unseen examples are routed to their own task, from a few training examples each."""
    suite, backbone, router = (
        Synthetic(train_samples=64, test_samples=40),
        Tiny().load(),
        RidgeLda(),
    )
    learner = CausalLearner(backbone)

    def features(task: str, split: str) -> DoubleArray:
        asked = [Question(learner.router_text(e), None) for e in suite.examples(task, split, 1)]
        return router.features(backbone, asked, 1)

    own = [features(task, "train") for task in suite.names]
    parts = [router.statistics(states, [j] * 64, len(own)) for j, states in enumerate(own)]
    found = router.fit(summed(*parts), own[0], len(own))
    for index, task in enumerate(suite.names):
        winners = router.gates(found, features(task, "test")).argmax(axis=1)
        assert (winners == index).mean() >= 0.95, task
