"""The adapter as one flat vector, and masks of its coordinates.

Shapes: N coordinates of the flat vector, n coordinates that a mask keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from emulator.core.types.arrays import BoolArray, FloatArray, IndexArray, digest_of


@dataclass(frozen=True)
class AdapterLayout:
    """Positions of named tensors, one after another and row by row, in one flat vector of N entries."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each tensor."""
        return tuple(int(np.prod(shape, dtype=np.int64)) for shape in self.shapes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First coordinate of each tensor, followed by N."""
        return tuple(int(x) for x in np.concatenate([[0], np.cumsum(self.sizes, dtype=np.int64)]))

    @property
    def size(self) -> int:
        """N, the entries of the whole vector."""
        return self.offsets[-1]

    @cached_property
    def digest(self) -> bytes:
        """8 bytes that differ when names or shapes differ."""
        return digest_of(repr((self.names, self.shapes)).encode())

    def split(self, vector_N: FloatArray) -> dict[str, FloatArray]:
        """Views of the vector by name, each in its shape. `join(split(v))` equals v."""
        return {
            name: vector_N[low : low + size].reshape(shape)
            for name, shape, low, size in zip(
                self.names, self.shapes, self.offsets, self.sizes, strict=False
            )
        }

    def part(self, ending: str) -> "Mask":
        """The mask of all tensors whose name ends with `ending`, e.g. `lora_A`."""
        spans = zip(self.names, self.offsets, self.sizes, strict=False)
        kept = [np.arange(low, low + n) for name, low, n in spans if name.endswith(ending)]
        return Mask(self.size, np.concatenate(kept).astype(np.int64))

    def join(self, tensors: Mapping[str, FloatArray]) -> FloatArray:
        """The flat vector of named tensors (copied)."""
        if not self.names:
            return np.zeros(0, dtype=np.float32)
        return np.concatenate(
            [np.asarray(tensors[name], dtype=np.float32).reshape(-1) for name in self.names]
        )


@dataclass(frozen=True, eq=False)
class Mask:
    """The coordinates that are kept of a vector with `size` entries: sorted, distinct indices [n]."""

    size: int
    indices: IndexArray

    @classmethod
    def full(cls, size: int) -> "Mask":
        """The mask that keeps every coordinate."""
        return cls(size, np.arange(size, dtype=np.int64))

    @classmethod
    def from_dense(cls, kept_N: BoolArray) -> "Mask":
        """The mask of one boolean per coordinate; True means kept."""
        return cls(int(kept_N.size), np.flatnonzero(kept_N).astype(np.int64))

    @cached_property
    def dense(self) -> BoolArray:
        """One boolean per coordinate [N]; True means kept."""
        kept_N = np.zeros(self.size, dtype=np.bool_)
        kept_N[self.indices] = True
        return kept_N

    @property
    def count(self) -> int:
        """n, the number of kept coordinates."""
        return int(self.indices.size)

    @property
    def density(self) -> float:
        """n / N; 0 for an empty vector."""
        return self.count / self.size if self.size else 0.0

    @property
    def is_full(self) -> bool:
        """Whether every coordinate is kept."""
        return self.count == self.size

    @cached_property
    def digest(self) -> bytes:
        """8 bytes that identify this mask in packets (its epoch)."""
        if self.is_full:
            return digest_of(b"full", self.size.to_bytes(8, "little"))
        return digest_of(self.size.to_bytes(8, "little"), self.indices.astype("<i8").tobytes())


LostCoordinates = Literal["keep_own", "renormalise", "last_received", "retransmit", "drop_message"]
"""How a receiver treats coordinates whose packets were lost; methods/loss_policies.py defines each policy."""
