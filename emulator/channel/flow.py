"""What a link carries over the time of one transfer: exact, never one rate for all of it.

A flow counts time from the start of the transfer. Shapes: K marks of a transfer, in bits.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from emulator.errors import EmulatorError, ScenarioError
from emulator.state import DoubleArray, Turns

MAX_BLOCKS = 100_000
"""A transfer longer than so many coherence blocks is given up: the link is no link."""


class Flow(Protocol):
    """The bits that a link brings over, as a function of time."""

    def finish_times_s(self, bits_K: DoubleArray) -> DoubleArray:
        """When the first bits_K[k] bits (ascending) are through [K]; ascending."""
        ...

    def bits_within(self, deadline_s: float) -> float:
        """Bits through by then: the inverse of `finish_times_s`."""
        ...

    def bits_at_block_ends(self) -> Iterator[float]:
        """Bits through at the end of each coherence block."""
        ...


@dataclass(frozen=True, eq=False)
class BlockFlow:
    """A rate for each coherence block: R = rate_of_block(b) on [b·block_s, (b+1)·block_s) [bit/s].

    With slots only their time carries; start_s: the emulated time at which the flow begins.
    """

    rate_of_block: Callable[[int], float]
    block_s: float
    slots: Turns | None = None
    start_s: float = 0.0

    def finish_times_s(self, bits_K: DoubleArray) -> DoubleArray:
        """The t with ∫₀ᵗ R dt = bits_K[k], for each k [K].

        Raises EmulatorError when MAX_BLOCKS blocks, or one endless block of rate 0, are not enough.
        """
        times_K = np.zeros_like(bits_K)
        done = int(np.searchsorted(bits_K, 0.0, side="right"))
        carried_bits = 0.0
        block = 0
        while done < bits_K.size:
            bit_per_s = self.rate_of_block(block)
            if block == MAX_BLOCKS or (bit_per_s <= 0.0 and math.isinf(self.block_s)):
                raise EmulatorError(
                    "out of range, the link does not carry it: its rate is 0 bit/s for ever"
                    if math.isinf(self.block_s)
                    else f"a transfer of {bits_K[-1]:.0f} bits is at {carried_bits:.0f} bits after "
                    f"{block} coherence blocks of {self.block_s:g} s: the link does not carry it"
                )
            if bit_per_s > 0.0:
                through = carried_bits + bit_per_s * self._carrying_s(block)
                end = int(np.searchsorted(bits_K, through, side="right"))
                within_s = (bits_K[done:end] - carried_bits) / bit_per_s
                times_K[done:end] = self._after(block, within_s)
                carried_bits, done = through, end
            block += 1
        return times_K

    def bits_within(self, deadline_s: float) -> float:
        """∫₀^deadline R dt; deadline_s is finite."""
        bits = 0.0
        block = 0
        while self._start_of(block) < deadline_s:
            bits += self.rate_of_block(block) * self._carrying_s(block, deadline_s)
            block += 1
        return bits

    def bits_at_block_ends(self) -> Iterator[float]:
        """∫ R dt up to the end of each block, as `finish_times_s` adds it up; MAX_BLOCKS at most."""
        carried_bits = 0.0
        for block in range(MAX_BLOCKS):
            bit_per_s = self.rate_of_block(block)
            if bit_per_s > 0.0:
                carried_bits += bit_per_s * self._carrying_s(block)
            yield carried_bits
            if math.isinf(self.block_s):
                return

    def _start_of(self, block: int) -> float:
        """When a block begins [s]."""
        return block * self.block_s if block else 0.0

    def _carrying_s(self, block: int, until_s: float = math.inf) -> float:
        """How much time of a block carries bits, at most until a time [s]."""
        from_s = self._start_of(block)
        if self.slots is None:
            return min(self.block_s, until_s - from_s)
        to_s = min(self._start_of(block + 1) if math.isfinite(self.block_s) else math.inf, until_s)
        return self.slots.carrying_s(self.start_s + to_s) - self.slots.carrying_s(
            self.start_s + from_s
        )

    def _after(self, block: int, carrying_s: DoubleArray) -> DoubleArray:
        """The times after so much time that carries in a block."""
        from_s = self._start_of(block)
        if self.slots is None:
            return from_s + carrying_s
        before_s = self.slots.carrying_s(self.start_s + from_s)
        return self.slots.times_at(before_s + carrying_s) - self.start_s


def require_band(bandwidth_hz: float) -> None:
    """Raises ScenarioError for the endless band of ideal access: it has no finite noise."""
    if not math.isfinite(bandwidth_hz):
        raise ScenarioError(
            [
                "access: got an infinite bandwidth, wanted a scheme with bandwidth_hz "
                "(channel.rate or channel.losses depend on its noise)"
            ]
        )
