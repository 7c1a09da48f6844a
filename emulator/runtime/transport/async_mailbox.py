"""The mailbox of an asynchronous device: bursts in real memory that have not arrived in emulated time.

A burst carries the time at which its sender sends next. So a receiver at emulated time t has all bursts
that can arrive before t once the next time of every sender is at least t. The device with the earliest
time never waits, so there is no deadlock (conservative simulation: Chandy and Misra 1979, Bryant 1977).
"""

import math
from collections.abc import Callable, Sequence

from emulator.core.types.transmission import Burst

ReadNext = Callable[[int], tuple[Burst, float]]
"""Waits for the next burst of a sender; returns it and the time of the sender's next Send [s]."""


class Mailbox:
    """The bursts of all senders until their arrival time."""

    def __init__(self, read_next: ReadNext) -> None:
        self._read_next = read_next
        self._next_send_s: dict[int, float] = {}
        self._pending: list[Burst] = []

    def take_arrived(self, senders: Sequence[int], now_s: float) -> list[Burst]:
        """Return all bursts of the senders that arrive before now_s, each burst once."""
        for sender in senders:
            while self._next_send_s.get(sender, -math.inf) < now_s:
                self._read(sender)
        arrived_bursts = [burst for burst in self._pending if burst.arrival_s < now_s]
        self._pending = [burst for burst in self._pending if burst.arrival_s >= now_s]
        return arrived_bursts

    def close(self) -> None:
        """Read to the last burst of every sender; drop the bursts that have not arrived."""
        for sender, next_send_s in self._next_send_s.items():
            while next_send_s < math.inf:
                next_send_s = self._read(sender)
        self._next_send_s.clear()
        self._pending.clear()

    def _read(self, sender: int) -> float:
        burst, next_s = self._read_next(sender)
        self._pending.append(burst)
        self._next_send_s[sender] = next_s
        return next_s
