"""Interleaved messages: against a slow reading of the tables, what they cost and what a loss takes."""

import struct
from bisect import bisect_left
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from toy_messages import values_message

from emulator.core.rng import stream
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import Coordinate, Known, Message, ValueType
from emulator.network.wire import WireFormat, decode, quantise

NOT_SENT, RECEIVED, LOST = (int(state) for state in Coordinate)


def message_of(
    mask: Mask, value_type: ValueType | None, mask_known: bool, modules: int = 4
) -> Message:
    edges = np.linspace(0, mask.size, modules + 1).astype(int)
    layout = AdapterLayout(
        tuple(f"m{i}" for i in range(modules)), tuple((int(s),) for s in np.diff(edges))
    )
    values = np.random.default_rng(mask.count).standard_normal(mask.count).astype(np.float32)
    return values_message(layout, mask, values, value_type, mask_known=mask_known)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Masks at random, in clumps, or on every other coordinate, which starves half of the classes."""
    size = draw(st.one_of(st.integers(0, 20), st.integers(0, 2500)))
    density = draw(st.sampled_from([0.0, 0.005, 0.05, 0.4, 0.9, 1.0]))
    draws = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["iid", "clumps", "even"]))
    luck = draws.random(size)
    if kind == "clumps":
        luck = np.repeat(luck, 64)[:size]
    kept = luck < density
    if kind == "even":
        kept[1::2] = False
    value_type = draw(st.sampled_from([None, ValueType.FLOAT32, ValueType.BFLOAT16]))
    return message_of(Mask.from_dense(kept), value_type, draw(st.booleans()))


def wires() -> st.SearchStrategy[WireFormat]:
    return st.builds(
        WireFormat,
        mtu_bytes=st.sampled_from([256, 300, 1500]),
        mask_codec=st.sampled_from(["smallest", "rice", "bitmap"]),
        interleave=st.just(True),
    )


def data_of(wire: WireFormat, message: Message) -> list[bytes]:
    return [packet.data for packet in wire.encode(message)]


def slow_classes(
    packets: list[bytes], message: Message
) -> tuple[int, list[tuple[int, int, list[int]]]]:
    """The stride, and of each data packet (index, class, kept coordinates), by the definition."""
    stride, coding = struct.unpack_from("<I", packets[0], 16)[0], packets[0][24]
    indices = message.mask.indices.tolist()
    found = []
    for data in packets[1:]:
        index = data[5] << 16 | data[7] << 8 | data[6]
        first, same = struct.unpack_from("<II", data, 12)
        assert same == stride
        if coding == 3:
            kept = [i for i in indices if i % stride == first % stride]
        else:
            kept = indices[bisect_left(indices, first) :: stride]
        assert kept[0] == first
        assert len(kept) == struct.unpack_from("<H", data, 10)[0]
        found.append((index, first % stride, kept))
    return stride, found


def slow_status(
    survivors: list[tuple[int, int, list[int]]], stride: int, packets: int, message: Message
) -> list[int]:
    """Of masks that travel: a class is silent only between two packets with none between them."""
    silent = set()
    ends = [(-1, -1, []), *survivors, (packets, stride, [])]
    for (i, low, _), (j, high, _) in pairwise(ends):
        if j == i + 1:
            silent |= set(range(low + 1, high))
    heard = silent | {c for _, c, _ in survivors}
    return [NOT_SENT if x % stride in heard else LOST for x in range(message.mask.size)]


@settings(max_examples=80, deadline=None)
@given(messages(), wires(), st.integers(0, 2**32), st.sampled_from([0.0, 0.3, 0.8, 1.0]))
def test_any_survivors_decode_as_defined(
    message: Message, wire: WireFormat, seed: int, loss: float
) -> None:
    packets = data_of(wire, message)
    if struct.unpack_from("<I", packets[0], 16)[0] == 0:
        assert len(packets) <= 2
        return
    stride, classes = slow_classes(packets, message)
    assert [index for index, _, _ in classes] == list(range(len(packets) - 1))
    there = np.random.default_rng(seed).random(len(classes)) >= loss
    survivors = [c for c, arrived in zip(classes, there, strict=True) if arrived]
    heard = [packets[0], *(packets[1 + index] for index, _, _ in survivors)]
    got = decode(heard, Known.of(message.mask, message.layout), 1.0)
    if packets[0][24] == 3:
        wanted = np.array(slow_status(survivors, stride, len(classes), message))
    else:
        wanted = np.where(message.mask.dense, LOST, NOT_SENT)
    kept = sorted(i for _, _, coordinates in survivors for i in coordinates)
    wanted[kept] = RECEIVED
    np.testing.assert_array_equal(got.status, wanted)
    if message.values is not None:
        rounded = np.zeros(message.mask.size, dtype=np.float32)
        rounded[message.mask.indices] = quantise(
            message.values, message.value_type, message.layout, message.mask
        )
        np.testing.assert_array_equal(got.values, np.where(wanted == RECEIVED, rounded, 0))


@settings(max_examples=60, deadline=None)
@given(messages(), wires())
def test_packets_fit_their_bytes_add_up_and_all_entries_are_there(
    message: Message, wire: WireFormat
) -> None:
    packets = wire.encode(message)
    for packet in packets:
        assert len(packet.data) <= wire.mtu_bytes - 28
        own = packet.header_bytes + packet.checksum_bytes + packet.mask_bytes + packet.payload_bytes
        assert own == len(packet.data)
    assert all((p.header_bytes, p.checksum_bytes) == (16, 4) for p in packets[1:])
    got = decode([p.data for p in packets], Known.of(message.mask, message.layout), 0.0)
    assert got.complete
    np.testing.assert_array_equal(got.received, message.mask.dense)


@pytest.mark.parametrize("mask_known", [True, False])
def test_every_packet_decodes_alone(mask_known: bool) -> None:
    mask = Mask.from_dense(stream(1, "alone").random(20_000) < 0.3)
    message = message_of(mask, ValueType.BFLOAT16, mask_known)
    first, *others = data_of(WireFormat(interleave=True), message)
    heard = [decode([first, data], Known.of(mask, message.layout), 0.0).received for data in others]
    np.testing.assert_array_equal(np.sum(heard, axis=0), mask.dense)


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_what_both_ends_know_costs_as_much_as_in_ranges(density: float) -> None:
    mask = Mask.from_dense(stream(2, "known").random(50_000) < density)
    message = message_of(mask, ValueType.BFLOAT16, mask_known=True)
    ranges, classes = (WireFormat(interleave=i).encode(message) for i in (False, True))
    assert len(ranges) == len(classes) > 5
    assert sum(p.air_bytes for p in ranges) == sum(p.air_bytes for p in classes)


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5])
def test_gaps_are_as_long_among_every_sth_coordinate(density: float) -> None:
    mask = Mask.from_dense(stream(3, "gaps").random(300_000) < density)
    message = message_of(mask, ValueType.BFLOAT16, mask_known=False)
    ranges, classes = (WireFormat(interleave=i).encode(message) for i in (False, True))
    mask_bytes = [sum(p.mask_bytes for p in packets) for packets in (ranges, classes)]
    air_bytes = [sum(p.air_bytes for p in packets) for packets in (ranges, classes)]
    assert mask_bytes[1] == pytest.approx(mask_bytes[0], rel=0.01)
    assert air_bytes[0] < air_bytes[1] < 1.01 * air_bytes[0]


@pytest.mark.parametrize("mask_known", [True, False])
def test_a_lost_packet_thins_all_modules_equally(mask_known: bool) -> None:
    mask = Mask.from_dense(stream(4, "thin").random(40_000) < 0.25)
    message = message_of(mask, ValueType.BFLOAT16, mask_known, modules=10)
    worst = {}
    for interleave in (False, True):
        packets = data_of(WireFormat(interleave=interleave), message)
        heard = decode(packets[:4] + packets[5:], Known.of(mask, message.layout), 0.0).received
        left = [heard[m].sum() / mask.dense[m].sum() for m in np.split(np.arange(40_000), 10)]
        worst[interleave] = min(left), 1 - 1 / (len(packets) - 1)
    assert worst[False][0] < 0.6
    assert worst[True][0] == pytest.approx(worst[True][1], abs=0.02)


def test_what_must_arrive_and_what_one_packet_holds_stay_as_they_are() -> None:
    mask = Mask.from_dense(stream(5, "same").random(20_000) < 0.3)
    dealt = message_of(mask, ValueType.BFLOAT16, mask_known=True)
    few = message_of(Mask.full(100), ValueType.BFLOAT16, mask_known=True)
    scaled = replace(dealt, value_type=ValueType.INT8)
    for message in (replace(dealt, reliable=True), few, scaled):
        assert data_of(WireFormat(interleave=True), message) == data_of(WireFormat(), message)
    assert data_of(WireFormat(interleave=True), dealt) != data_of(WireFormat(), dealt)


def test_int8_keeps_to_ranges() -> None:
    with pytest.raises(ValidationError, match="scales of all modules"):
        WireFormat(interleave=True, value_type="int8")
