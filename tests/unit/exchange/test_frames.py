import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ProtocolError
from emulator.exchange.frames import FRAME_BYTES, HEADER_BYTES, Arrival, Header, cut, pack, unpack
from emulator.state import Burst

IDS = st.integers(0, 2**32 - 1)


def carried(burst: Burst) -> tuple[Burst, list[int]]:
    """What a receiver makes of the frames, and their sizes."""
    first, *others = pack(burst)
    room = torch.empty(FRAME_BYTES, dtype=torch.uint8)
    room[: first.numel()] = first
    arrival = Arrival.begin(room)
    for hole, frame in zip(cut(arrival.missing), others, strict=True):
        hole.copy_(frame)
    return arrival.to_burst(), [frame.numel() for frame in (first, *others)]


@given(IDS, IDS, IDS, st.floats(allow_nan=False), st.binary(max_size=300))
def test_a_burst_survives_its_frames(
    sender: int, receiver: int, index: int, arrival_s: float, data: bytes
) -> None:
    burst = Burst(sender, receiver, index, arrival_s, data)
    assert carried(burst) == (burst, [HEADER_BYTES + len(data)])


@pytest.mark.parametrize(
    "size",
    [0, 1, FRAME_BYTES - HEADER_BYTES, FRAME_BYTES - HEADER_BYTES + 1, 2 * FRAME_BYTES, 1_000_003],
)
def test_frames_are_full_and_none_is_padded(size: int) -> None:
    burst = Burst(1, 2, 3, 0.1, bytes(i % 251 for i in range(size)))
    arrived, frame_bytes = carried(burst)
    assert arrived == burst
    assert sum(frame_bytes) == HEADER_BYTES + size
    assert len(frame_bytes) == math.ceil((HEADER_BYTES + size) / FRAME_BYTES)
    assert set(frame_bytes[:-1]) <= {FRAME_BYTES}


def test_the_header_is_32_bytes_little_endian() -> None:
    (frame,) = pack(Burst(2, 3, 1, 0.0, b"x"))
    assert bytes(frame[:16].tolist()) == b"WDF1" + b"\1\0\0\0" + b"\2\0\0\0" + b"\3\0\0\0"
    assert HEADER_BYTES == 32


def test_foreign_bytes_are_refused() -> None:
    with pytest.raises(ProtocolError, match="another program"):
        unpack(bytes(HEADER_BYTES))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            Header(6, 1, 2, 0.0, 0),
            "exchange 5: device 2 waits for device 1, which sends it nothing",
        ),
        (Header(4, 1, 2, 0.0, 0), "exchange 4: device 1 sends to device 2, which does not wait"),
        (
            Header(5, 3, 2, 0.0, 0),
            "got a burst from device 3 to device 2, wanted one from device 1",
        ),
    ],
)
def test_an_unexpected_burst_is_explained(header: Header, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        header.check(5, 1, 2)


def test_the_expected_burst_passes() -> None:
    Header(5, 1, 2, 0.0, 0).check(5, 1, 2)
