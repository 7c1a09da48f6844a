"""States of devices as files: a state is read back unchanged, and damaged bytes are refused."""

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.core.state_file import read_state, write_state
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import Coordinate, Kind, Received, Traffic

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TREES = st.recursive(
    PLAIN | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text(), inner, max_size=3)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=8,
)


@given(TREES)
def test_trees_come_back(tree: Any) -> None:
    again = read_state(write_state(tree))
    assert again == tree
    assert type(again) is type(tree)


def test_arrays_and_records_come_back_and_what_is_one_array_stays_one() -> None:
    values_N = np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2]
    status_N = np.array([Coordinate.RECEIVED, Coordinate.LOST], dtype=np.uint8)
    received = Received(Kind.VALUES, Traffic.SETUP, 1, 2, -1, 0.5, b"12345678", values_N, status_N)
    tree = {
        3: received,
        "mask": Mask(9, np.array([1, 4])),
        "layout": AdapterLayout(("a", "b"), ((2, 3), (4,))),
        "twice": (values_N, values_N),
        "none": np.zeros(0, dtype=np.float32),
    }
    again = read_state(write_state(tree))
    assert again["layout"] == tree["layout"]
    assert again["mask"].indices.tolist() == [1, 4]
    assert again["twice"][0] is again["twice"][1]
    assert again["none"].shape == (0,)
    assert (again[3].kind, again[3].traffic) == (Kind.VALUES, Traffic.SETUP)
    assert again[3].layout_digest == b"12345678"
    np.testing.assert_array_equal(again[3].values, values_N)
    assert again[3].status.dtype == np.uint8


def test_equal_trees_give_equal_bytes() -> None:
    first, second = ({"a": np.ones(3), "b": (1, 2.5, float("inf"))} for _ in range(2))
    assert write_state(first) == write_state(second)


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="a state cannot hold object"):
        write_state({"a": [object()]})


@given(st.data())
def test_damaged_bytes_are_refused(data: st.DataObject) -> None:
    """Cut off, or with one byte changed: an error, or (where the byte is a value) another tree."""
    whole = write_state({"a": np.ones(3, dtype=np.float32), "b": (1, frozenset({2}))})
    with pytest.raises(ValueError):
        read_state(whole[: data.draw(st.integers(0, len(whole) - 1))])
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ValueError):
        read_state(bytes(changed))
