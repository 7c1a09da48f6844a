"""What one device sends to others in one exchange, and how it arrives.

Shapes: N coordinates of the flat vector, n coordinates that a mask keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

import numpy as np

from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import BoolArray, ByteArray, FloatArray


class Kind(IntEnum):
    """What a message is about."""

    INTRODUCTION = 1
    MASK = 2
    STATISTICS = 3
    VALUES = 4
    EXPERT = 5


class Traffic(IntEnum):
    """To which part of the account a message belongs."""

    SETUP = 0
    IN_CLUSTER = 1
    INTER_CLUSTER = 2
    CONTROL = 3


class ValueType(IntEnum):
    """How one value is written on the wire."""

    FLOAT32 = 1
    BFLOAT16 = 2
    FLOAT16 = 3
    INT8 = 4
    BYTE = 5
    """Raw bytes (an introduction): `values` is uint8 and `layout` has one entry per byte."""


@dataclass(frozen=True, eq=False)
class Message:
    """What one device says to some others in one exchange.

    It speaks of the coordinates `mask` of a vector described by `layout`. `values` [n] are theirs, in
    coordinate order (float32, or uint8 for ValueType.BYTE); None sends the mask alone. With
    `mask_known` the receivers hold the mask already and only its digest is sent. `reliable` messages
    are repeated until they arrive; of the others, lost packets stay lost. `source` puts it on the
    air; `origin` is whose knowledge it is (they differ when it is relayed).
    """

    kind: Kind
    traffic: Traffic
    source: int
    origin: int
    round_index: int
    receivers: tuple[int, ...]
    layout: AdapterLayout
    mask: Mask
    values: FloatArray | ByteArray | None
    value_type: ValueType
    mask_known: bool
    reliable: bool


class Coordinate(IntEnum):
    """What a receiver knows of one coordinate of a message."""

    NOT_SENT = 0
    RECEIVED = 1
    LOST = 2


@dataclass(frozen=True, eq=False)
class Received:
    """A message as it arrived: never NaN, never a silent zero.

    values: [N], zero wherever status is not RECEIVED (float32; uint8 for ValueType.BYTE).
    status: [N] uint8 of `Coordinate`. Where a lost packet carried its own piece of mask, all
    coordinates of its range are LOST: nobody can know which of them it held.
    """

    kind: Kind
    traffic: Traffic
    source: int
    origin: int
    round_index: int
    arrival_s: float
    layout_digest: bytes
    values: FloatArray | ByteArray
    status: ByteArray

    @cached_property
    def received(self) -> BoolArray:
        """[N] True where a value (or, for a mask alone, a kept coordinate) arrived."""
        return np.equal(self.status, Coordinate.RECEIVED)

    @property
    def complete(self) -> bool:
        """Whether no coordinate was lost."""
        return not bool((self.status == Coordinate.LOST).any())


Fact = Mask | AdapterLayout
"""What a message may name by its digest where the receivers hold it."""


@dataclass(frozen=True)
class Known:
    """What a receiver holds already and needs for decoding, by digest."""

    masks: Mapping[bytes, Mask] = field(default_factory=dict)
    layouts: Mapping[bytes, AdapterLayout] = field(default_factory=dict)

    @classmethod
    def of(cls, *things: Fact) -> "Known":
        """Sort things by kind and digest."""
        return cls(
            {x.digest: x for x in things if isinstance(x, Mask)},
            {x.digest: x for x in things if isinstance(x, AdapterLayout)},
        )
