"""Values as bytes: the rounding of numbers, and the bytes that carry them.

Shapes: N coordinates of the layout, n kept ones (the values), R modules with at least one kept value.
All bytes are little-endian. Values are finite and remain finite: a number that a type cannot hold (NaN,
infinity, or a number that rounds to infinity) raises WireError.

| type     | bytes/value | rounding                                                              |
|----------|-------------|-----------------------------------------------------------------------|
| float32  | 4           | none                                                                  |
| bfloat16 | 2           | upper half of float32, nearest, ties to even                          |
| float16  | 2           | IEEE 754 binary16, nearest, ties to even                              |
| int8     | 1           | round(v / scale), one float32 scale = max|v| / 127 per module         |
| byte     | 1           | none (uint8)                                                          |
"""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from emulator.core.errors import WireError
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import ByteArray, FloatArray, IndexArray
from emulator.core.types.message import ValueType

VALUE_BYTES = MappingProxyType(
    {
        ValueType.FLOAT32: 4,
        ValueType.BFLOAT16: 2,
        ValueType.FLOAT16: 2,
        ValueType.INT8: 1,
        ValueType.BYTE: 1,
    }
)
"""Bytes of one value on the wire, without int8 scales."""

_BLOCK = 1 << 16
"""Values that are rounded at a time, so that temporaries stay in the cache."""

_BFLOAT16_OVERFLOW = np.uint32(0x7F7F8000)
"""The least magnitude bits of a float32 that rounds to infinity; those of NaN and infinity are larger."""


def round_trip(values: FloatArray | ByteArray, value_type: ValueType) -> FloatArray | ByteArray:
    """The values as the receiver gets them, for types that round each value separately.

    values: any shape. Laws: round_trip is idempotent, and decode(encode(m)) gives round_trip(values).
    Raises WireError for a value that the type cannot hold, and for INT8, whose scales need the layout
    (use `quantise`).
    """
    raw = write_values(values.reshape(-1), value_type)
    return read_values(raw, value_type).reshape(values.shape)


def quantise(
    values_n: FloatArray | ByteArray, value_type: ValueType, layout: AdapterLayout, mask: Mask
) -> FloatArray | ByteArray:
    """The kept values [n] as the receiver gets them, for every type.

    Law: decode(encode(m)).values[m.mask.indices] equals quantise(m.values, …) bit for bit.
    Raises WireError for a value that the type cannot hold.
    """
    if value_type is not ValueType.INT8:
        return round_trip(values_n, value_type)
    scaled = scale_by_module(np.asarray(values_n, dtype=np.float32), layout, mask.indices)
    return read_scaled(scaled.levels_n, scaled.scales, scaled.module_n)


def write_values(values_n: FloatArray | ByteArray, value_type: ValueType) -> ByteArray:
    """Write n values as bytes [n * VALUE_BYTES]; the result may share memory with the argument."""
    if value_type is ValueType.BYTE:
        if values_n.dtype != np.uint8:
            raise WireError(f"values: got {values_n.dtype}, wanted uint8 for raw bytes")
        return np.ascontiguousarray(values_n, dtype=np.uint8)
    floats_n = np.ascontiguousarray(values_n, dtype=np.float32)
    if value_type is ValueType.FLOAT32:
        _require_finite(floats_n, value_type)
        return floats_n.astype("<f4", copy=False).view(np.uint8)
    if value_type is ValueType.BFLOAT16:
        return _bfloat16(floats_n).astype("<u2", copy=False).view(np.uint8)
    if value_type is ValueType.FLOAT16:
        with np.errstate(over="ignore", invalid="ignore"):
            halves_n = floats_n.astype("<f2")
        _require_finite(halves_n, value_type)
        return halves_n.view(np.uint8)
    raise WireError("values: got int8 without a layout, wanted one (its scales are per module)")


def read_values(raw: ByteArray, value_type: ValueType) -> FloatArray | ByteArray:
    """Read values from their bytes into new memory. Raises WireError if a value is not finite."""
    if value_type is ValueType.BYTE:
        return raw.copy()
    if value_type is ValueType.FLOAT32:
        floats_n = raw.view("<f4").astype(np.float32)
    elif value_type is ValueType.BFLOAT16:
        bits_n = raw.view("<u2").astype(np.uint32)
        np.left_shift(bits_n, 16, out=bits_n)
        floats_n = bits_n.view(np.float32)
    elif value_type is ValueType.FLOAT16:
        floats_n = raw.view("<f2").astype(np.float32)
    else:
        raise WireError("values: got int8 without scales, wanted them")
    _require_finite(floats_n, value_type)
    return floats_n


