"""Intervals against a slow reference: Student's t written out, quantiles from printed tables."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from emulator.experiments.statistics import (
    Estimate,
    estimate,
    estimate_paired,
    largest_share,
    p_value,
)

PRINTED_T = {2: 12.706, 3: 4.303, 5: 2.776, 10: 2.262, 31: 2.042}
"""Two-sided 95 % quantiles by number of values, as tables print them."""

numbers = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))


def slow_interval(values):
    """Mean and half-width, term by term."""
    n = len(values)
    mean = sum(values) / n
    squares = 0.0
    for value in values:
        squares += (value - mean) ** 2
    return mean, PRINTED_T[n] * math.sqrt(squares / (n - 1)) / math.sqrt(n)


@pytest.mark.parametrize("count", PRINTED_T)
def test_the_interval_is_students(count):
    values = [math.sin(3.0 * i) for i in range(count)]
    got = estimate(values)
    mean, half_width = slow_interval(values)
    assert got.mean == pytest.approx(mean)
    assert got.half_width == pytest.approx(half_width, rel=1e-3)
    assert got.count == count


def test_one_value_has_no_spread():
    only = estimate([0.5])
    assert (only.mean, only.half_width, only.count) == (0.5, math.inf, 1)
    assert only.holds(-1e9)
    assert only.touches(Estimate(1e9, 0.0, 2))


@given(
    st.dictionaries(st.integers(1, 9), numbers, min_size=1),
    st.dictionaries(st.integers(1, 9), numbers, min_size=1),
)
def test_paired_is_the_estimate_of_the_differences_of_common_seeds(first, second):
    common = [seed for seed in range(10) if seed in first and seed in second]
    got = estimate_paired(first, second)
    if not common:
        assert got is None
        return
    differences = [first[seed] - second[seed] for seed in common]
    assert got == estimate(differences)


@given(st.dictionaries(st.integers(1, 9), numbers, min_size=2), numbers)
def test_a_common_shift_is_a_difference_without_spread(values, shift):
    got = estimate_paired({seed: value + shift for seed, value in values.items()}, values)
    assert got.mean == pytest.approx(shift, abs=1e-9)
    assert got.half_width == pytest.approx(0.0, abs=1e-8)


@given(numbers, st.floats(0, 10), numbers, st.floats(0, 10))
def test_touching_is_mutual_and_means_a_common_point(a, half_a, b, half_b):
    first, second = Estimate(a, half_a, 3), Estimate(b, half_b, 3)
    assert first.touches(second) == second.touches(first)
    assert first.touches(second) == (max(first.low, second.low) <= min(first.high, second.high))


@given(st.lists(numbers, min_size=2, max_size=9).filter(lambda values: len(set(values)) > 1))
def test_the_p_value_is_that_of_a_t_test(values):
    wanted = stats.ttest_1samp(values, 0.0).pvalue
    assert p_value(estimate(values)) == pytest.approx(wanted, rel=1e-6, abs=1e-12)


@given(st.lists(numbers, min_size=2, max_size=6).filter(lambda values: len(set(values)) > 1))
def test_below_5_percent_is_where_the_interval_leaves_0_out(values):
    got = estimate(values)
    if abs(abs(got.mean) - got.half_width) > 1e-9 * got.half_width:
        assert (p_value(got) < 0.05) == (not got.holds(0.0))


def test_seeds_that_agree_up_to_rounding_do_not_vary():
    assert not estimate([0.75 - 0.70, 0.50 - 0.45, 0.3 - 0.25]).varies
    assert not estimate([0.5]).varies
    assert not estimate([3e6, 3e6]).varies
    assert estimate([0.05, 0.0501]).varies


@pytest.mark.parametrize("runs", [1, 3, 24, 300])
def test_the_share_that_no_run_has_shown_is_the_one_not_seen_in_5_percent_of_cases(runs):
    assert (1 - largest_share(runs)) ** runs == pytest.approx(0.05)
