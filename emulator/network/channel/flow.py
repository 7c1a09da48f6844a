"""The bits that a link carries over time during one transfer, with the exact rate of every moment.

A flow counts time from the start of the transfer. Shapes: K marks of a transfer, in bits.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.core.types.arrays import DoubleArray
from emulator.core.types.transmission import Turns

MAX_BLOCKS = 1_000_000
"""The run ends if a transfer sends in this number of coherence blocks, or waits in this number of blocks
without max_wait_s: its computation would take minutes. A wait with max_wait_s may have more blocks."""

SAME_MOMENT = 1e-9
"""A transfer that starts so little before the end of a block, in blocks, starts in the next block, because
times are rounded."""


class Flow(Protocol):
    """The bits that a link carries, as a function of time."""

    def given_up_s(self, until_s: float) -> float:
        """When a sender with bits left gives up, at until_s at the latest [s]; inf: never.

        until_s may be inf if `finish_times_s` is inf.
        """
        ...

    def finish_times_s(self, bits_K: DoubleArray) -> DoubleArray:
        """When the first bits_K[k] bits (ascending) have been sent [s], [K]; ascending, inf: never."""
        ...

    def bits_within(self, deadline_s: float) -> float:
        """Bits sent by a time: the inverse of `finish_times_s`."""
        ...

    def bits_at_block_ends(self) -> Iterator[float]:
        """Bits sent by the end of each coherence block."""
        ...

    def airtime_s(self, until_s: float) -> float:
        """How long the sender transmits until a time [s]."""
        ...

    def bit_per_s_at(self, time_s: float) -> float:
        """The rate of the last bit sent up to a time [bit/s]; 0 if none was sent."""
        ...

    def add_own_time(self, time_s: float, own_s: float) -> float:
        """The time [s] at which own_s more (own_s < 0: less) of the sender's own time has passed than at
        time_s."""
        ...


@dataclass(frozen=True)
class Blocks:
    """The coherence blocks during a transfer, which starts in block 0.

    first: number of blocks of the run before block 0. gone_s: the part of block 0 that has passed at the
    start [s].
    """

    block_s: float
    first: int = 0
    gone_s: float = 0.0

    @classmethod
    def over_time(cls, block_s: float, start_s: float) -> Self:
        """The blocks of the run from an emulated time on: block n of the run starts at n·block_s."""
        if math.isinf(block_s):
            return cls(block_s)
        first, gone_s = divmod(start_s, block_s)
        if block_s - gone_s < SAME_MOMENT * block_s:
            first, gone_s = first + 1.0, 0.0
        return cls(block_s, int(first), gone_s)

    def start_s(self, block: int) -> float:
        """Start of a block [s]; the first block starts with the transfer."""
        return block * self.block_s - self.gone_s if block else 0.0

    def lasts_s(self, block: int) -> float:
        """Duration of a block [s]; the first block counts from the start of the transfer."""
        return self.block_s if block else self.block_s - self.gone_s

    def at(self, time_s: float) -> int:
        """The index of the block in which a time lies."""
        return 0 if math.isinf(self.block_s) else int((time_s + self.gone_s) // self.block_s)


class _Stretch(NamedTuple):
    """A block of a flow, its rate, and its time that carries bits [s]."""

    block: int
    bit_per_s: float
    carrying_s: float

    @property
    def flows(self) -> bool:
        """Whether bits are sent in the block."""
        return self.bit_per_s > 0.0 and self.carrying_s > 0.0


@dataclass(frozen=True, eq=False)
class BlockFlow:
    """A flow with one rate for each coherence block [bit/s]. The sender does not transmit at rate 0.

    With slots, bits flow in the slots only. start_s: the emulated time at which the flow begins. The
    sender gives up max_wait_s after the last moment at which it could transmit; no bits flow after that.
    """

    rate_of_block: Callable[[int], float]
    blocks: Blocks
    slots: Turns | None = None
    start_s: float = 0.0
    max_wait_s: float = math.inf

    def given_up_s(self, until_s: float) -> float:
        """When a wait has lasted max_wait_s [s]; until_s if no wait is that long by then."""
        usable_s = end_s = 0.0
        for stretch in self._stretches(until_s):
            end_s = self._end_s(stretch.block)
            usable_s = end_s if stretch.flows else usable_s
        return until_s if end_s >= until_s else usable_s + self.max_wait_s

    def finish_times_s(self, bits_K: DoubleArray) -> DoubleArray:
        """The t with ∫₀ᵗ R dt = bits_K[k], for each k [K]; inf if the sender gives up before.

        Raises EmulatorError if MAX_BLOCKS blocks are not enough.
        """
        times_K = np.zeros_like(bits_K)
        done = int(np.searchsorted(bits_K, 0.0, side="right"))
        if done == bits_K.size:
            return times_K
        carried_bits = 0.0
        for block, bit_per_s, carrying_s in self._stretches():
            if bit_per_s > 0.0:
                through = carried_bits + bit_per_s * carrying_s
                end = int(np.searchsorted(bits_K, through, side="right"))
                within_s = (bits_K[done:end] - carried_bits) / bit_per_s
                times_K[done:end] = self._after(block, within_s)
                carried_bits, done = through, end
            if done == bits_K.size:
                return times_K
        times_K[done:] = math.inf
        return times_K

    def bits_within(self, deadline_s: float) -> float:
        """∫₀^deadline R dt; with inf, all bits until the sender gives up."""
        carried_bits = 0.0
        for _, bit_per_s, carrying_s in self._stretches(deadline_s):
            if bit_per_s > 0.0:
                carried_bits += bit_per_s * carrying_s
        return carried_bits

    def bits_at_block_ends(self) -> Iterator[float]:
        """∫ R dt up to the end of each block, in the same order of sums as `finish_times_s`."""
        carried_bits = 0.0
        for _, bit_per_s, carrying_s in self._stretches():
            if bit_per_s > 0.0:
                carried_bits += bit_per_s * carrying_s
            yield carried_bits

    def airtime_s(self, until_s: float) -> float:
        """The sender's own time up to a time, collisions included, without blocks of rate 0 [s]."""
        end_s = silent_s = 0.0
        for block, bit_per_s, _ in self._stretches(until_s):
            end_s = min(self._end_s(block), until_s)
            if bit_per_s <= 0.0:
                silent_s += self._on_air_s(self.blocks.start_s(block), end_s)
        return self._on_air_s(0.0, end_s) - silent_s

    def bit_per_s_at(self, time_s: float) -> float:
        """The rate of the last block before a time in which bits were sent; 0 if there was none."""
        sent = [s.bit_per_s for s in self._stretches(time_s) if s.flows]
        return sent[-1] if sent else 0.0

    def add_own_time(self, time_s: float, own_s: float) -> float:
        """The time [s] at which own_s more of the sender's own time has passed than at time_s; at least 0."""
        if own_s == 0.0:
            return time_s
        if self.slots is None:
            return max(time_s + own_s, 0.0)
        begun_s = self.slots.carrying_s(self.start_s)
        passed_s = self.slots.carrying_s(self.start_s + time_s) + own_s
        if passed_s <= begun_s:
            return 0.0
        return float(self.slots.times_at(np.array([passed_s]))[0]) - self.start_s

    def _stretches(self, until_s: float = math.inf) -> Iterator[_Stretch]:
        """The blocks up to a time, or to the block in which the sender gives up. See MAX_BLOCKS."""
        usable_s, counted = 0.0, 0
        for block in itertools.count():
            if self.blocks.start_s(block) >= until_s:
                return
            if counted == MAX_BLOCKS and math.isinf(until_s):
                raise EmulatorError(
                    f"a transfer has lasted {block} coherence blocks of {self.blocks.block_s:g} s, wanted "
                    "fewer: a longer coherence time, a higher rate, a shorter message, or max_wait_s"
                )
            end_s = min(self._end_s(block), until_s)
            stretch = _Stretch(block, self.rate_of_block(block), self._carrying_s(block, until_s))
            if stretch.flows:
                usable_s = end_s
            elif stretch.carrying_s > 0.0 and end_s - usable_s > self.max_wait_s:
                return
            counted += stretch.flows or math.isinf(self.max_wait_s)
            yield stretch

    def _end_s(self, block: int) -> float:
        """End of a block [s]."""
        return self.blocks.start_s(block + 1)

    def _carrying_s(self, block: int, until_s: float) -> float:
        """Time of a block that carries bits, up to until_s [s]."""
        from_s = self.blocks.start_s(block)
        if self.slots is None:
            return min(self.blocks.lasts_s(block), until_s - from_s)
        to_s = min(self._end_s(block), until_s)
        return self.slots.carrying_s(self.start_s + to_s) - self.slots.carrying_s(
            self.start_s + from_s
        )

    def _on_air_s(self, from_s: float, to_s: float) -> float:
        """The sender's own time in a span, collisions included [s]."""
        if self.slots is None:
            return to_s - from_s
        from_s, to_s = self.start_s + from_s, self.start_s + to_s
        carrying_s = self.slots.carrying_s(to_s) - self.slots.carrying_s(from_s)
        return carrying_s + self.slots.in_vain_s(to_s) - self.slots.in_vain_s(from_s)

    def _after(self, block: int, carrying_s: DoubleArray) -> DoubleArray:
        """The times [s] at which carrying_s of the time that carries bits has passed in a block."""
        from_s = self.blocks.start_s(block)
        if self.slots is None:
            return from_s + carrying_s
        before_s = self.slots.carrying_s(self.start_s + from_s)
        return self.slots.times_at(before_s + carrying_s) - self.start_s


def require_band(bandwidth_hz: float) -> None:
    """Raise ScenarioError for the infinite band of ideal access, whose noise is infinite."""
    if not math.isfinite(bandwidth_hz):
        raise ScenarioError(
            [
                "access: got an infinite bandwidth, wanted a scheme with bandwidth_hz "
                "(channel.rate or channel.losses depend on its noise)"
            ]
        )
