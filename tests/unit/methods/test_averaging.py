"""mask_mean and gossip_step: what averaging keeps, and what a lost packet does to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from emulator.core.types.arrays import BoolArray, FloatArray
from emulator.learning.adapters.projection import layer_blocks
from emulator.methods.averaging import (
    Contribution,
    disagreement,
    gossip_step,
    mask_mean,
    printed_mean,
)

DEVICES, SIZE = 5, 400


def values(seed: int, *shape: int) -> FloatArray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def slow_mean(
    contributions: list[Contribution],
) -> tuple[list[float], list[bool]]:
    """Coordinate by coordinate, as the formula reads."""
    means, written = [], []
    for x in range(len(contributions[0][1])):
        here = [(w, float(v[x])) for w, v, present in contributions if present[x]]
        written.append(bool(here))
        means.append(sum(w * v for w, v in here) / sum(w for w, _ in here) if here else 0.0)
    return means, written


@given(
    seed=st.integers(0, 10**6),
    devices=st.integers(1, 5),
    weights=st.lists(st.floats(0.01, 1e4), min_size=5, max_size=5),
)
@settings(max_examples=50, deadline=None)
def test_mask_mean_equals_a_slow_reference(seed: int, devices: int, weights: list[float]) -> None:
    draws = np.random.default_rng(seed)
    contributions = [
        (weight, values(seed + i, 12), draws.random(12) < 0.6)
        for i, weight in enumerate(weights[:devices])
    ]
    mean_N, written_N = mask_mean(contributions)
    slow_N, slow_written_N = slow_mean(contributions)
    np.testing.assert_allclose(mean_N, slow_N, rtol=1e-12, atol=1e-15)
    assert written_N.tolist() == slow_written_N


@given(
    number=st.floats(width=32, allow_nan=False, allow_infinity=False),
    weight=st.floats(1e-3, 1e6),
)
@settings(max_examples=200, deadline=None)
def test_a_single_writer_keeps_its_value_bit_for_bit(number: float, weight: float) -> None:
    value_N = np.array([number], dtype=np.float32)
    silent_N = np.array([123.0], dtype=np.float32)
    mean_N, _ = mask_mean(
        [
            (7.0, silent_N, np.zeros(1, dtype=np.bool_)),
            (weight, value_N, np.ones(1, dtype=np.bool_)),
        ]
    )
    assert mean_N.astype(np.float32)[0] == value_N[0]


def test_disjoint_masks_give_everybody_its_own_back_bit_for_bit() -> None:
    owner_N = np.random.default_rng(1).integers(0, DEVICES + 1, SIZE)  # the last owns in vain
    own = [np.where(owner_N == i, values(i, SIZE), np.float32(0)) for i in range(DEVICES)]
    contributions = [(17.0 * i + 3.0, own[i], owner_N == i) for i in range(DEVICES)]
    mean_N, written_N = mask_mean(contributions)
    for i in range(DEVICES):
        merged = mean_N.astype(np.float32)[owner_N == i]
        assert merged.tobytes() == own[i][owner_N == i].tobytes()
    np.testing.assert_array_equal(written_N, owner_N < DEVICES)
    assert not mean_N[~written_N].any()


def test_agreement_is_a_fixed_point_whatever_the_weights_and_losses() -> None:
    vector_N = values(3, SIZE)
    draws = np.random.default_rng(3)
    contributions: list[Contribution] = [(11.0, vector_N, np.ones(SIZE, dtype=np.bool_))]
    contributions += [(w, vector_N, draws.random(SIZE) < 0.5) for w in (1 / 3, 1000.0, 7.7)]
    mean_N, written_N = mask_mean(contributions)
    np.testing.assert_array_equal(mean_N.astype(np.float32), vector_N)
    assert written_N.all()


def test_a_lost_coordinate_leaves_numerator_and_denominator() -> None:
    here, there = np.array([True, True]), np.array([True, False])
    mean_N, _ = mask_mean(
        [
            (1.0, np.array([1.0, 1.0], dtype=np.float32), here),
            (3.0, np.array([5.0, 0.0], dtype=np.float32), there),
        ]
    )
    assert mean_N.tolist() == [4.0, 1.0]  # not 0.25: the lost zero has no vote


def test_merging_leaves_its_arguments_alone() -> None:
    vector_N, other_N, present_N = values(1, 9), values(2, 9), values(3, 9) > 0
    before = (vector_N.tobytes(), other_N.tobytes(), present_N.tobytes())
    mask_mean([(1.0, vector_N, present_N), (2.0, other_N, present_N)])
    gossip_step(vector_N, vector_N, [(0.5, other_N, present_N)])
    assert before == (vector_N.tobytes(), other_N.tobytes(), present_N.tobytes())


# ── gossip ───────────────────────────────────────────────────────────────────────────────────────


def doubly_stochastic(seed: int) -> NDArray[np.float64]:
    """Symmetric, rows and columns sum to one: Metropolis weights of a random graph."""
    adjacent = np.triu(np.random.default_rng(seed).random((DEVICES, DEVICES)) < 0.7, 1)
    adjacent |= np.eye(DEVICES, k=1, dtype=np.bool_)
    adjacent |= adjacent.T
    degree = adjacent.sum(axis=1)
    weights = np.where(adjacent, 1 / (1 + np.maximum.outer(degree, degree)), 0.0)
    return weights + np.diag(1 - weights.sum(axis=1))


def bfloat16(vector: FloatArray) -> FloatArray:
    """Rounded by cutting: coarser than the wire, so that rounding errors would show."""
    return (vector.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def gossip_round(
    vectors: FloatArray, present: BoolArray, weights: NDArray[np.float64]
) -> FloatArray:
    """One exchange of all devices: present[i, j, x] says whether i heard coordinate x of j."""
    rounded = bfloat16(vectors)
    return np.stack(
        [
            gossip_step(
                vectors[i],
                rounded[i],
                [(weights[i, j], rounded[j], present[i, j]) for j in range(DEVICES) if j != i],
            )
            for i in range(DEVICES)
        ]
    )


def drift(before: FloatArray, after: FloatArray) -> float:
    """How far the network mean moved, relative to the size of the values."""
    moved = after.astype(np.float64).mean(axis=0) - before.astype(np.float64).mean(axis=0)
    return float(np.abs(moved).max() / np.abs(before).max())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_symmetric_weights_keep_the_network_mean_in_spite_of_rounding(seed: int) -> None:
    vectors = values(seed, DEVICES, SIZE)
    everything = np.ones((DEVICES, DEVICES, SIZE), dtype=np.bool_)
    after = gossip_round(vectors, everything, doubly_stochastic(seed))
    assert after.dtype == np.float32
    assert drift(vectors, after) < 1e-6
    spread = lambda v: float(v.std(axis=0).mean())  # noqa: E731
    assert spread(after) < 0.9 * spread(vectors)


def test_joint_loss_keeps_the_mean_and_independent_loss_drifts() -> None:
    """Joint: where i misses j, j misses i. Independent: one of them moves alone."""
    vectors, weights = values(4, DEVICES, SIZE), doubly_stochastic(4)
    independent = np.random.default_rng(4).random((DEVICES, DEVICES, SIZE)) < 0.7
    joint = np.triu(np.ones((DEVICES, DEVICES)), 1)[..., None] * independent > 0
    joint |= joint.transpose(1, 0, 2)
    assert drift(vectors, gossip_round(vectors, joint, weights)) < 1e-6
    assert drift(vectors, gossip_round(vectors, independent, weights)) > 1e-2


def test_agreement_is_a_fixed_point_of_gossip_bit_for_bit() -> None:
    vectors = np.tile(values(5, SIZE), (DEVICES, 1))
    present = np.random.default_rng(5).random((DEVICES, DEVICES, SIZE)) < 0.5
    after = gossip_round(vectors, present, doubly_stochastic(5))
    assert after.tobytes() == vectors.tobytes()


def test_a_lost_coordinate_keeps_the_own_value() -> None:
    vector_N = np.array([1.0, 1.0], dtype=np.float32)
    other_N = np.array([3.0, 0.0], dtype=np.float32)
    stepped = gossip_step(vector_N, vector_N, [(0.25, other_N, np.array([True, False]))])
    assert stepped.tolist() == [1.5, 1.0]
    np.testing.assert_array_equal(gossip_step(vector_N, vector_N, []), vector_N)


def test_the_step_is_taken_between_equally_rounded_values() -> None:
    """The own unrounded value stays below: x + w (Q(y) - Q(x)), not (1-w) x + w Q(y)."""
    own = np.array([1.2501], dtype=np.float32)
    rounded = np.array([1.25], dtype=np.float32)
    heard = np.array([1.25], dtype=np.float32)
    np.testing.assert_array_equal(gossip_step(own, rounded, [(0.5, heard, np.array([True]))]), own)


def test_the_printed_mean_shrinks_what_nobody_else_writes() -> None:
    """Why it is not the default: agreement is no fixed point, and disjoint masks lose their entries."""
    ours, theirs = values(1, SIZE), values(2, SIZE)
    mine_N = np.arange(SIZE) % 2 == 0
    mean_N, written_N = printed_mean([(3.0, ours, mine_N), (1.0, theirs, ~mine_N)], 2)
    assert written_N.all()
    np.testing.assert_allclose(mean_N[mine_N], ours[mine_N] / 2, rtol=1e-6)
    np.testing.assert_allclose(mean_N[~mine_N], theirs[~mine_N] / 2, rtol=1e-6)
    agreed, _ = printed_mean([(1.0, ours, mine_N), (1.0, ours, np.ones(SIZE, dtype=np.bool_))], 2)
    assert np.abs(agreed - ours).max() > 0.1


# ── Eq 23 at collision rate 0 ────────────────────────────────────────────────────────────────────


def left_side(
    means: list[NDArray[np.float64]], own: list[FloatArray], rank: int
) -> tuple[float, float]:
    """||sum_j (B_j - mean_j) A_j||_F^2 and sum_j ||B_j A_j||_F^2, matrices multiplied out."""
    inputs = 4 * rank * len(own)
    (_, blocks), *_ = layer_blocks({"m": inputs}, "orthogonal", 1, rank, len(own))
    a_Jrk = [block.astype(np.float64) for block in blocks]
    pairs = list(zip(own, means, a_Jrk, strict=True))
    moved = sum((b - mean).reshape(-1, rank) @ a for b, mean, a in pairs)
    learnt = sum(np.sum((b.reshape(-1, rank) @ a) ** 2) for b, _, a in pairs)
    return float(np.sum(np.asarray(moved) ** 2)), float(learnt)


@pytest.mark.parametrize("members", [2, 4, 5])
def test_eq_23_is_false_as_printed_where_masks_are_disjoint(members: int) -> None:
    """Its right side is 0 at S = 0. Under Eq 10 its left one is 1 - 1/|c| of all that was learnt."""
    owner_N = np.random.default_rng(1).permutation(np.arange(SIZE) % members)
    own = [np.where(owner_N == i, values(i, SIZE), np.float32(0)) for i in range(members)]
    told: list[Contribution] = [(1.0, own[i], owner_N == i) for i in range(members)]
    printed_N, _ = printed_mean(told, members)
    moved, learnt = left_side([printed_N] * members, own, rank=2)
    assert moved / learnt == pytest.approx(1 - 1 / members, rel=1e-5)
    remasked = [np.where(owner_N == i, printed_N, 0.0) for i in range(members)]  # Eq 29
    moved, learnt = left_side(remasked, own, rank=2)
    assert moved / learnt == pytest.approx((1 - 1 / members) ** 2, rel=1e-5)


@pytest.mark.parametrize("members", [2, 4, 5])
def test_eq_23_holds_with_mask_mean_and_masks_put_over_it_again(members: int) -> None:
    owner_N = np.random.default_rng(1).permutation(np.arange(SIZE) % members)
    own = [np.where(owner_N == i, values(i, SIZE), np.float32(0)) for i in range(members)]
    mean_N, _ = mask_mean([(3.0 + i, own[i], owner_N == i) for i in range(members)])
    remasked = [np.where(owner_N == i, mean_N.astype(np.float32), 0.0) for i in range(members)]
    moved, learnt = left_side(remasked, own, rank=2)
    assert (moved, learnt > 0) == (0.0, True)
    assert left_side([mean_N] * members, own, rank=2)[0] > learnt / 2  # unmasked it does not


def test_disagreement_is_the_root_mean_square_over_what_is_present() -> None:
    ours = np.zeros(4, dtype=np.float32)
    theirs = np.array([3.0, 4.0, 100.0, 0.0], dtype=np.float32)
    present_N = np.array([True, True, False, False])
    assert disagreement(ours, [(1.0, theirs, present_N)]) == pytest.approx((25 / 2) ** 0.5)
    assert disagreement(ours, []) == 0.0
