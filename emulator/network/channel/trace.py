"""Rates from a recording: the packet-delivery traces of Mahimahi.

A *chance* is a line of the file: a moment at which a packet may be sent.
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
"""Bits that may be sent at one chance: the largest packet of the recorder's interface."""

MOST_DIGITS = 12
"""Most digits of a moment [ms]: thirty years."""

CHANCE_MS = 1.0
"""How long the sender transmits for all chances of one millisecond together."""

SAME_MOMENT_MS = 1e-6
"""Moments less than a nanosecond apart count as equal, because sums of seconds are rounded."""


class TraceRate(BaseModel):
    """Each line of the file is a millisecond, not less than the line before, at which 1504 bytes may be sent.

    Bytes count, not packets: a chance may carry the end of one packet and the beginning of the next.
    An unused chance expires. After its last line the file starts again, and the moment of that line is
    its new 0. Emulated time 0 is the 0 of the file, on every link. SNR, bandwidth and power have no
    effect. The sender transmits in the milliseconds that have a chance, up to its last chance, and is
    silent in the others.
    Source: Netravali et al., Mahimahi (USENIX ATC 2015), and the link queue of its mm-link.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    depends_on_snr: ClassVar[Literal[False]] = False
    kind: Literal["trace"] = "trace"
    path: Path = Field(description="The trace, relative to the scenario file.")

    @cached_property
    def chances_ms(self) -> IndexArray:
        """The lines of the file [ms], [C]. Raises ScenarioError if it is not a trace."""
        return _read_chances_ms(self.path)

    @property
    def mean_bit_per_s(self) -> float:
        """Bits of one loop over its duration [bit/s]."""
        return _mean_bit_per_s(self.chances_ms)

    def log_snr(self, bit_per_s: float, bandwidth_hz: float) -> float:
        """ln of the least SNR for a rate: -inf if the trace carries it on average, inf otherwise."""
        return -math.inf if bit_per_s <= self.mean_bit_per_s else math.inf

    def reachable_bit_per_s(self, bit_per_s: float, bandwidth_hz: float) -> float:
        """The smaller of the wanted rate and the mean rate of the trace [bit/s]."""
        return min(bit_per_s, self.mean_bit_per_s)

    def flow(self, start_s: float, blocks: Blocks) -> "TraceFlow":
        """The flow of a transfer that starts at an emulated time [s]."""
        return TraceFlow(self.chances_ms, start_s, blocks)


@dataclass(frozen=True, eq=False)
class TraceFlow:
    """The chances after start_s, without a chance at exactly start_s.

    So a transfer that starts when another one ends never uses the last chance of that one again.
    """

    chances_ms: IndexArray
    start_s: float
    blocks: Blocks

    def given_up_s(self, until_s: float) -> float:
        """until_s: the sender never gives up before, because a trace always has a next chance."""
        return until_s

    def finish_times_s(self, bits_K: DoubleArray) -> DoubleArray:
        """The moment of the chance that carries the last of bits_K[k] bits, in seconds after the start [K]."""
        chance_K = np.ceil(bits_K / CHANCE_BITS).astype(np.int64)
        loop_K, line_K = np.divmod(self._passed(0.0) + chance_K - 1, self.chances_ms.size)
        moment_ms_K = loop_K * self.chances_ms[-1] + self.chances_ms[line_K]
        return np.where(chance_K > 0, moment_ms_K / 1000.0 - self.start_s, 0.0)

    def bits_within(self, deadline_s: float) -> float:
        """Bits that all chances up to and including a time can carry."""
        return float((self._passed(deadline_s) - self._passed(0.0)) * CHANCE_BITS)

    def bits_at_block_ends(self) -> Iterator[float]:
        """Bits sent by the end of each coherence block, without end."""
        if math.isinf(self.blocks.block_s):
            yield math.inf
            return
        for block in itertools.count(1):
            yield self.bits_within(self.blocks.start_s(block))

    def airtime_s(self, until_s: float) -> float:
        """CHANCE_MS for each millisecond with a chance [s]; of the first one, the part after the start."""
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

    def add_own_time(self, time_s: float, own_s: float) -> float:
        """time_s + own_s [s], at least 0."""
        return max(time_s + own_s, 0.0)

    @cached_property
    def _moments_ms(self) -> IndexArray:
        """The moments of one loop that have a chance, each once [ms]. The next loop starts at the last one."""
        return self.chances_ms[np.diff(self.chances_ms, prepend=0) > 0]

    def _passed(self, elapsed_s: float) -> int:
        """Number of chances from emulated time 0 up to and including a moment of the transfer."""
        return _passed(self.chances_ms, self.start_s + elapsed_s)


def _mean_bit_per_s(chances_ms: IndexArray) -> float:
    """Bits of one loop over its duration [bit/s]."""
    return chances_ms.size * CHANCE_BITS * 1000.0 / float(chances_ms[-1])


def _passed(lines_ms: IndexArray, time_s: float) -> int:
    """Number of lines of an endless loop up to and including an emulated time."""
    moment_ms = time_s * 1000.0 + SAME_MOMENT_MS
    loop, phase_ms = divmod(moment_ms, float(lines_ms[-1]))
    return int(loop) * lines_ms.size + int(np.searchsorted(lines_ms, phase_ms, side="right"))


def _read_chances_ms(file: Path) -> IndexArray:
    """Read and check the lines of a trace [ms], [C]. Raises ScenarioError."""
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
