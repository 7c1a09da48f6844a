"""Bytes that are not ours: always WireError, never another exception, never accepted."""

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.core.errors import WireError
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import Kind, Known, Message, Traffic, ValueType
from emulator.network.wire import MESSAGE_HEADER_BYTES, WireFormat, decode, split_burst
from emulator.network.wire.mask_coding import MaskCoding
from emulator.network.wire.packets import MessageHeader

LAYOUT = AdapterLayout(("a", "b", "c"), ((300,), (1000,), (700,)))
MASK = Mask.from_dense(np.random.default_rng(5).random(LAYOUT.size) < 0.3)
KNOWN = Known.of(LAYOUT, MASK)


def packets_of(
    value_type: ValueType, mask_known: bool, source: int = 0, interleave: bool = False
) -> list[bytes]:
    values = np.linspace(-1, 1, MASK.count, dtype=np.float32)
    message = Message(
        Kind.VALUES, Traffic.IN_CLUSTER, source, 0, 1, (1,), LAYOUT, MASK, values, value_type,
        mask_known, False,
    )  # fmt: skip
    return [
        packet.data for packet in WireFormat(mtu_bytes=400, interleave=interleave).encode(message)
    ]


MESSAGES = [
    packets_of(value_type, known)
    for value_type in (ValueType.FLOAT32, ValueType.BFLOAT16, ValueType.INT8)
    for known in (False, True)
]
MESSAGES += [
    packets_of(value_type, known, interleave=True)
    for value_type in (ValueType.FLOAT32, ValueType.BFLOAT16)
    for known in (False, True)
]
BURST = b"".join(data for packets in MESSAGES for data in packets)


def read_burst(data: bytes) -> None:
    for packets in split_burst(data):
        decode(packets, KNOWN, 0.0)


def sealed(packets: list[bytearray]) -> list[bytes]:
    """The same packets with checksums that fit."""
    done, start = [], 0
    for packet in packets:
        crc = zlib.crc32(packet[4:], start)
        done.append(crc.to_bytes(4, "little") + bytes(packet[4:]))
        start = int.from_bytes(done[0][:4], "little")
    return done


def test_the_burst_itself_reads():
    read_burst(BURST)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(BURST) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place, change):
    data = bytearray(BURST)
    data[place] ^= change
    with pytest.raises(WireError):
        read_burst(bytes(data))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(BURST) - 1), st.integers(1, 255)), min_size=1))
def test_many_changed_bytes_are_noticed(changes):
    data = bytearray(BURST)
    for place, value in changes:
        data[place] ^= value
    if bytes(data) != BURST:
        with pytest.raises(WireError):
            read_burst(bytes(data))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(BURST) - 1))
def test_a_cut_burst_is_noticed_unless_whole_packets_are_missing(stop):
    ends = np.cumsum([len(data) for packets in MESSAGES for data in packets])
    if stop in (0, *ends):
        read_burst(BURST[:stop])
    else:
        with pytest.raises(WireError):
            read_burst(BURST[:stop])


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_noticed(noise):
    if noise:
        with pytest.raises(WireError):
            read_burst(noise)
    with pytest.raises(WireError):
        decode([noise], KNOWN, 0.0)
    with pytest.raises(WireError):
        decode([MESSAGES[0][0], noise], KNOWN, 0.0)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(MESSAGES), st.data())
def test_a_wrong_sender_with_right_checksums_never_crashes_the_receiver(packets, data):
    """Wrong heads and headers give WireError or a well-formed message, nothing else."""
    forged = [bytearray(packet) for packet in packets]
    victim = data.draw(st.sampled_from(forged))
    head = MESSAGE_HEADER_BYTES if victim is forged[0] else 30
    victim[data.draw(st.integers(4, head - 1))] ^= data.draw(st.integers(1, 255))
    try:
        got = decode(sealed(forged), KNOWN, 0.0)
    except WireError:
        return
    assert got.values.shape == got.status.shape == (LAYOUT.size,)
    assert np.isfinite(got.values).all()
    assert not got.values[~got.received].any()


@pytest.mark.parametrize("packets", MESSAGES)
def test_packets_out_of_place_are_noticed(packets):
    first, one, two, *rest = packets
    other = packets_of(ValueType.FLOAT32, mask_known=False, source=9)
    for wrong in (
        [],
        [one, two],
        [first, two, one],
        [first, one, one],
        [first, one, other[1]],
        [first, first],
        [first, one + b"\0", two, *rest],
        [first, one[:-1], two, *rest],
        [first + b"\0", one],
        [first, b""],
    ):
        with pytest.raises(WireError):
            decode(wrong, KNOWN, 0.0)


def test_a_layout_of_another_size_under_the_same_digest_is_noticed():
    other = Known({}, {LAYOUT.digest: AdapterLayout(("a",), ((7,),))})
    with pytest.raises(WireError, match="size"):
        decode(MESSAGES[0], other, 0.0)
    with pytest.raises(WireError, match="count"):
        decode(MESSAGES[1], Known({MASK.digest: Mask.full(LAYOUT.size)}, {}), 0.0)


@pytest.mark.parametrize("packets", [0, 1, 2**20])
@pytest.mark.parametrize("size", [10_000, 2**30, 2**32 - 1])
@pytest.mark.parametrize(
    ("coding", "value_type", "stride"),
    [
        (MaskCoding.FULL, ValueType.FLOAT32, 0),
        (MaskCoding.FULL, None, 0),
        (MaskCoding.FULL, ValueType.BFLOAT16, 2**20),
        (MaskCoding.GAPS, ValueType.FLOAT32, 0),
        (MaskCoding.GAPS, None, 0),
        (MaskCoding.KNOWN, ValueType.FLOAT32, 0),
    ],
)
def test_a_header_of_many_coordinates_takes_no_memory(
    coding: MaskCoding, value_type: ValueType | None, stride: int, size: int, packets: int
) -> None:
    """78 bytes that are all right by themselves; their layout is not known to the receiver."""
    header = MessageHeader(
        Kind.VALUES, Traffic.IN_CLUSTER, value_type, coding, 0, 0, 0, 1, size, size, packets,
        b"unknown!", b"unknown!", stride,
    )  # fmt: skip
    data = header.seal()
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            decode([data], KNOWN, 0.0)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_000_000
