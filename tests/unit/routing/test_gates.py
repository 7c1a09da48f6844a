"""The discriminant: additive statistics, the fit, and the gates."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.backbone.loading import Tiny
from emulator.routing.gates import RIDGE, RidgeLda
from emulator.state import DoubleArray, FloatArray
from emulator.tasks.learning import CausalLearner
from emulator.tasks.synthetic import Synthetic

WIDTH, TASKS = 6, 4


def drawn(seed: int, samples: int = 200) -> tuple[DoubleArray, list[int]]:
    """States of four tasks that overlap, under one common uneven covariance."""
    draws = np.random.default_rng(seed)
    task_of_S = draws.integers(0, TASKS, samples)
    means = draws.standard_normal((TASKS, WIDTH))
    shape = draws.standard_normal((WIDTH, WIDTH))
    return means[task_of_S] + draws.standard_normal((samples, WIDTH)) @ shape, task_of_S.tolist()


def split(router: RidgeLda, statistics: FloatArray) -> dict[str, FloatArray]:
    return router.layout(WIDTH, TASKS).split(statistics)


def slow_gates(states: DoubleArray, task_of: list[int], asked: DoubleArray, temperature: float):
    """The rule as it is written, from the raw data."""
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


@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 200), max_size=4))
@settings(max_examples=25, deadline=None)
def test_statistics_add_up_over_any_split(seed: int, cuts: list[int]) -> None:
    router = RidgeLda()
    states, task_of = drawn(seed)
    whole = router.statistics(states, task_of, TASKS)
    assert whole.dtype == np.float32
    assert whole.size == router.layout(WIDTH, TASKS).size
    bounds = [0, *sorted(cuts), 200]
    parts = [
        router.statistics(states[low:high], task_of[low:high], TASKS)
        for low, high in pairwise(bounds)
    ]
    total = np.sum(parts, axis=0)
    np.testing.assert_array_equal(split(router, total)["counts"], split(router, whole)["counts"])
    np.testing.assert_allclose(total, whole, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_the_fit_equals_a_slow_reference_from_the_raw_data(temperature: float) -> None:
    states, task_of = drawn(1)
    router = RidgeLda(temperature=temperature, top_m=TASKS)
    fitted = router.fit(split(router, router.statistics(states, task_of, TASKS)))
    asked, _ = drawn(2, 50)
    got = fitted.gates(asked).numpy()
    np.testing.assert_allclose(got, slow_gates(states, task_of, asked, temperature), atol=1e-4)


@given(
    seed=st.integers(0, 10**6),
    top_m=st.integers(1, TASKS + 2),
    temperature=st.floats(0.01, 100),
)
@settings(max_examples=50, deadline=None)
def test_rows_sum_to_one_and_at_most_top_m_gates_are_open(
    seed: int, top_m: int, temperature: float
) -> None:
    states, task_of = drawn(seed)
    router = RidgeLda(top_m=top_m, temperature=temperature)
    fitted = router.fit(split(router, router.statistics(states, task_of, TASKS)))
    gates = fitted.gates(10 * states).numpy()
    assert gates.shape == (len(states), TASKS)
    assert gates.dtype == np.float32
    np.testing.assert_allclose(gates.sum(axis=1), 1, rtol=1e-6)
    assert (gates >= 0).all()
    assert (gates > 0).sum(axis=1).max() <= top_m


def test_top_m_keeps_the_largest_and_ties_go_to_the_first() -> None:
    router = RidgeLda(top_m=2)
    full = RidgeLda(top_m=TASKS)
    states, task_of = drawn(3)
    statistics = split(router, router.statistics(states, task_of, TASKS))
    some, every = router.fit(statistics).gates(states), full.fit(statistics).gates(states)
    np.testing.assert_array_equal(
        np.sort(np.argsort(-some.numpy(), axis=1)[:, :2]),
        np.sort(np.argsort(-every.numpy(), axis=1)[:, :2]),
    )
    same = {"counts": np.ones(2, np.float32), "sums": np.ones((2, 2), np.float32)}
    second = np.array([3.0, 0.0, 3.0], dtype=np.float32)
    fitted = RidgeLda().fit({**same, "second_moment": second})
    assert fitted.gates(np.zeros((1, 2))).tolist() == [[1.0, 0.0]]


def test_a_task_without_samples_gets_no_gate_and_does_not_move_the_others() -> None:
    states, task_of = drawn(4)
    present = np.array(task_of) != 2
    states, task_of = states[present], [t for t in task_of if t != 2]
    router = RidgeLda(top_m=TASKS)
    fitted = router.fit(split(router, router.statistics(states, task_of, TASKS)))
    gates = fitted.gates(np.vstack([states, np.zeros((1, WIDTH))])).numpy()
    assert not gates[:, 2].any()
    np.testing.assert_allclose(gates.sum(axis=1), 1, rtol=1e-6)

    without = RidgeLda(top_m=3)
    closer = [t - (t > 2) for t in task_of]
    layout = without.layout(WIDTH, TASKS - 1)
    alone = without.fit(layout.split(without.statistics(states, closer, TASKS - 1)))
    wanted = alone.gates(np.vstack([states, np.zeros((1, WIDTH))])).numpy()
    np.testing.assert_allclose(np.delete(gates, 2, axis=1), wanted, atol=1e-5)


def test_no_samples_at_all_are_refused() -> None:
    router = RidgeLda()
    nothing = np.zeros(router.layout(WIDTH, TASKS).size, dtype=np.float32)
    with pytest.raises(ValueError, match="got no samples"):
        router.fit(split(router, nothing))


def test_the_projection_is_public_orthonormal_and_narrow_enough() -> None:
    states_SH = torch.randn(5, 40, generator=torch.Generator().manual_seed(1))
    router = RidgeLda(max_width=16)
    narrow = router.project(states_SH, 7)
    assert narrow.shape == (5, 16)
    assert narrow.dtype == np.float64
    np.testing.assert_array_equal(narrow, router.project(states_SH, 7))
    assert not np.allclose(narrow, router.project(states_SH, 8))
    square = RidgeLda().project(states_SH, 7)  # p = H: a rotation, lengths and angles stay
    np.testing.assert_allclose(square @ square.T, (states_SH @ states_SH.T).numpy(), rtol=1e-4)


def test_the_stored_router_is_its_scores() -> None:
    states, task_of = drawn(5)
    router = RidgeLda()
    fitted = router.fit(split(router, router.statistics(states, task_of, TASKS)))
    stored = fitted.tensors()
    assert stored["directions"].shape == (TASKS, WIDTH)
    assert stored["offsets"].shape == (TASKS,)
    winner = (states @ stored["directions"].T + stored["offsets"]).argmax(axis=1)
    np.testing.assert_array_equal(winner, fitted.gates(states).numpy().argmax(axis=1))


def test_the_default_tasks_are_told_apart_with_the_embedded_backbone() -> None:
    """At least 95 % of unseen examples reach their own task, from a few training examples each."""
    suite, backbone, router = (
        Synthetic(train_samples=64, test_samples=40),
        Tiny().load(),
        RidgeLda(),
    )
    learner = CausalLearner(backbone)

    def features(task: str, split: str) -> DoubleArray:
        texts = [learner.router_text(example) for example in suite.examples(task, split, 1)]
        return router.project(backbone.prompt_states(texts, router.gate_layer), 1)

    statistics = [
        router.statistics(features(task, "train"), [index] * 64, len(suite.names))
        for index, task in enumerate(suite.names)
    ]
    hidden = backbone.model.config.hidden_size
    layout = router.layout(hidden, len(suite.names))
    fitted = router.fit(layout.split(np.sum(statistics, axis=0)))
    for index, task in enumerate(suite.names):
        winners = fitted.gates(features(task, "test")).numpy().argmax(axis=1)
        assert (winners == index).mean() >= 0.95, task
