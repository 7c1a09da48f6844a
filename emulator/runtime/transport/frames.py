"""The frames of a burst between two processes: at most 64 KiB each, the first begins with a header.

A gloo message of 64 KiB or less arrives whole or not at all, so the end of a peer is noticed at once;
in a larger one it is noticed only when the wait times out. A message costs the same from 1 byte to
about 16 KiB (0.2-0.4 ms), so the header shares its frame with the first data. The first frame is
received into FRAME_BYTES of space and may be shorter: nothing is padded.

Header (40 bytes, little-endian): magic 4, exchange index u32, sender u32, receiver u32,
arrival_s f64, next_s f64 (time of the sender's next Send; NaN where all devices wait), length u64.
"""

import math
import struct
import warnings
from dataclasses import dataclass

import torch

from emulator.core.errors import ProtocolError
from emulator.core.types.transmission import Burst
from emulator.runtime.drivers.lifecycle import missing_burst_error, unexpected_burst_error

FRAME_BYTES = 65536
"""Most bytes of one frame, header included."""

MOST_EXCHANGES = 2**22
"""Of one life; so the indices of 1024 lives fit into the header of a burst."""

_HEADER = struct.Struct("<4sIIIddQ")
_MAGIC = b"WDF2"

HEADER_BYTES = _HEADER.size
"""Bytes of the header at the start of every burst."""


@dataclass(frozen=True)
class Header:
    """The fields of a burst's first frame; length: bytes of its data."""

    exchange_index: int
    sender: int
    receiver: int
    arrival_s: float
    next_s: float
    length: int

    def check(self, exchange_index: int, sender: int, receiver: int) -> None:
        """Raise ProtocolError unless this is the burst that was expected."""
        if (self.sender, self.receiver) != (sender, receiver):
            raise ProtocolError(
                f"exchange {exchange_index}: device {receiver} got a burst from device {self.sender} "
                f"to device {self.receiver}, wanted one from device {sender}"
            )
        if self.exchange_index > exchange_index:
            raise missing_burst_error(sender, receiver, exchange_index)
        if self.exchange_index < exchange_index:
            raise unexpected_burst_error(sender, receiver, self.exchange_index)


def build_frames(burst: Burst, next_s: float = math.nan) -> list[torch.Tensor]:
    """Split a burst into one or more frames [n] uint8: the first is a copy, the others views of its data.

    Law: together they hold HEADER_BYTES + len(data) bytes, and a ReceiveStream gives the burst back.
    """
    head = burst.data[: FRAME_BYTES - HEADER_BYTES]
    first = _with_header(burst, next_s, room=len(head))
    first[HEADER_BYTES:] = head
    frames = [torch.frombuffer(first, dtype=torch.uint8)]
    if len(head) < len(burst.data):
        frames += split_tensor(view_bytes(burst.data)[len(head) :])
    return frames


def build_header(burst: Burst) -> torch.Tensor:
    """Build the header alone [HEADER_BYTES] uint8, for data that travels another way."""
    return torch.frombuffer(_with_header(burst, math.nan, room=0), dtype=torch.uint8)


def _with_header(burst: Burst, next_s: float, room: int) -> bytearray:
    """Write a burst's header, followed by `room` bytes for data."""
    whole = bytearray(HEADER_BYTES + room)
    _HEADER.pack_into(
        whole,
        0,
        _MAGIC,
        burst.exchange_index,
        burst.sender,
        burst.receiver,
        burst.arrival_s,
        next_s,
        len(burst.data),
    )
    return whole


def view_bytes(data: bytes) -> torch.Tensor:
    """View the bytes as a tensor [n] uint8 without a copy; it must not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        return torch.frombuffer(data, dtype=torch.uint8)


def read_header(first_frame: bytes | bytearray | memoryview) -> Header:
    """Read the header of a first frame. Raises ProtocolError for a frame of another program."""
    magic, *fields = _HEADER.unpack_from(first_frame)
    if magic != _MAGIC:
        raise ProtocolError(f"a frame begins with {magic!r}, wanted {_MAGIC!r}: another program?")
    return Header(*fields)


def split_tensor(whole: torch.Tensor) -> list[torch.Tensor]:
    """Split a tensor [n] uint8 into views of at most FRAME_BYTES each; an empty one gives none."""
    return [whole[low : low + FRAME_BYTES] for low in range(0, whole.numel(), FRAME_BYTES)]
