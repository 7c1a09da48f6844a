"""Laws of the value types, against struct (IEEE) and a scalar bfloat16."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emulator.core.errors import WireError
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import ValueType
from emulator.network.wire import quantise, round_trip
from emulator.network.wire.quantisation import find_modules, read_values, write_values

ROUNDED = (ValueType.FLOAT32, ValueType.BFLOAT16, ValueType.FLOAT16)
HALF_RANGE = st.floats(-60000, 60000, width=32)


def slow_bfloat16(value: float) -> float:
    """Nearest of the two neighbours that keep the upper half of the bits; ties to the even one."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    low, rest = bits & 0xFFFF0000, bits & 0xFFFF
    up = rest > 0x8000 or (rest == 0x8000 and (low >> 16) & 1)
    return struct.unpack("<f", struct.pack("<I", low + 0x10000 * up))[0]


@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), max_size=50))
def test_bfloat16_rounds_to_the_nearest_even(values):
    got = round_trip(np.array(values, dtype=np.float32), ValueType.BFLOAT16)
    np.testing.assert_array_equal(got, np.array([slow_bfloat16(v) for v in values], np.float32))


@given(st.lists(HALF_RANGE, max_size=50))
def test_float16_bytes_are_ieee_little_endian(values):
    raw = write_values(np.array(values, dtype=np.float32), ValueType.FLOAT16)
    assert raw.tobytes() == struct.pack(f"<{len(values)}e", *values)


@pytest.mark.parametrize("value_type", ROUNDED)
@given(values=hnp.arrays(np.float32, st.integers(0, 40), elements=HALF_RANGE))
def test_rounding_twice_is_rounding_once(value_type, values):
    before = values.copy()
    once = round_trip(values, value_type)
    np.testing.assert_array_equal(round_trip(once, value_type), once)
    np.testing.assert_array_equal(values, before)
    assert not np.shares_memory(once, values)
    limit = {ValueType.FLOAT32: 0.0, ValueType.BFLOAT16: 2.0**-8, ValueType.FLOAT16: 2.0**-11}
    assert np.all(np.abs(once - values) <= limit[value_type] * np.abs(values) + 2.0**-25)


def test_blocks_join_seamlessly():
    values = np.random.default_rng(0).standard_normal(200_001).astype(np.float32)
    whole = round_trip(values, ValueType.BFLOAT16)
    parts = [round_trip(values[i : i + 999], ValueType.BFLOAT16) for i in range(0, 200_001, 999)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("value_type", [*ROUNDED, ValueType.INT8])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_place(value_type, bad):
    values = np.zeros(70_000, dtype=np.float32)
    values[69_999] = bad
    layout = AdapterLayout(("B",), ((70_000,),))
    with pytest.raises(WireError, match=r"values|int8"):
        quantise(values, value_type, layout, Mask.full(70_000))


@pytest.mark.parametrize(
    ("value_type", "largest", "too_large"),
    [
        (ValueType.FLOAT16, 65519.0, 65520.0),
        (ValueType.BFLOAT16, 3.3953e38, 3.3962e38),
        (ValueType.FLOAT32, 3.4028e38, np.inf),
    ],
)
def test_what_would_round_to_infinity_is_refused(value_type, largest, too_large):
    assert np.isfinite(round_trip(np.array([largest, -largest], np.float32), value_type)).all()
    with pytest.raises(WireError, match=rf"values\[1\].*{value_type.name.lower()}"):
        round_trip(np.array([0.0, too_large], np.float32), value_type)


@pytest.mark.parametrize("value_type", ROUNDED)
def test_bytes_that_spell_nan_are_refused(value_type):
    with pytest.raises(WireError, match="nan"):
        read_values(np.full(8, 0xFF, dtype=np.uint8), value_type)


def test_bytes_travel_as_they_are():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(round_trip(values, ValueType.BYTE), values)
    with pytest.raises(WireError, match="uint8"):
        round_trip(values.astype(np.float32), ValueType.BYTE)


LAYOUT = AdapterLayout(("a", "empty", "b", "c"), ((3, 4), (0, 4), (5, 2), (1,)))


@given(st.integers(0, 2**32), st.floats(0, 1), st.sampled_from([1.0, 1e-40, 1e37, 1e-20]))
def test_int8_errs_by_half_a_scale_of_its_own_module(seed, density, size):
    rng = np.random.default_rng(seed)
    mask = Mask.from_dense(rng.random(LAYOUT.size) < density)
    values = (size * rng.standard_normal(mask.count)).astype(np.float32)
    got = quantise(values, ValueType.INT8, LAYOUT, mask)
    dense, rounded = np.zeros((2, LAYOUT.size), dtype=np.float32)
    dense[mask.indices], rounded[mask.indices] = values, got
    for low, high in zip(LAYOUT.offsets, LAYOUT.offsets[1:], strict=False):
        scale = np.abs(dense[low:high]).max(initial=0.0) / np.float32(127)
        error = np.abs(rounded[low:high] - dense[low:high])
        # 1.4e-45 is the spacing of subnormals: a scale may itself be off by half of it.
        assert np.all(error <= 0.5001 * scale + 127 * 1.4e-45)


def test_int8_of_zeros_and_of_nothing():
    zeros = np.zeros(LAYOUT.size, dtype=np.float32)
    assert not quantise(zeros, ValueType.INT8, LAYOUT, Mask.full(LAYOUT.size)).any()
    nothing = Mask(LAYOUT.size, np.zeros(0, dtype=np.int64))
    assert quantise(zeros[:0], ValueType.INT8, LAYOUT, nothing).shape == (0,)


def test_int8_alone_asks_for_a_layout():
    with pytest.raises(WireError, match="int8"):
        round_trip(np.ones(3, dtype=np.float32), ValueType.INT8)


def test_module_of_every_coordinate():
    wanted = [i for i, size in enumerate(LAYOUT.sizes) for _ in range(size)]
    assert find_modules(np.arange(LAYOUT.size), LAYOUT).tolist() == wanted
