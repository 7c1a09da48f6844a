"""Frames to and from the devices of the process group; its own calls skip checks that take a tenth of a frame's cost."""

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup, Work

from emulator.core.errors import ProtocolError
from emulator.runtime.transport.receive_stream import ReceiveStream

BURST_TAG, GATHER_TAG, BREAK_TAG = 1, 2, 3


def send_frame(frame: torch.Tensor, receiver: int, tag: int) -> Work:
    """Start to send a frame [n] uint8."""
    return _group().send([frame], receiver, tag)


def receive_frame(frame: torch.Tensor, sender: int, tag: int) -> Work:
    """Start to receive a frame [n] uint8; a shorter one leaves the rest as it is."""
    return _group().recv([frame], sender, tag)


def open_stream(sender: int, tag: int) -> ReceiveStream:
    """Open the stream of all frames of a sender with one tag."""
    return ReceiveStream(lambda frame: receive_frame(frame, sender, tag))


def _group() -> ProcessGroup:
    """The group of all devices. Raises ProtocolError after this process has left it."""
    group = dist.group.WORLD
    if group is None:
        raise ProtocolError("torch.distributed: this process has left its group")
    return group
