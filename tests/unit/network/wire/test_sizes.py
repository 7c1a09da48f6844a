"""Sizes from counts alone are those of the packets that the codec makes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import Kind, Message, Traffic, ValueType
from emulator.core.types.packet import ACK_BYTES, IP_UDP_BYTES, ack_bytes
from emulator.network.wire import WireFormat, count_tensors
from emulator.network.wire.packets import HEAD_BYTES, SCALE_BYTES
from emulator.network.wire.sizes import Counts, estimate_size, random_mask_bits

LAYOUT = AdapterLayout(tuple("abcd"), ((70, 80), (1,), (3000,), (16, 64)))
PLAIN = [ValueType.FLOAT32, ValueType.BFLOAT16, ValueType.FLOAT16]


def message(density, value_type, *, mask_known, seed=0, values=True):
    draws = np.random.default_rng(seed)
    mask = Mask.from_dense(draws.random(LAYOUT.size) < density)
    values_n = draws.standard_normal(mask.count).astype(np.float32) if values else None
    return Message(
        Kind.VALUES, Traffic.IN_CLUSTER, 0, 0, 0, (1,), LAYOUT, mask, values_n, value_type,
        mask_known=mask_known, reliable=False,
    )  # fmt: skip


def made(said, mtu_bytes=1500, codec="smallest"):
    """(data packets, their bytes on the air, bytes of mask) as the codec makes them."""
    packets = WireFormat(mtu_bytes=mtu_bytes, mask_codec=codec).encode(said)[1:]
    return len(packets), sum(p.air_bytes for p in packets), sum(p.mask_bytes for p in packets)


def room(mtu_bytes=1500):
    return WireFormat(mtu_bytes=mtu_bytes).room_bytes


@given(
    st.sampled_from([0.0, 0.001, 0.2, 1.0]),
    st.sampled_from(PLAIN),
    st.integers(256, 9000),
    st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_values_of_known_coordinates_are_exact(density, value_type, mtu_bytes, seed):
    said = message(density, value_type, mask_known=True, seed=seed)
    size = estimate_size(Counts(said.mask.count, value_type), room(mtu_bytes))
    assert (size.packets, size.air_bytes) == made(said, mtu_bytes)[:2]


@given(st.sampled_from([0.001, 0.2, 1.0]), st.integers(256, 9000), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_int8_is_exact_but_for_packets_that_end_with_a_tensor(density, mtu_bytes, seed):
    said = message(density, ValueType.INT8, mask_known=True, seed=seed)
    tensors = count_tensors(said.mask.indices, LAYOUT)
    size = estimate_size(Counts(said.mask.count, ValueType.INT8, tensors), room(mtu_bytes))
    packets, air_bytes, _ = made(said, mtu_bytes)
    assert size.packets == packets
    too_many = (size.air_bytes - air_bytes) / SCALE_BYTES
    assert too_many in range(tensors)


@pytest.mark.parametrize("values", [True, False], ids=["with values", "alone"])
@pytest.mark.parametrize("value_type", [ValueType.BFLOAT16, ValueType.INT8])
@pytest.mark.parametrize("density", [0.02, 0.1, 0.5])
def test_mask_pieces_are_nearly_right(density, value_type, values):
    said = message(density, value_type, mask_known=False, values=values)
    packets, air_bytes, mask_bytes = made(said)
    of_values = value_type if values else None
    tensors = count_tensors(said.mask.indices, LAYOUT)
    size = estimate_size(Counts(said.mask.count, of_values, tensors, 8.0 * mask_bytes), room())
    assert size.packets == packets
    assert size.air_bytes == pytest.approx(air_bytes, abs=SCALE_BYTES)


def test_a_list_of_coordinates_is_four_bytes_more_an_entry():
    assert estimate_size(Counts(1000, ValueType.FLOAT32, index_bytes=4), 1452).packets == math.ceil(
        1000 / 181
    )
    assert estimate_size(Counts(1000, None, index_bytes=4), 1452) == estimate_size(
        Counts(1000, ValueType.FLOAT32), 1452
    )


def test_nothing_needs_no_packet():
    for counts in (Counts(0, ValueType.INT8), Counts(7, None), Counts(0, None, mask_bits=3.0)):
        assert estimate_size(counts, 1452).packets == estimate_size(counts, 1452).air_bytes == 0


def test_an_acknowledgement_has_a_bit_for_each_packet():
    assert ACK_BYTES == IP_UDP_BYTES + HEAD_BYTES
    assert [ack_bytes(n) - ACK_BYTES for n in (0, 1, 8, 9, 16, 17)] == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("density", [0.01, 0.1, 0.38, 0.9])
def test_a_random_mask_costs_what_is_expected(density):
    mask = message(density, ValueType.FLOAT32, mask_known=False, values=False).mask
    counts = []
    for seed in range(30):
        said = message(density, ValueType.FLOAT32, mask_known=False, seed=seed, values=False)
        counts.append(8 * made(said)[2] / max(1, said.mask.count))
    entropy = -(density * math.log2(density) + (1 - density) * math.log2(1 - density)) / density
    assert random_mask_bits(density) == pytest.approx(np.mean(counts), rel=0.03)
    assert entropy <= random_mask_bits(density) <= max(1.05 * entropy, 1 / density)
    assert mask.size == LAYOUT.size


def test_a_full_mask_costs_a_bit_an_entry():
    assert random_mask_bits(1.0) == 1.0
