"""Holm's correction against its definition by closed testing, and the verdicts of a family."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.experiments.significance import ALPHA, Family, Verdict, adjust_holm
from emulator.experiments.statistics import estimate, p_value

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def closed(p_values, alpha):
    """Rejected: each hypothesis of which every set that holds it is rejected by Bonferroni."""
    everything = range(len(p_values))
    sets = [s for k in range(1, len(p_values) + 1) for s in combinations(everything, k)]
    rejected = [s for s in sets if min(p_values[i] for i in s) < alpha / len(s)]
    return [all(s in rejected for s in sets if i in s) for i in everything]


@given(p_values, st.sampled_from([0.01, 0.05, 0.2]))
def test_it_rejects_what_closed_testing_rejects(p_values, alpha):
    adjusted = adjust_holm(p_values)
    for p, wanted, raw in zip(adjusted, closed(p_values, alpha), p_values, strict=True):
        assert raw <= p <= 1
        if abs(p - alpha) > 1e-12:
            assert (p < alpha) == wanted


def test_a_printed_example():
    assert adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_holm([]) == []


def test_of_true_hypotheses_hardly_ever_one_is_rejected():
    """Ten differences of five seeds without any effect, 2000 tables: 5 % would be 100, 4 sd are 39."""
    draws = np.random.default_rng(1)
    tables = [
        [estimate(of_seeds) for of_seeds in draws.standard_normal((10, 5)).tolist()]
        for _ in range(2000)
    ]
    families = [(Family.of(margins), margins) for margins in tables]
    wrong = sum(
        any(family.verdict(margin) is not Verdict.OPEN for margin in margins)
        for family, margins in families
    )
    alone = sum(any(p_value(margin) < ALPHA for margin in margins) for margins in tables)
    assert wrong < 139 < 700 < alone


def test_the_verdicts_of_a_family():
    up, down, open_ = (
        estimate([1.0, 1.1, 1.2]),
        estimate([-1.0, -1.1, -1.2]),
        estimate([1.0, -1.1, 0.3]),
    )
    single, alike = estimate([5.0]), estimate([1.0, 1.0, 1.0])
    family = Family.of([up, down, open_, single, alike, None])
    assert len(family.p_values) == 3
    assert family.verdict(up) is Verdict.HOLDS
    assert family.verdict(down) is Verdict.FAILS
    assert family.words(up) == "holds, significant (p 0.008)"
    assert family.words(down) == "does not hold, significant (p 0.008)"
    assert family.words(open_).startswith("not significant (p 0.")
    assert family.words(single) == "holds in the only seed (not tested)"
    assert family.words(estimate([-5.0])) == "does not hold in the only seed (not tested)"
    assert family.words(alike) == "holds in all 3 seeds alike (not tested)"
    assert {family.verdict(single), family.verdict(alike)} == {Verdict.OPEN}
    assert Family.of([up]).words(up) == "holds, significant (p 0.003)"
