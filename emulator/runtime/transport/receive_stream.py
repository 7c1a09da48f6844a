"""The frames of one sender as a stream, for which receives are posted in advance.

If its receive is posted, a frame leaves the sender at once; otherwise it waits for a round trip and two
more turns of gloo's threads, which halves the rate. Only the first frame of a burst states the number of
its frames, so as many receives are posted as the last burst had frames. Surplus receives serve the next
burst, because the frames of a sender are one stream.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import torch

from emulator.core.types.transmission import Burst
from emulator.runtime.transport.frames import FRAME_BYTES, HEADER_BYTES, Header, read_header

MOST_AHEAD = 64
"""The most receives that are posted in advance: 4 MiB for each sender."""


class Work(Protocol):
    """An operation under way."""

    def wait(self) -> object:
        """Block until the operation is done."""
        ...


class ReceiveStream:
    """Receives the bursts of one sender: `expect`, then `begin`, then `finish`."""

    def __init__(self, post_receive: Callable[[torch.Tensor], Work]) -> None:
        self._post_receive = post_receive
        self._posted: deque[tuple[_Frame, Work]] = deque()
        self._likely_frames = 1
        self._missing_frames = 0
        self._header: Header | None = None
        self._parts: list[memoryview] = []
        self._used: list[_Frame] = []

    def expect(self) -> None:
        """Post as many receives as the last burst had frames."""
        self._post(min(self._likely_frames, MOST_AHEAD))

    def begin(self, wait: Callable[[Work], None]) -> Header:
        """Wait for the first frame, post all receives that the burst still needs, return its header."""
        first = self._next(wait)
        header = read_header(first)
        head = first[HEADER_BYTES : HEADER_BYTES + header.length]
        self._header, self._parts = header, [head]
        self._missing_frames = -(-(header.length - len(head)) // FRAME_BYTES)
        self._likely_frames = 1 + self._missing_frames
        self._post(self._missing_frames)
        return header

    def finish(self, wait: Callable[[Work], None]) -> Burst:
        """Wait for the other frames and return the burst."""
        head = self._header
        if head is None:
            raise RuntimeError("finish without begin")
        self._parts += [self._next(wait) for _ in range(self._missing_frames)]
        if self._missing_frames:
            over = sum(len(part) for part in self._parts) - head.length
            self._parts[-1] = self._parts[-1][: FRAME_BYTES - over]
        data = b"".join(self._parts)
        self._header, self._parts = None, []
        del self._used[MOST_AHEAD:]
        return Burst(head.sender, head.receiver, head.exchange_index, head.arrival_s, data)

    def _post(self, frames: int) -> None:
        while len(self._posted) < frames:
            frame = self._used.pop() if self._spare() else _Frame()
            self._posted.append((frame, self._post_receive(frame.tensor)))

    def _spare(self) -> bool:
        """Whether a used frame can receive again; none can between `begin` and `finish`."""
        return self._header is None and bool(self._used)

    def _next(self, wait: Callable[[Work], None]) -> memoryview:
        frame, work = self._posted.popleft()
        wait(work)
        self._used.append(frame)
        return frame.view


class _Frame:
    """Memory for a frame, as a tensor and as a memoryview."""

    def __init__(self) -> None:
        self.tensor = torch.empty(FRAME_BYTES, dtype=torch.uint8)
        self.view = self.tensor.numpy().data
