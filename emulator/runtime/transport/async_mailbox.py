"""What an asynchronous listener holds: bursts that have come but not arrived, and what was promised.

A burst carries the time at which its sender speaks next, so a listener at some emulated time knows when
it has all that can have arrived: as soon as everybody's next time is not before its own. Whoever is the
earliest of all never waits, so nobody waits for ever (conservative simulation: Chandy and Misra 1979,
Bryant 1977).
"""

import math
from collections.abc import Callable, Sequence

from emulator.core.types.transmission import Burst

ReadNext = Callable[[int], tuple[Burst, float]]
"""The next burst of a sender, and when the sender speaks after it; waits until it is there."""


class Mailbox:
    """The bursts of some senders by the time at which they arrive."""

    def __init__(self, read_next: ReadNext) -> None:
        self._read_next = read_next
        self._next_send_s: dict[int, float] = {}
        self._pending: list[Burst] = []

    def take_arrived(self, senders: Sequence[int], now_s: float) -> list[Burst]:
        """All bursts of the senders that arrive before now_s and were not returned before."""
        for sender in senders:
            while self._next_send_s.get(sender, -math.inf) < now_s:
                self._read(sender)
        arrived_bursts = [burst for burst in self._pending if burst.arrival_s < now_s]
        self._pending = [burst for burst in self._pending if burst.arrival_s >= now_s]
        return arrived_bursts

    def close(self) -> None:
        """Read to the last burst of everybody; what has not arrived is never heard."""
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
