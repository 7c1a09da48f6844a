"""Entropies, and the distribution of a budget among the modules."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from emulator.learning.adapters.density import (
    entropy_of,
    printed_counts,
    spectral_counts,
    spectral_entropy,
    uniform_counts,
)

RIDGE, TEMPERATURE = 0.01, 0.25

sizes_and_entropies = st.lists(
    st.tuples(st.integers(1, 5000), st.floats(0, 1)), min_size=1, max_size=24
)


@given(modules=sizes_and_entropies, share=st.floats(0, 1.5))
@settings(max_examples=200, deadline=None)
def test_counts_fill_the_budget_and_no_module_overflows(
    modules: list[tuple[int, float]], share: float
) -> None:
    sizes_L = np.array([size for size, _ in modules])
    entropies_L = np.array([entropy for _, entropy in modules])
    budget = round(share * int(sizes_L.sum()))
    counts_L = spectral_counts(entropies_L, sizes_L, budget, TEMPERATURE)
    assert counts_L.dtype == np.int64
    assert counts_L.sum() == min(budget, sizes_L.sum())
    assert (counts_L >= 0).all()
    assert (counts_L <= sizes_L).all()


@given(
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=24),
    entropy=st.floats(0, 1),
    share=st.floats(0, 1),
)
@settings(max_examples=100, deadline=None)
def test_equal_entropies_give_equal_densities(
    sizes: list[int], entropy: float, share: float
) -> None:
    sizes_L = np.array(sizes)
    budget = round(share * int(sizes_L.sum()))
    counts_L = spectral_counts(np.full(len(sizes), entropy), sizes_L, budget, TEMPERATURE)
    exact_L = sizes_L * (budget / sizes_L.sum())
    assert np.abs(counts_L - exact_L).max() < 1 + 1e-6
    np.testing.assert_array_equal(counts_L, uniform_counts(sizes_L, budget))


@given(modules=sizes_and_entropies, share=st.floats(0.05, 0.95), temperature=st.floats(0.05, 2.0))
@settings(max_examples=100, deadline=None)
def test_water_filling_equals_a_slow_search_for_the_level(
    modules: list[tuple[int, float]], share: float, temperature: float
) -> None:
    """s_l = min(1, level * exp(H_l / tau)) for the one level that spends the budget."""
    sizes_L = np.array([size for size, _ in modules])
    raised_L = np.exp(np.array([entropy for _, entropy in modules]) / temperature)
    budget = round(share * int(sizes_L.sum()))
    assume(budget > 0)
    low, high = 0.0, 1.0
    for _ in range(200):
        level = (low + high) / 2
        spent = (sizes_L * np.minimum(1, level * raised_L)).sum()
        low, high = (level, high) if spent < budget else (low, level)
    exact_L = sizes_L * np.minimum(1, low * raised_L)
    counts_L = spectral_counts(np.log(raised_L) * temperature, sizes_L, budget, temperature)
    assert np.abs(counts_L - exact_L).max() < 1 + 1e-3


def test_a_saturated_module_gives_its_overflow_to_the_others() -> None:
    sizes_L = np.array([100, 1000, 1000])
    entropies_L = np.array([1.0, 0.2, 0.2])
    counts_L = spectral_counts(entropies_L, sizes_L, 900, TEMPERATURE)
    assert counts_L.tolist() == [100, 400, 400]


def test_a_higher_entropy_never_gets_a_lower_density() -> None:
    draws = np.random.default_rng(2)
    sizes_L = draws.integers(500, 2000, 12)
    entropies_L = np.sort(draws.uniform(0, 1, 12))
    densities_L = (
        spectral_counts(entropies_L, sizes_L, int(sizes_L.sum() // 4), TEMPERATURE) / sizes_L
    )
    assert (np.diff(densities_L) > -1 / 500).all()
    assert densities_L[-1] > densities_L[0]


def test_equal_singular_values_have_entropy_one() -> None:
    assert entropy_of(np.full(16, 0.3)) == 1.0
    orthogonal = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0]
    assert spectral_entropy(orthogonal, 50 * np.eye(12), 10, RIDGE) == pytest.approx(1.0, abs=1e-12)


def test_entropy_equals_its_definition() -> None:
    draws = np.random.default_rng(3)
    weight = draws.standard_normal((6, 9))
    inputs = draws.standard_normal((9, 40))
    moment = inputs @ inputs.T
    covariance = moment / 40
    covariance += RIDGE * np.mean(np.diag(covariance)) * np.eye(9)
    sigma = np.linalg.svd(weight @ covariance, compute_uv=False)
    share = sigma / sigma.sum()
    wanted = -sum(p * np.log(p) for p in share) / np.log(6)
    assert spectral_entropy(weight, moment, 40, RIDGE) == pytest.approx(wanted, rel=1e-12)
    assert 0 < wanted < 1


def test_entropy_knows_no_scale() -> None:
    draws = np.random.default_rng(4)
    weight, inputs = draws.standard_normal((5, 7)), draws.standard_normal((7, 30))
    once = spectral_entropy(weight, inputs @ inputs.T, 30, RIDGE)
    assert spectral_entropy(3 * weight, 7 * inputs @ inputs.T, 30, RIDGE) == pytest.approx(once)


def test_a_spectrum_of_one_value_has_entropy_nought() -> None:
    """0 log 0 = 0, and the result stays inside [0, 1]."""
    assert entropy_of(np.array([2.0, 0.0, 0.0])) == 0.0


def test_the_printed_form_keeps_every_entry() -> None:
    """The reason against it: with the printed mean vector C = x x^T every entropy is 0, and for an
    invertible C the printed product W0 C C^-1 is W0 itself for all data."""
    draws = np.random.default_rng(5)
    weight, inputs = draws.standard_normal((8, 10)), draws.standard_normal((10, 60))
    mean = inputs.mean(axis=1)
    of_mean = weight @ np.outer(mean, mean)
    assert entropy_of(np.linalg.svd(of_mean, compute_uv=False)) == pytest.approx(0.0, abs=1e-12)
    assert np.linalg.matrix_rank(np.outer(mean, mean)) == 1
    covariance = inputs @ inputs.T / 60
    np.testing.assert_allclose(weight @ covariance @ np.linalg.inv(covariance), weight, atol=1e-10)
    assert spectral_entropy(weight, inputs @ inputs.T, 60, RIDGE) > 0.5


def test_the_printed_max_leaves_nothing_sparse() -> None:
    """Why Eq 22 needs `min`: with max(1, ...) every module keeps all entries under every budget."""
    sizes_L = np.array([100, 400, 50])
    for budget in (1, 100, 549):
        counts_L = printed_counts(np.array([0.2, 0.9, 0.5]), sizes_L, budget)
        assert counts_L.tolist() == sizes_L.tolist()
        assert (
            spectral_counts(np.array([0.2, 0.9, 0.5]), sizes_L, budget, TEMPERATURE).sum() == budget
        )
