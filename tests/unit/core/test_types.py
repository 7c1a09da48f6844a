"""Plain data: a layout splits and joins, a mask is one set in two forms."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import Coordinate, Kind, Known, Received, Traffic
from emulator.core.types.records import LinkRecord


@st.composite
def layouts(draw):
    shapes = draw(st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), max_size=5))
    return AdapterLayout(tuple(f"m{i}" for i in range(len(shapes))), tuple(shapes))


def vector_of(layout):
    return np.arange(1, layout.size + 1, dtype=np.float32)


@given(layouts())
def test_join_is_the_inverse_of_split(layout):
    vector_N = vector_of(layout)
    tensors = layout.split(vector_N)
    assert list(tensors) == list(layout.names)
    assert tuple(tensor.shape for tensor in tensors.values()) == layout.shapes
    joined = layout.join(tensors)
    assert joined.dtype == np.float32
    assert np.array_equal(joined, vector_N)


@given(layouts())
def test_sizes_and_offsets_tile_the_vector(layout):
    assert layout.offsets == (0, *np.cumsum(layout.sizes, dtype=int).tolist())
    assert layout.size == sum(layout.sizes)


def test_split_gives_views_and_join_a_copy():
    layout = AdapterLayout(("a", "b"), ((2, 2), (3,)))
    vector_N = vector_of(layout)
    tensors = layout.split(vector_N)
    tensors["b"][0] = 50.0
    assert vector_N[4] == 50.0
    joined = layout.join(tensors)
    joined[0] = 9.0
    assert vector_N[0] == 1.0


def test_join_takes_the_order_of_the_layout_and_rows_of_any_array():
    layout = AdapterLayout(("a", "b"), ((2, 3), (1,)))
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    joined = layout.join({"b": np.array([7.0]), "a": np.asfortranarray(rows), "c": rows})
    assert joined.tolist() == [0, 1, 2, 3, 4, 5, 7]


@given(layouts(), layouts())
def test_digests_name_layouts(one, other):
    assert (one.digest == other.digest) == (one == other)
    assert len(one.digest) == 8


dense_masks = arrays(np.bool_, st.integers(0, 40))


@given(dense_masks)
def test_a_mask_is_one_set_in_two_forms(kept_N):
    mask = Mask.from_dense(kept_N)
    assert np.array_equal(mask.dense, kept_N)
    assert np.array_equal(mask.indices, np.flatnonzero(kept_N))
    assert mask.count == int(kept_N.sum())
    assert mask.size == kept_N.size
    assert mask.density == (kept_N.mean() if kept_N.size else 0.0)
    assert mask.is_full == bool(kept_N.all())


@given(dense_masks, dense_masks)
def test_digests_name_masks(one, other):
    equal = np.array_equal(one, other)
    assert (Mask.from_dense(one).digest == Mask.from_dense(other).digest) == equal


@given(st.integers(0, 50))
def test_a_full_mask_is_the_one_that_keeps_everything(size):
    full = Mask.full(size)
    assert full.is_full
    assert full.digest == Mask.from_dense(np.ones(size, dtype=np.bool_)).digest


def test_known_sorts_masks_and_layouts():
    layout, mask = AdapterLayout(("a",), ((2,),)), Mask.full(2)
    known = Known.of(mask, layout)
    assert known.masks == {mask.digest: mask}
    assert known.layouts == {layout.digest: layout}
    assert Known.of() == Known()


def test_received_coordinates_and_completeness():
    def with_status(*status):
        values = np.zeros(len(status), dtype=np.float32)
        return Received(
            Kind.VALUES, Traffic.IN_CLUSTER, 0, 0, 0, 0.0, b"", values,
            np.array(status, dtype=np.uint8),
        )  # fmt: skip

    whole = with_status(Coordinate.RECEIVED, Coordinate.NOT_SENT)
    assert whole.received.tolist() == [True, False]
    assert whole.complete
    torn = with_status(Coordinate.RECEIVED, Coordinate.LOST)
    assert torn.received.tolist() == [True, False]
    assert not torn.complete


def test_sent_bytes_are_the_sum_of_their_classes():
    record = LinkRecord(
        exchange_index=0, round_index=0, traffic="setup", sender=0, receiver=1, messages=1,
        packets=1, packets_lost=0, attempts=1, header_bytes=1, checksum_bytes=10, mask_bytes=100,
        payload_bytes=1000, retransmitted_bytes=10_000, ack_bytes=5, lost_bytes=7,
        delivered_bytes=11_104, start_s=0.0, arrival_s=0.0, airtime_s=0.0, bandwidth_hz=1.0,
        tx_power_w=0.0, energy_j=0.0, late=False,
    )  # fmt: skip
    assert record.sent_bytes == 11_111
    with pytest.raises(FrozenInstanceError):
        record.sender = 2
