"""Array types of all packages, and digests of bytes."""

import hashlib

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

DoubleArray = NDArray[np.float64]

BoolArray = NDArray[np.bool_]

IndexArray = NDArray[np.int64]

ByteArray = NDArray[np.uint8]


def digest_of(*parts: bytes) -> bytes:
    """8 bytes of BLAKE2b over length-prefixed parts."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
