"""Which entries are kept: the largest, ties to the lower coordinate."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.adapters.mask import largest_entries
from emulator.state import AdapterLayout

LAYOUT = AdapterLayout(("a.lora_B", "b.lora_B", "c.lora_B"), ((4, 3), (2, 2), (5, 2)))


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
    mask = largest_entries(vector_N, LAYOUT, np.array(counts))
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
    mask = largest_entries(vector_N, LAYOUT, np.array([5, 1, 7]))
    sizes = np.abs(vector_N)
    for low, size in zip(LAYOUT.offsets, LAYOUT.sizes, strict=False):
        part = slice(low, low + size)
        kept = mask.dense[part]
        assert sizes[part][kept].min() >= sizes[part][~kept].max()
