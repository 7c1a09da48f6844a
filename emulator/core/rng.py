"""Keyed randomness: what is drawn depends on its name, never on who draws it or when.

`stream(seed, "fading", block, low_id, high_id)` gives the same generator in every process, so any
device can recompute any draw without a message, and starting order, driver and load change nothing.
"""

import hashlib

import numpy as np

Stream = np.random.Generator


def key(seed: int, purpose: str, *ids: int) -> bytes:
    """16 bytes that name a draw.

    Law: different (seed, purpose, ids) give different keys, up to collisions of BLAKE2b-128.
    """
    text = "/".join((str(int(seed)), purpose, *(str(int(i)) for i in ids)))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def stream(seed: int, purpose: str, *ids: int) -> Stream:
    """A Philox generator of its own for one named draw."""
    return np.random.Generator(
        np.random.Philox(key=int.from_bytes(key(seed, purpose, *ids), "little"))
    )


def torch_seed(seed: int, purpose: str, *ids: int) -> int:
    """A seed for `torch.manual_seed`, for the draws that libraries make themselves."""
    return int.from_bytes(key(seed, purpose, *ids)[:7], "little")
