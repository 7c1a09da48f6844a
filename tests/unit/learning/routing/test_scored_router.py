"""From scores to gates: softmax, the largest gates, and abstention."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.learning.routing import BagOfWords, Cosine, RidgeLda
from emulator.learning.routing.prompt_states import project_states
from emulator.learning.routing.scored_router import Scored

NEVER = np.array([-np.inf], dtype=np.float32)
SCORED = (RidgeLda, Cosine, BagOfWords)


@given(seed=st.integers(0, 10**6), top_m=st.integers(1, 6), temperature=st.floats(0.01, 100))
def test_rows_sum_to_one_and_at_most_top_m_gates_are_open(seed, top_m, temperature):
    scores = 30 * np.random.default_rng(seed).standard_normal((20, 4))
    gates = Scored(top_m=top_m, temperature=temperature).open(scores, np.zeros(20), NEVER)
    assert gates.shape == (20, 4)
    assert gates.dtype == np.float32
    np.testing.assert_allclose(gates.sum(axis=1), 1, rtol=1e-6)
    assert (gates >= 0).all()
    assert (gates > 0).sum(axis=1).max() <= top_m
    np.testing.assert_array_equal(gates.argmax(axis=1), scores.argmax(axis=1))


def test_top_m_keeps_the_largest_and_ties_go_to_the_first():
    scores = np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])
    gates = Scored(top_m=2).open(scores, np.zeros(2), NEVER)
    soft = np.exp([3.0, 2.0]) / np.exp([3.0, 2.0]).sum()
    np.testing.assert_allclose(gates, [[0, *soft], [0.5, 0.5, 0]], rtol=1e-6)


def test_questions_below_the_threshold_get_no_gate():
    familiarity = np.array([-3.0, -1.0, -2.0])
    gates = Scored().open(np.eye(3), familiarity, np.array([-2.0], dtype=np.float32))
    np.testing.assert_array_equal(gates, [[0, 0, 0], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_the_threshold_rejects_its_share_of_the_own_prompts(share):
    familiarity = np.random.default_rng(1).standard_normal(1000)
    threshold = Scored(abstain=share).threshold(familiarity)
    assert (familiarity < threshold).mean() == pytest.approx(share, abs=1e-3)
    assert Scored().threshold(familiarity).tolist() == [-np.inf]


@pytest.mark.parametrize("kind", SCORED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("wrong", [0.0, 1.0, -0.1])
def test_a_share_is_between_zero_and_one(kind, wrong):
    with pytest.raises(ValueError, match="abstain"):
        kind(abstain=wrong)


def test_the_projection_is_public_orthonormal_and_narrow_enough():
    states = np.random.default_rng(1).standard_normal((5, 40))
    narrow = project_states(states, 16, 7)
    assert narrow.shape == (5, 16)
    assert narrow.dtype == np.float64
    np.testing.assert_array_equal(narrow, project_states(states, 16, 7))
    assert not np.allclose(narrow, project_states(states, 16, 8))
    basis = project_states(np.eye(40), 16, 7)
    np.testing.assert_allclose(basis.T @ basis, np.eye(16), atol=1e-12)
    np.testing.assert_array_equal(project_states(states, 40, 7), states)  # nothing to narrow
