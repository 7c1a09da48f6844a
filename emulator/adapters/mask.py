"""Which entries of B a device keeps (method: section IV-B of arXiv 2602.20492)."""

import numpy as np

from emulator.state import AdapterLayout, FloatArray, IndexArray, Mask


def largest_entries(vector_N: FloatArray, layout: AdapterLayout, counts_L: IndexArray) -> Mask:
    """Keep the `counts_L[l]` entries of largest magnitude in each tensor of the layout.

    Ties go to the lower coordinate. Law: the mask holds exactly sum(counts_L) coordinates, and no
    dropped entry of a tensor is larger than a kept one.
    """
    kept = [
        low + np.sort(np.argsort(-np.abs(vector_N[low : low + size]), kind="stable")[:count])
        for low, size, count in zip(layout.offsets, layout.sizes, counts_L, strict=False)
    ]
    return Mask(layout.size, np.concatenate(kept).astype(np.int64))
