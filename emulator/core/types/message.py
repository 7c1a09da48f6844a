"""Messages: what a device sends to others in one exchange, and what a receiver gets.

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
    """The subject of a message."""

    INTRODUCTION = 1
    MASK = 2
    STATISTICS = 3
    VALUES = 4
    EXPERT = 5


class Traffic(IntEnum):
    """The part of the byte account to which a message belongs."""

    SETUP = 0
    IN_CLUSTER = 1
    INTER_CLUSTER = 2
    CONTROL = 3


class ValueType(IntEnum):
    """The encoding of one value on the wire."""

    FLOAT32 = 1
    BFLOAT16 = 2
    FLOAT16 = 3
    INT8 = 4
    BYTE = 5
    """Raw bytes (an introduction): `values` is uint8 and `layout` has one entry per byte."""


@dataclass(frozen=True, eq=False)
class Message:
    """What one device sends to some others in one exchange.

    A message concerns the coordinates `mask` of a vector that `layout` describes. `values` [n] are the
    values there, in coordinate order (float32, or uint8 for ValueType.BYTE); None sends the mask alone.
    With `mask_known` the receivers hold the mask already, and only its digest is sent. `reliable`
    messages are repeated until they arrive; lost packets of other messages stay lost. `source` is the
    device that sends the message, `origin` the device whose content it is (they differ when content is
    passed on).
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
    """The status of one coordinate of a message at its receiver."""

    NOT_SENT = 0
    RECEIVED = 1
    LOST = 2


@dataclass(frozen=True, eq=False)
class Received:
    """A message as it arrived. It holds no NaN, and `status` distinguishes a lost value from a value of 0.

    values: [N], zero wherever status is not RECEIVED (float32; uint8 for ValueType.BYTE).
    status: [N] uint8 of `Coordinate`. Where a lost packet carried its own piece of the mask, all
    coordinates of its range are LOST, because the receiver cannot know which of them it held.
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
"""What a message may name by its digest alone, where the receivers hold it."""


@dataclass(frozen=True)
class Known:
    """The masks and layouts that a receiver holds already and needs for decoding, by digest."""

    masks: Mapping[bytes, Mask] = field(default_factory=dict)
    layouts: Mapping[bytes, AdapterLayout] = field(default_factory=dict)

    @classmethod
    def of(cls, *things: Fact) -> "Known":
        """The masks and layouts among the arguments, each by its digest."""
        return cls(
            {x.digest: x for x in things if isinstance(x, Mask)},
            {x.digest: x for x in things if isinstance(x, AdapterLayout)},
        )
