import math
from collections import deque
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.core.errors import ProtocolError
from emulator.core.types.transmission import Burst
from emulator.runtime.transport.frames import (
    FRAME_BYTES,
    HEADER_BYTES,
    Header,
    build_frames,
    read_header,
)
from emulator.runtime.transport.receive_stream import MOST_AHEAD, ReceiveStream

IDS = st.integers(0, 2**32 - 1)


class Wire:
    """Hands over frames in order, each to the receive that was posted first, when it is waited for."""

    def __init__(self) -> None:
        self.frames: deque[torch.Tensor] = deque()
        self.posted = 0

    def post_receive(self, room: torch.Tensor) -> "Wire.Work":
        self.posted += 1
        return Wire.Work(self, room)

    @dataclass
    class Work:
        wire: "Wire"
        room: torch.Tensor

        def wait(self) -> None:
            frame = self.wire.frames.popleft()
            self.room[: frame.numel()] = frame


def carried(burst: Burst, inbound: ReceiveStream, wire: Wire) -> Burst:
    """What a receiver makes of the frames of a burst."""
    wire.frames.extend(build_frames(burst))
    inbound.expect()
    inbound.begin(lambda work: work.wait()).check(
        burst.exchange_index, burst.sender, burst.receiver
    )
    return inbound.finish(lambda work: work.wait())


@given(IDS, IDS, IDS, st.floats(allow_nan=False), st.binary(max_size=300))
def test_a_burst_survives_its_frames(
    sender: int, receiver: int, index: int, arrival_s: float, data: bytes
) -> None:
    burst = Burst(sender, receiver, index, arrival_s, data)
    wire = Wire()
    assert carried(burst, ReceiveStream(wire.post_receive), wire) == burst
    assert [frame.numel() for frame in build_frames(burst)] == [HEADER_BYTES + len(data)]


@pytest.mark.parametrize(
    "size",
    [0, 1, FRAME_BYTES - HEADER_BYTES, FRAME_BYTES - HEADER_BYTES + 1, 2 * FRAME_BYTES, 1_000_003],
)
def test_frames_are_full_and_none_is_padded(size: int) -> None:
    burst = Burst(1, 2, 3, 0.1, bytes(i % 251 for i in range(size)))
    wire = Wire()
    assert carried(burst, ReceiveStream(wire.post_receive), wire) == burst
    frame_bytes = [frame.numel() for frame in build_frames(burst)]
    assert sum(frame_bytes) == HEADER_BYTES + size
    assert len(frame_bytes) == math.ceil((HEADER_BYTES + size) / FRAME_BYTES) == wire.posted
    assert set(frame_bytes[:-1]) <= {FRAME_BYTES}


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 400_000), max_size=6))
def test_receives_posted_in_vain_serve_the_next_burst(sizes: list[int]) -> None:
    wire = Wire()
    inbound = ReceiveStream(wire.post_receive)
    for index, size in enumerate(sizes):
        burst = Burst(1, 2, index, 0.5, bytes(i % 241 for i in range(size)))
        assert carried(burst, inbound, wire) == burst
    frames = [math.ceil((HEADER_BYTES + size) / FRAME_BYTES) for size in sizes]
    assert sum(frames) <= wire.posted <= sum(frames) + max(frames, default=0)


def test_a_large_burst_is_not_expected_again_in_full() -> None:
    wire = Wire()
    inbound = ReceiveStream(wire.post_receive)
    carried(Burst(1, 2, 0, 0.0, bytes(3 * MOST_AHEAD * FRAME_BYTES)), inbound, wire)
    before = wire.posted
    inbound.expect()
    assert wire.posted == before + MOST_AHEAD


def test_the_header_is_40_bytes_little_endian() -> None:
    (frame,) = build_frames(Burst(2, 3, 1, 0.0, b"x"))
    assert bytes(frame[:16].tolist()) == b"WDF2" + b"\1\0\0\0" + b"\2\0\0\0" + b"\3\0\0\0"
    assert HEADER_BYTES == 40


def test_the_header_carries_a_promise() -> None:
    burst = Burst(2, 3, 1, 4.5, b"x")
    assert read_header(build_frames(burst, 7.25)[0].numpy().tobytes()).next_s == 7.25
    assert math.isnan(read_header(build_frames(burst)[0].numpy().tobytes()).next_s)


def test_foreign_bytes_are_refused() -> None:
    with pytest.raises(ProtocolError, match="another program"):
        read_header(bytes(HEADER_BYTES))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            Header(6, 1, 2, 0.0, 0.0, 0),
            "exchange 5: device 2 waits for device 1, which sends it nothing",
        ),
        (
            Header(4, 1, 2, 0.0, 0.0, 0),
            "exchange 4: device 1 sends to device 2, which does not wait",
        ),
        (
            Header(5, 3, 2, 0.0, 0.0, 0),
            "got a burst from device 3 to device 2, wanted one from device 1",
        ),
    ],
)
def test_an_unexpected_burst_is_explained(header: Header, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        header.check(5, 1, 2)


def test_the_expected_burst_passes() -> None:
    Header(5, 1, 2, 0.0, 0.0, 0).check(5, 1, 2)