@dataclass(frozen=True, eq=False)
class Scaled:
    """int8 levels [n] in -127 … 127, the scale of each module [R], and the module of each value [n]."""

    levels_n: NDArray[np.int8]
    scales: FloatArray
    module_n: IndexArray


def scale_by_module(values_n: FloatArray, layout: AdapterLayout, indices_n: IndexArray) -> Scaled:
    """Round values to int8 levels, with one scale = max|v| / 127 per tensor of the layout that keeps a value.

    Law: |level * scale - v| <= scale / 2 up to float32 rounding; a module of zeros has scale 0.
    """
    counts = _entries_by_module(indices_n, layout)
    counts_R = counts[counts > 0]
    starts_R = np.cumsum(counts_R) - counts_R
    if not counts_R.size:
        none = np.zeros(0, dtype=np.int64)
        return Scaled(np.zeros(0, dtype=np.int8), np.zeros(0, dtype=np.float32), none)
    _require_finite(values_n, ValueType.INT8)
    scales_R: FloatArray = np.maximum.reduceat(np.abs(values_n), starts_R)
    scales_R /= np.float32(127)
    with np.errstate(over="ignore"):
        _require_finite(scales_R * np.float32(127), ValueType.INT8)
    divisor_n = np.repeat(np.where(scales_R > 0, scales_R, np.float32(1)), counts_R)
    levels_n = np.rint(np.divide(values_n, divisor_n, out=divisor_n), out=divisor_n)
    # A subnormal scale is rounded coarsely, so that v / scale may exceed 127.
    np.clip(levels_n, -127, 127, out=levels_n)
    module_n = np.repeat(np.arange(counts_R.size, dtype=np.int64), counts_R)
    return Scaled(levels_n.astype(np.int8), scales_R, module_n)


def find_modules(indices_n: IndexArray, layout: AdapterLayout) -> IndexArray:
    """Find the tensor of the layout that holds each of some sorted coordinates [n]."""
    return np.repeat(
        np.arange(len(layout.sizes), dtype=np.int64), _entries_by_module(indices_n, layout)
    )


def count_tensors(indices_n: IndexArray, layout: AdapterLayout) -> int:
    """Count the tensors of the layout in which some sorted coordinates lie: the scales of int8."""
    return int(np.count_nonzero(_entries_by_module(indices_n, layout)))


def read_scaled(
    levels_n: NDArray[np.int8], scales_R: FloatArray, module_n: IndexArray
) -> FloatArray:
    """Compute values from int8 levels and scales. Raises WireError if a value is not finite.

    module_n: the index in scales_R of the scale of each value.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values_n = levels_n.astype(np.float32) * scales_R[module_n]
    _require_finite(values_n, ValueType.INT8)
    return values_n


def _entries_by_module(indices_n: IndexArray, layout: AdapterLayout) -> IndexArray:
    """Number of the sorted coordinates in each tensor."""
    return np.diff(np.searchsorted(indices_n, np.asarray(layout.offsets, dtype=np.int64)))


def _bfloat16(floats_n: FloatArray) -> NDArray[np.uint16]:
    """Upper halves of float32, rounded to nearest, ties to even."""
    halves_n = np.empty(floats_n.size, dtype=np.uint16)
    bits_n = floats_n.view(np.uint32)
    work = np.empty(min(_BLOCK, floats_n.size), dtype=np.uint32)
    for low in range(0, floats_n.size, _BLOCK):
        bits = bits_n[low : low + _BLOCK]
        block = work[: bits.size]
        np.bitwise_and(bits, 0x7FFFFFFF, out=block)
        if block.max() >= _BFLOAT16_OVERFLOW:
            raise WireError(_not_finite(floats_n, block >= _BFLOAT16_OVERFLOW, low, "bfloat16"))
        # Adding 0x7FFF plus the lowest kept bit carries exactly if the rest is above a half, or equal
        # to a half and the kept part is odd.
        np.right_shift(bits, 16, out=block)
        np.bitwise_and(block, 1, out=block)
        np.add(block, 0x7FFF, out=block)
        np.add(block, bits, out=block)
        np.right_shift(block, 16, out=block)
        halves_n[low : low + _BLOCK] = block
    return halves_n


def _require_finite(values_n: NDArray[np.floating], value_type: ValueType) -> None:
    """Raise a WireError that names the first value that is NaN or infinite (after rounding)."""
    finite_n = np.isfinite(values_n)
    if not finite_n.all():
        raise WireError(_not_finite(values_n, ~finite_n, 0, value_type.name.lower()))


def _not_finite(
    values_n: NDArray[np.floating], bad: NDArray[np.bool_], low: int, type_name: str
) -> str:
    where = low + int(np.argmax(bad))
    return f"values[{where}]: got {values_n[where]}, wanted a number that {type_name} can hold"
