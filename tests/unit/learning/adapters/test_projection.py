"""The static projections A: orthogonality, keys, and the common start of all devices."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.core.errors import ScenarioError
from emulator.core.rng import stream
from emulator.learning.adapters.projection import (
    GAMMA,
    common_start,
    gaussian_blocks,
    largest_overlap,
    orthogonal_blocks,
    projection_blocks,
)

ROUNDING = 5e-7
"""float32 rounding of a sum of products whose whole is at most 1."""


@given(
    seed=st.integers(0, 2**40),
    lora_rank=st.integers(1, 6),
    num_blocks=st.integers(1, 5),
    room=st.integers(0, 20),
)
@settings(max_examples=30, deadline=None)
def test_blocks_are_orthogonal_to_each_other_and_orthonormal_up_to_gamma(
    seed: int, lora_rank: int, num_blocks: int, room: int
) -> None:
    num_inputs = num_blocks * lora_rank + room
    blocks_nrk = orthogonal_blocks(seed, 3, num_inputs, lora_rank, num_blocks)
    assert blocks_nrk.dtype == np.float32
    assert blocks_nrk.shape == (num_blocks, lora_rank, num_inputs)
    stacked = blocks_nrk.reshape(num_blocks * lora_rank, -1).astype(np.float64)
    wanted = GAMMA**2 * np.eye(num_blocks * lora_rank)
    np.testing.assert_allclose(stacked @ stacked.T, wanted, rtol=0, atol=ROUNDING)
    assert largest_overlap(blocks_nrk) < 1e-5


def test_orthogonal_updates_add_without_touching_each_other() -> None:
    """The benefit of orthogonality: <B_i A_i, B_j A_j>_F = 0 for updates that are summed."""
    draws = np.random.default_rng(1)
    first, second = orthogonal_blocks(1, 3, 64, 8, 2).astype(np.float64)
    delta_i = draws.standard_normal((32, 8)) @ first
    delta_j = draws.standard_normal((32, 8)) @ second
    cosine = (delta_i * delta_j).sum() / (np.linalg.norm(delta_i) * np.linalg.norm(delta_j))
    assert abs(cosine) < 1e-6


@pytest.mark.parametrize("kind", ["orthogonal", "gaussian"])
def test_blocks_are_a_function_of_seed_and_module(kind: str) -> None:
    blocks = projection_blocks(kind, 7, 2, 48, 4, 3)
    np.testing.assert_array_equal(blocks, projection_blocks(kind, 7, 2, 48, 4, 3))
    assert np.abs(blocks - projection_blocks(kind, 8, 2, 48, 4, 3)).max() > 0.01
    assert np.abs(blocks - projection_blocks(kind, 7, 1, 48, 4, 3)).max() > 0.01
    assert np.abs(blocks[0] - blocks[1]).max() > 0.01


def test_gaussian_blocks_do_not_depend_on_how_many_others_there_are() -> None:
    few, many = gaussian_blocks(7, 2, 48, 4, 2), gaussian_blocks(7, 2, 48, 4, 8)
    np.testing.assert_array_equal(few, many[:2])


def test_orthogonal_blocks_do_not_depend_on_how_many_others_there_are() -> None:
    """Gram-Schmidt uses earlier columns only, so further blocks do not change the first ones."""
    few, many = orthogonal_blocks(7, 2, 48, 4, 2), orthogonal_blocks(7, 2, 48, 4, 8)
    np.testing.assert_allclose(few, many[:2], atol=1e-6)


def test_positive_diagonal_makes_the_factorisation_unique() -> None:
    """A slow Gram-Schmidt over the same Gaussian gives the same basis."""
    gaussian = stream(5, "projection", 0).standard_normal((6, 20))
    columns: list[np.ndarray] = []
    for column in gaussian:
        for earlier in columns:
            column = column - earlier * (earlier @ column)
        columns.append(column / np.linalg.norm(column))
    slow = GAMMA * np.stack(columns)
    fast = orthogonal_blocks(5, 0, 20, 2, 3).reshape(6, 20)
    np.testing.assert_allclose(fast, slow, atol=ROUNDING)


def test_too_many_blocks_are_refused_with_inputs_rank_and_blocks_named() -> None:
    assert orthogonal_blocks(1, 0, 24, 8, 3).shape == (3, 8, 24)
    with pytest.raises(ScenarioError) as caught:
        orthogonal_blocks(1, 0, 23, 8, 3)
    (problem,) = caught.value.problems
    assert problem.startswith("method.lora_rank: got 3 orthogonal blocks of rank 8")
    assert "with 23 inputs" in problem
    assert "method.projection: gaussian" in problem


def test_gaussian_blocks_have_the_scale_but_not_the_orthogonality() -> None:
    """E[A A^T] = GAMMA^2 I; E||A_i A_j^T||_F^2 = r^2 GAMMA^4 / k, far from nothing."""
    blocks = gaussian_blocks(1, 0, 256, 8, 40).astype(np.float64)
    squares = np.stack([a @ a.T for a in blocks]).mean(axis=0)
    np.testing.assert_allclose(squares, GAMMA**2 * np.eye(8), atol=0.02)
    crosses = [np.square(a @ b.T).sum() for a, b in pairwise(blocks)]
    np.testing.assert_allclose(np.mean(crosses), 8**2 * GAMMA**4 / 256, rtol=0.2)
    assert largest_overlap(blocks[:3].astype(np.float32)) > 0.1


def test_largest_overlap_is_the_spectral_norm_over_gamma_squared() -> None:
    block, other = orthogonal_blocks(1, 0, 16, 2, 2)
    assert largest_overlap(block[None]) == 0.0
    assert largest_overlap(np.stack([block, other, block])) == pytest.approx(1.0, abs=1e-5)
    assert largest_overlap(np.stack([block, other, 0.5 * block])) == pytest.approx(0.5, abs=1e-5)


def test_the_common_start_is_one_for_all_and_bounded_as_peft_does() -> None:
    start = common_start(4, 2, 64, 8)
    np.testing.assert_array_equal(start, common_start(4, 2, 64, 8))
    assert start.shape == (8, 64)
    assert start.dtype == np.float32
    assert np.abs(start).max() <= 1 / 8
    assert start.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.1)
    assert not np.array_equal(start, common_start(5, 2, 64, 8))
    assert not np.array_equal(start, common_start(4, 3, 64, 8))
