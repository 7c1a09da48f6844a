"""Selection of the entries of B that a device keeps (method: section IV-B of arXiv 2602.20492)."""

import numpy as np

from emulator.core.errors import EmulatorError
from emulator.core.rng import Stream
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import BoolArray, FloatArray, IndexArray


def largest_entries(
    vector_N: FloatArray, layout: AdapterLayout, counts_L: IndexArray, free_N: BoolArray
) -> Mask:
    """Keep the `counts_L[l]` free entries of largest magnitude in each tensor.

    A tie keeps the lower coordinate. Law: the mask has exactly sum(counts_L) coordinates, and no dropped
    free entry of a tensor is larger than a kept one. Raises EmulatorError if a tensor has fewer free
    entries than it has to keep.
    """
    magnitude_N = np.where(free_N, np.abs(vector_N), -1.0)
    kept = []
    for name, low, size, count in zip(
        layout.names, layout.offsets, layout.sizes, counts_L, strict=False
    ):
        room = int(free_N[low : low + size].sum())
        if room < count:
            raise EmulatorError(
                f"method.mask_selection: got room for {room} of {count} entries in {name}, wanted "
                "densities of a cluster that sum to at most 1 in every module (lower method.density "
                "or topology.max_collision_rate)"
            )
        order = np.argsort(-magnitude_N[low : low + size], kind="stable")
        kept.append(low + np.sort(order[:count]))
    return Mask(layout.size, np.concatenate(kept).astype(np.int64))


def random_entries(layout: AdapterLayout, counts_L: IndexArray, draws: Stream) -> Mask:
    """Keep `counts_L[l]` entries of each tensor; every choice is equally likely."""
    scores_N = draws.random(layout.size).astype(np.float32)
    return largest_entries(scores_N, layout, counts_L, np.ones(layout.size, dtype=np.bool_))


def largest_of_all(vector_N: FloatArray, count: int) -> Mask:
    """Keep the `count` entries of largest magnitude of the whole vector; a tie keeps the lower one."""
    whole = AdapterLayout(("all",), ((len(vector_N),),))
    return largest_entries(vector_N, whole, np.array([count]), np.ones(whole.size, dtype=np.bool_))
