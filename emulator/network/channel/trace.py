"""Rates from a recording: the packet-delivery traces of Mahimahi.

Shapes: C chances of one loop of the file; K marks of a transfer, in bits.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emulator.core.errors import ScenarioError, shown
from emulator.core.types.arrays import DoubleArray, IndexArray
from emulator.core.units import bits_from_bytes
from emulator.network.channel.flow import Blocks

CHANCE_BITS = bits_from_bytes(1504)
"""What may leave at one chance: the largest packet of the recorder's interface."""

MOST_DIGITS = 12
"""Of a moment [ms]: thirty years."""
CHANCE_MS = 1.0
"""How long the sender is on the air for all chances of one millisecond together."""

SAME_MOMENT_MS = 1e-6
"""Sums of seconds are rounded: a nanosecond apart is the same moment."""


class TraceRate(BaseModel):
    """Each line of the file is a millisecond (none below the one before) at which 1504 bytes may leave.

    Bytes count, not packets: a chance may take the end of one packet and the beginning of the next.
    What a chance brings that nobody needs expires. After its last line the file starts again, that
    moment being its new 0. Emulated time 0 is the file's 0, on every link. SNR, bandwidth and power
    matter to nothing. The sender is on the air in the milliseconds that have a chance, up to its last
    one, and silent in the others.
    Source: Netravali et al., Mahimahi (USENIX ATC 2015), and the link queue of its mm-link.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    depends_on_snr: ClassVar[Literal[False]] = False
    kind: Literal["trace"] = "trace"
    path: Path = Field(description="The trace, relative to the scenario file.")

    @cached_property
    def chances_ms(self) -> IndexArray:
        """The lines of the file [C]. Raises ScenarioError where it is no such file."""
        return _read_chances_ms(self.path)

    @property
    def mean_bit_per_s(self) -> float:
        """Bits of one loop over its duration [bit/s]."""
        return _mean_bit_per_s(self.chances_ms)

    def log_snr(self, bit_per_s: float, bandwidth_hz: float) -> float:
        """ln of the least SNR: -inf if the trace carries the rate on average, inf otherwise."""
        return -math.inf if bit_per_s <= self.mean_bit_per_s else math.inf

    def reachable_bit_per_s(self, bit_per_s: float, bandwidth_hz: float) -> float:
        """The wanted rate, or the mean one of the trace."""
        return min(bit_per_s, self.mean_bit_per_s)

    def flow(self, start_s: float, blocks: Blocks) -> "TraceFlow":
        """What a transfer gets that starts at an emulated time."""
        return TraceFlow(self.chances_ms, start_s, blocks)


@dataclass(frozen=True, eq=False)
class TraceFlow:
    """The chances after start_s, one by one; a chance at that very moment is gone.

    So a transfer that starts when another ends never uses its last chance again.
    """

    chances_ms: IndexArray
    start_s: float
    blocks: Blocks

    def given_up_s(self, until_s: float) -> float:
        """Not before: a trace has its next chance."""
        return until_s

    def finish_times_s(self, bits_K: DoubleArray) -> DoubleArray:
        """The chance that takes the last of bits_K[k] bits, in seconds after the start [K]."""
        chance_K = np.ceil(bits_K / CHANCE_BITS).astype(np.int64)
        loop_K, line_K = np.divmod(self._passed(0.0) + chance_K - 1, self.chances_ms.size)
        moment_ms_K = loop_K * self.chances_ms[-1] + self.chances_ms[line_K]
        return np.where(chance_K > 0, moment_ms_K / 1000.0 - self.start_s, 0.0)

    def bits_within(self, deadline_s: float) -> float:
        """All that the chances up to then, that moment included, can take."""
        return float((self._passed(deadline_s) - self._passed(0.0)) * CHANCE_BITS)

    def bits_at_block_ends(self) -> Iterator[float]:
        """Bits through at the end of each coherence block, without end."""
        if math.isinf(self.blocks.block_s):
            yield math.inf
            return
        for block in itertools.count(1):
            yield self.bits_within(self.blocks.start_s(block))

    def airtime_s(self, until_s: float) -> float:
        """CHANCE_MS for each millisecond that has a chance; of the first what is left at the start."""
        before = _passed(self._moments_ms, self.start_s)
        count = _passed(self._moments_ms, self.start_s + until_s) - before
        if count == 0:
            return 0.0
        loop, line = divmod(before, self._moments_ms.size)
        first_ms = loop * self.chances_ms[-1] + self._moments_ms[line] - self.start_s * 1000.0
        return float((count - 1) * CHANCE_MS + min(first_ms, CHANCE_MS)) / 1000.0

    def bit_per_s_at(self, time_s: float) -> float:
        """The mean rate of the trace, at any time."""
        return _mean_bit_per_s(self.chances_ms)

    def later(self, time_s: float, own_s: float) -> float:
        """So much later, at the start of the flow at least."""
        return max(time_s + own_s, 0.0)

    @cached_property
    def _moments_ms(self) -> IndexArray:
        """The moments of one loop that have a chance, once each; the next 0 is the end of this loop."""
        return self.chances_ms[np.diff(self.chances_ms, prepend=0) > 0]

    def _passed(self, elapsed_s: float) -> int:
        """Chances from emulated time 0 to a moment of the transfer, the moment included."""
        return _passed(self.chances_ms, self.start_s + elapsed_s)


def _mean_bit_per_s(chances_ms: IndexArray) -> float:
    """Bits of one loop over its duration [bit/s]."""
    return chances_ms.size * CHANCE_BITS * 1000.0 / float(chances_ms[-1])


def _passed(lines_ms: IndexArray, time_s: float) -> int:
    """How many lines of an endless loop have passed by an emulated time, that moment included."""
    moment_ms = time_s * 1000.0 + SAME_MOMENT_MS
    loop, phase_ms = divmod(moment_ms, float(lines_ms[-1]))
    return int(loop) * lines_ms.size + int(np.searchsorted(lines_ms, phase_ms, side="right"))


def _read_chances_ms(file: Path) -> IndexArray:
    """The lines of a trace [C], checked."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8"
        raise ScenarioError(
            [f"channel.rate.path: got {file}, wanted a readable trace ({reason})"]
        ) from None
    chances = []
    for index, line in enumerate(lines, start=1):
        text = line.strip()
        if not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
            raise ScenarioError(
                [
                    f"channel.rate.path: got {shown(line)} in line {index} of {file}, wanted "
                    f"milliseconds of at most {MOST_DIGITS} digits"
                ]
            )
        chances.append(int(text))
    chances_ms = np.array(chances, dtype=np.int64)
    if chances_ms.size == 0 or chances_ms[-1] == 0 or bool((np.diff(chances_ms) < 0).any()):
        raise ScenarioError(
            [
                f"channel.rate.path: got {file}, wanted milliseconds that never fall, "
                "the last of them above 0"
            ]
        )
    return chances_ms
