"""The laws of encode and decode, against a slow codec that reads the byte tables bit by bit."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from toy_messages import values_message

from emulator.core.errors import WireError
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import Coordinate, Known, Message, ValueType
from emulator.network.wire import MESSAGE_HEADER_BYTES, WireFormat, decode, quantise, split_burst

NOT_SENT, RECEIVED, LOST = (int(state) for state in Coordinate)
FORMATS = "\0f\0eb"


def make_message(seed, size, density, value_type, mask_known):
    """A message over four modules, one of them empty; value_type None sends the mask alone."""
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, size + 1, 2))
    sizes = [int(cuts[0]), 0, int(cuts[1] - cuts[0]), int(size - cuts[1])]
    layout = AdapterLayout(tuple("abcd"), tuple((s,) for s in sizes))
    # Half of the masks are clumped: runs of kept coordinates and deserts longer than a packet.
    runs = np.repeat(rng.random(size // 64 + 1), 64)[:size]
    kept = (runs if seed % 2 else rng.random(size)) < density
    mask = Mask.from_dense(kept)
    values = rng.standard_normal(mask.count).astype(np.float32)
    if value_type is ValueType.BYTE:
        values = rng.integers(0, 256, mask.count, dtype=np.uint8)
    return values_message(
        layout, mask, values, value_type, mask_known=mask_known,
        source=3, origin=1, round_index=seed % 1000 - 1, receivers=(0, 2),
    )  # fmt: skip


def messages():
    return st.builds(
        make_message,
        st.integers(0, 2**32),
        st.one_of(st.integers(0, 20), st.integers(0, 6000)),
        st.sampled_from([0.0, 0.002, 0.01, 0.1, 0.4, 0.9, 1.0]),
        st.sampled_from([None, *ValueType]),
        st.booleans(),
    )


def wires():
    return st.builds(
        WireFormat,
        mtu_bytes=st.sampled_from([256, 300, 1500, 9000]),
        mask_codec=st.sampled_from(["smallest", "rice", "bitmap"]),
    )


def slow_mask(piece, count, first, k):
    """Kept coordinates of one piece, bit by bit."""
    bits = "".join(f"{byte:08b}"[::-1] for byte in piece)
    planes, width = divmod(k, 8)
    high_at = len(piece) - planes * count - -(-count * width // 8)
    at, here, kept = 0, first - 1, []
    for j in range(count):
        stop = bits.index("1", at)
        low = 8 * high_at + j * width
        rest = int(bits[low : low + width][::-1] or "0", 2) << (8 * planes)
        rest += sum(piece[len(piece) - (planes - i) * count + j] << (8 * i) for i in range(planes))
        here += ((stop - at) << k) + rest + 1
        kept.append(here)
        at = stop + 1
    return kept


def slow_value(raw, value_type):
    """One value of two or more bytes."""
    if value_type is ValueType.BFLOAT16:
        return struct.unpack("<f", b"\0\0" + raw)[0]
    return struct.unpack({ValueType.FLOAT16: "<e", ValueType.FLOAT32: "<f"}[value_type], raw)[0]


def slow_packet(data, message, coding, k):
    """(coordinates, values) of one data packet by the tables of packets.py and mask_coding.py."""
    _, _, _, _, length, count, first, span = struct.unpack_from("<IBBHHHII", data)
    assert length == len(data)
    indices = message.mask.indices.tolist()
    kept = [i for i in indices if first <= i < first + span]
    if message.values is None:
        return slow_mask(data[20:], count, first, k), [0.0] * count
    values_at, width = 20, {1: 4, 2: 2, 3: 2, 4: 1, 5: 1}[message.value_type]
    if message.value_type is ValueType.INT8:
        scales = struct.unpack_from("<H", data, 20)[0]
        values_at += 2 + 4 * scales
    mask_at = values_at + width * count
    if coding == 3:
        kept = slow_mask(data[mask_at:], count, first, k)
    raws = [data[i : i + width] for i in range(values_at, mask_at, width)]
    if message.value_type is ValueType.INT8:
        offsets = message.layout.offsets
        modules = [max(m for m, low in enumerate(offsets[:-1]) if low <= i) for i in kept]
        order = sorted(set(modules))
        scale = struct.unpack_from(f"<{scales}f", data, 22)
        assert len(order) == scales
        return kept, [
            float(np.float32(struct.unpack("b", raw)[0]) * np.float32(scale[order.index(m)]))
            for raw, m in zip(raws, modules, strict=True)
        ]
    if message.value_type is ValueType.BYTE:
        return kept, [raw[0] for raw in raws]
    return kept, [slow_value(raw, message.value_type) for raw in raws]


def slow_decode(packets, message):
    """(values [N], status [N]) of the surviving packets, given what the receiver knows."""
    coding, k = packets[0][24], packets[0][25]
    total = struct.unpack_from("<I", packets[0], 42)[0]
    size, kept = message.mask.size, message.mask.indices.tolist()
    values, status = [0.0] * size, [LOST if coding == 3 else NOT_SENT] * size
    if coding == 3 and total == 0:
        return values, [NOT_SENT] * size
    if coding != 3:
        state = RECEIVED if total == 0 else LOST
        status = [state if i in set(kept) else NOT_SENT for i in range(size)] if kept else status
    for data in packets[1:]:
        first, span = struct.unpack_from("<II", data, 12)
        if coding == 3:
            index = data[5] << 16 | data[7] << 8 | data[6]
            for i in range(first if index else 0, first + span):
                status[i] = NOT_SENT
        coordinates, got = slow_packet(data, message, coding, k)
        for i, value in zip(coordinates, got, strict=True):
            values[i], status[i] = value, RECEIVED
    return values, status


@settings(max_examples=150, deadline=None)
@given(messages(), wires(), st.integers(0, 2**32), st.sampled_from([0.0, 0.2, 0.7, 1.0]))
def test_any_survivors_decode_as_the_slow_codec_reads_them(message, wire, seed, loss):
    packets = [packet.data for packet in wire.encode(message)]
    lost = np.random.default_rng(seed).random(len(packets)) < loss
    survivors = [data for i, data in enumerate(packets) if i == 0 or not lost[i]]
    got = decode(survivors, Known.of(message.mask, message.layout), 2.5)
    values, status = slow_decode(survivors, message)
    np.testing.assert_array_equal(got.status, status)
    np.testing.assert_array_equal(got.values, np.array(values, dtype=got.values.dtype))
    assert got.values.dtype == (np.float32 if message.values is None else message.values.dtype)
    assert got.status.dtype == np.uint8
    assert (got.kind, got.traffic, got.source, got.origin, got.round_index, got.arrival_s) == (
        message.kind, message.traffic, 3, 1, message.round_index, 2.5,
    )  # fmt: skip
    assert got.layout_digest == message.layout.digest
    assert got.complete == (LOST not in status)


@settings(max_examples=100, deadline=None)
@given(messages(), wires())
def test_all_packets_give_the_message_as_quantise_has_it(message, wire):
    got = decode([p.data for p in wire.encode(message)], Known.of(message.mask, message.layout), 0)
    np.testing.assert_array_equal(got.received, message.mask.dense)
    assert got.complete
    if message.values is not None:
        wanted = quantise(message.values, message.value_type, message.layout, message.mask)
        np.testing.assert_array_equal(got.values[message.mask.indices], wanted)
        assert not got.values[~message.mask.dense].any()


@settings(max_examples=100, deadline=None)
@given(messages(), wires())
def test_bytes_add_up_and_the_message_stays_as_it_was(message, wire):
    indices = message.mask.indices.copy()
    values = None if message.values is None else message.values.copy()
    packets = wire.encode(message)
    np.testing.assert_array_equal(message.mask.indices, indices)
    if values is not None:
        np.testing.assert_array_equal(message.values, values)
    assert wire.encode(message) == packets
    assert packets[0].reliable
    assert len(packets[0].data) == MESSAGE_HEADER_BYTES
    assert (packets[0].header_bytes, packets[0].checksum_bytes) == (MESSAGE_HEADER_BYTES - 4, 4)
    for packet in packets[1:]:
        assert (packet.header_bytes, packet.checksum_bytes) == (16, 4)
        assert len(packet.data) <= wire.mtu_bytes - 28
        assert packet.reliable == message.reliable
    for p in packets:
        own = p.header_bytes + p.checksum_bytes + p.mask_bytes + p.payload_bytes
        assert own == len(p.data)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(messages(), wires()), max_size=4))
def test_a_burst_splits_into_the_packets_of_its_messages(spoken):
    wanted = [[p.data for p in wire.encode(message)] for message, wire in spoken]
    assert split_burst(b"".join(data for packets in wanted for data in packets)) == wanted


@pytest.mark.parametrize(
    ("value_type", "per_packet", "width"),
    [
        (ValueType.FLOAT32, 363, 4),
        (ValueType.BFLOAT16, 726, 2),
        (ValueType.FLOAT16, 726, 2),
        (ValueType.BYTE, 1452, 1),
    ],
)
def test_fixed_sizes_fill_1452_bytes(value_type, per_packet, width):
    message = make_message(0, 5000, 0.9, value_type, mask_known=True)
    packets, n = WireFormat().encode(message), message.mask.count
    assert len(packets) == 1 + -(-n // per_packet)
    assert sum(p.payload_bytes for p in packets) == n * width
    assert not any(p.mask_bytes for p in packets)


def test_int8_pays_four_bytes_for_each_module_a_packet_touches():
    layout = AdapterLayout(("a", "b"), ((1000,), (1000,)))
    values = np.linspace(-1, 1, 2000, dtype=np.float32)
    message = values_message(layout, Mask.full(2000), values, ValueType.INT8, mask_known=False)
    sizes = [p.payload_bytes for p in WireFormat().encode(message)]
    assert sizes == [0, 1452, 2000 - (1452 - 10) + 6]


def test_a_mask_that_needs_no_bytes_has_only_a_header():
    for density, known in ((0.3, True), (1.0, False), (0.0, False)):
        message = make_message(2, 500, density, None, known)
        packets = WireFormat().encode(message)
        assert len(packets) == 1
        got = decode([packets[0].data], Known.of(message.mask), 0.0)
        np.testing.assert_array_equal(got.received, message.mask.dense)


@pytest.mark.parametrize("missing", ["mask", "layout"])
def test_what_the_receiver_lacks_is_named(missing):
    message = make_message(2, 500, 0.5, ValueType.INT8, mask_known=True)
    known = Known.of(message.layout if missing == "mask" else message.mask)
    digest = (message.mask if missing == "mask" else message.layout).digest.hex()
    with pytest.raises(WireError, match=f"{missing} {digest}"):
        decode([p.data for p in WireFormat().encode(message)], known, 0.0)


def test_messages_that_contradict_themselves_are_refused():
    good = make_message(2, 500, 0.5, ValueType.FLOAT32, mask_known=False)
    for change in (
        {"mask": Mask.full(499)},
        {"values": good.values[1:]},
        {"source": 70_000},
        {"round_index": 1 << 40},
    ):
        with pytest.raises(WireError, match="device"):
            WireFormat().encode(Message(**{**vars(good), **change}))


def test_the_section_of_the_scenario():
    assert WireFormat(value_type="int8").number_type is ValueType.INT8
    for wrong in ({"value_type": "float64"}, {"mtu_bytes": 100}, {"codec": "rice"}):
        with pytest.raises(ValidationError):
            WireFormat.model_validate(wrong)


@pytest.mark.parametrize("codec", ["smallest", "rice", "bitmap"])
def test_a_full_vector_decodes_without_a_known_mask(codec):
    """Under every mask codec: an introduction comes before any mask."""
    said = make_message(1, 50, 1.0, ValueType.FLOAT32, mask_known=True)
    packets = WireFormat(mask_codec=codec).encode(said)
    got = decode([packet.data for packet in packets], Known(), 0.0)
    assert np.array_equal(got.values, said.values)
    assert sum(packet.mask_bytes for packet in packets) == 0
