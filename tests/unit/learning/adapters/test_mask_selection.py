"""Which entries are kept: the largest, ties to the lower coordinate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.core.errors import EmulatorError
from emulator.core.rng import stream
from emulator.core.types.adapter import AdapterLayout
from emulator.learning.adapters.mask_selection import (
    largest_entries,
    largest_of_all,
    random_entries,
)

LAYOUT = AdapterLayout(("a.lora_B", "b.lora_B", "c.lora_B"), ((4, 3), (2, 2), (5, 2)))
ALL_FREE = np.ones(LAYOUT.size, dtype=np.bool_)


@given(
    values=st.lists(st.integers(-3, 3), min_size=LAYOUT.size, max_size=LAYOUT.size),
    counts=st.tuples(*(st.integers(0, size) for size in LAYOUT.sizes)),
)
@settings(max_examples=100, deadline=None)
def test_the_mask_equals_a_slow_sort_with_ties_by_index(
    values: list[int], counts: tuple[int, ...]
) -> None:
    vector_N = np.array(values, dtype=np.float32)
    before = vector_N.copy()
    mask = largest_entries(vector_N, LAYOUT, np.array(counts), ALL_FREE)
    kept: list[int] = []
    for low, size, count in zip(LAYOUT.offsets, LAYOUT.sizes, counts, strict=False):
        ranked = sorted(range(low, low + size), key=lambda i: (-abs(values[i]), i))
        kept += sorted(ranked[:count])
    assert mask.indices.tolist() == kept
    assert (mask.size, mask.count) == (LAYOUT.size, sum(counts))
    assert mask.indices.dtype == np.int64
    np.testing.assert_array_equal(vector_N, before)


def test_no_dropped_entry_is_larger_than_a_kept_one_of_its_tensor() -> None:
    vector_N = np.random.default_rng(1).standard_normal(LAYOUT.size).astype(np.float32)
    mask = largest_entries(vector_N, LAYOUT, np.array([5, 1, 7]), ALL_FREE)
    sizes = np.abs(vector_N)
    for low, size in zip(LAYOUT.offsets, LAYOUT.sizes, strict=False):
        part = slice(low, low + size)
        kept = mask.dense[part]
        assert sizes[part][kept].min() >= sizes[part][~kept].max()


@given(values=st.lists(st.floats(-2, 2, width=32), min_size=LAYOUT.size, max_size=LAYOUT.size))
@settings(max_examples=50, deadline=None)
def test_masks_chosen_in_turn_never_overlap(values: list[float]) -> None:
    vector_N = np.array(values, dtype=np.float32)
    counts_L = np.array([6, 2, 5])
    first = largest_entries(vector_N, LAYOUT, counts_L, ALL_FREE)
    second = largest_entries(vector_N, LAYOUT, counts_L, ~first.dense)
    assert not (first.dense & second.dense).any()
    assert (first.dense | second.dense).all()  # these counts are half of every tensor


def test_a_tensor_without_room_is_named() -> None:
    free_N = ALL_FREE.copy()
    free_N[LAYOUT.offsets[1]] = False
    with pytest.raises(EmulatorError, match=r"room for 3 of 4 entries in b\.lora_B"):
        largest_entries(np.zeros(LAYOUT.size, np.float32), LAYOUT, np.array([1, 4, 1]), free_N)


def test_the_largest_of_all_cares_for_no_tensor() -> None:
    vector_N = np.zeros(LAYOUT.size, dtype=np.float32)
    vector_N[-7:] = np.arange(7, 0, -1)
    mask = largest_of_all(vector_N, 5)
    assert mask.indices.tolist() == list(range(LAYOUT.size - 7, LAYOUT.size - 2))


def test_random_entries_are_as_many_as_asked_and_equally_likely() -> None:
    counts_L = np.array([3, 1, 5])
    hits_N = np.zeros(LAYOUT.size)
    for device in range(2000):
        mask = random_entries(LAYOUT, counts_L, stream(1, "random_mask", device))
        kept = LAYOUT.split(mask.dense.astype(np.float32))
        assert [int(part.sum()) for part in kept.values()] == counts_L.tolist()
        hits_N += mask.dense
    expected_N = np.repeat(counts_L / np.array(LAYOUT.sizes), LAYOUT.sizes)
    np.testing.assert_allclose(hits_N / 2000, expected_N, atol=0.05)
