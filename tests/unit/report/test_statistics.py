"""Intervals against a slow reference: Student's t written out, quantiles from printed tables."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.report.statistics import Estimate, estimate, paired

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


def test_one_value_says_nothing_of_its_spread():
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
    got = paired(first, second)
    if not common:
        assert got is None
        return
    differences = [first[seed] - second[seed] for seed in common]
    assert got == estimate(differences)


@given(st.dictionaries(st.integers(1, 9), numbers, min_size=2), numbers)
def test_a_common_shift_is_a_difference_without_spread(values, shift):
    got = paired({seed: value + shift for seed, value in values.items()}, values)
    assert got.mean == pytest.approx(shift, abs=1e-9)
    assert got.half_width == pytest.approx(0.0, abs=1e-8)


@given(numbers, st.floats(0, 10), numbers, st.floats(0, 10))
def test_touching_is_mutual_and_means_a_common_point(a, half_a, b, half_b):
    first, second = Estimate(a, half_a, 3), Estimate(b, half_b, 3)
    assert first.touches(second) == second.touches(first)
    assert first.touches(second) == (max(first.low, second.low) <= min(first.high, second.high))
