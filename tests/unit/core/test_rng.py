"""Keyed randomness: a draw depends only on its key, and never changes for a key."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from emulator.core.rng import key, stream, torch_seed

names = st.tuples(
    st.integers(0, 2**63 - 1),
    st.text(st.characters(codec="ascii", categories=["Ll"]), min_size=1, max_size=12),
    st.lists(st.integers(-1, 2**40), max_size=4),
)


@given(names, names)
def test_different_names_have_different_keys(one, other):
    assume(one != other)
    assert key(one[0], one[1], *one[2]) != key(other[0], other[1], *other[2])


@given(names)
def test_a_key_is_sixteen_bytes_and_the_same_again(name):
    seed, purpose, ids = name
    assert len(key(seed, purpose, *ids)) == 16
    assert key(seed, purpose, *ids) == key(np.int64(seed), purpose, *map(np.int64, ids))


@given(names, names)
def test_draws_do_not_depend_on_earlier_draws(one, other):
    assume(one != other)
    alone = stream(one[0], one[1], *one[2]).random(4)
    first = stream(other[0], other[1], *other[2])
    second = stream(one[0], one[1], *one[2])
    taken_between = first.random(3)
    assert np.array_equal(second.random(4), alone)
    assert not np.array_equal(alone[:3], taken_between)


def test_the_order_of_the_ids_matters():
    assert key(1, "fading", 2, 3) != key(1, "fading", 3, 2)
    assert key(1, "fading", 23) != key(1, "fading", 2, 3)


def test_purposes_and_seeds_are_independent():
    draws = [stream(1, purpose, 0).standard_normal(4000) for purpose in ("fading", "loss")]
    draws.append(stream(2, "fading", 0).standard_normal(4000))
    correlation = np.corrcoef(draws) - np.eye(3)
    assert np.abs(correlation).max() < 0.06  # 4 standard errors of 4000 samples


def test_reference_values_never_change():
    """Another value here would change the results of all runs."""
    assert key(1, "fading", 2, 3).hex() == "242173ab787730f6db7df4a2fd7230eb"
    assert key(0, "x").hex() == "f0aebb95f240539c52ee070534c67147"
    assert stream(1, "fading", 2, 3).random(3).tolist() == [
        0.7183704407706828,
        0.024107884235907262,
        0.16418277959023053,
    ]
    raw = stream(7, "loss", 0, 1, 2).integers(0, 2**32, 4).tolist()
    assert raw == [1071098555, 2762165423, 961704056, 657946044]
    normal = stream(7, "loss", 0, 1, 2).standard_normal(2).tolist()
    assert normal == [0.2869924030057622, 0.334083995267192]
    assert stream(3, "perm").permutation(8).tolist() == [6, 0, 2, 4, 3, 5, 1, 7]
    assert torch_seed(1, "init", 0) == 66100103614997591


@given(names)
def test_a_seed_for_torch_fits_it(name):
    seed, purpose, ids = name
    assert 0 <= torch_seed(seed, purpose, *ids) < 2**56
