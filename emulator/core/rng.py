"""Keyed randomness: a draw depends only on its key, not on the process or the time of the draw.

`stream(seed, "fading", block, low_id, high_id)` gives the same generator in every process. Every device
can therefore repeat any draw without a message, and starting order, driver and load change nothing.
"""

import hashlib

import numpy as np

Stream = np.random.Generator


def key(seed: int, purpose: str, *ids: int) -> bytes:
    """The key of a draw, 16 bytes.

    Law: different (seed, purpose, ids) give different keys, up to collisions of BLAKE2b-128.
    """
    text = "/".join((str(int(seed)), purpose, *(str(int(i)) for i in ids)))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def stream(seed: int, purpose: str, *ids: int) -> Stream:
    """A separate Philox generator for the draw with this key."""
    return np.random.Generator(
        np.random.Philox(key=int.from_bytes(key(seed, purpose, *ids), "little"))
    )


def torch_seed(seed: int, purpose: str, *ids: int) -> int:
    """A seed for `torch.manual_seed`, for draws that libraries make with torch's generator."""
    return int.from_bytes(key(seed, purpose, *ids)[:7], "little")
