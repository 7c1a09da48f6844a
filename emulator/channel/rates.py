"""How fast bits flow at a signal-to-noise ratio, and when a transfer over a changing rate ends.

A rate law gives `bit_per_s(snr, bandwidth_hz)` and its inverse `log_snr(bit_per_s, bandwidth_hz)`,
the natural logarithm of the least SNR that carries a rate: needed efficiencies may be thousands of
bit/s/Hz, whose SNR no float can hold.
"""

import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.errors import EmulatorError, ScenarioError
from emulator.state import DoubleArray
from emulator.units import linear_from_db

MAX_BLOCKS = 100_000
"""A transfer longer than so many coherence blocks is given up: the link is no link."""


class FixedRate(BaseModel):
    """One rate for every link, whatever its SNR and bandwidth."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["fixed"] = "fixed"
    link_bit_per_s: FiniteFloat = Field(gt=0, description="Rate of every link [bit/s].")

    def bit_per_s(self, snr: float, bandwidth_hz: float) -> float:
        """Rate [bit/s]."""
        return self.link_bit_per_s

    def log_snr(self, bit_per_s: float, bandwidth_hz: float) -> float:
        """ln of the least SNR that carries the rate: -inf if the link can, inf if it never does."""
        return -math.inf if bit_per_s <= self.link_bit_per_s else math.inf

    def reachable_bit_per_s(self, bit_per_s: float, bandwidth_hz: float) -> float:
        """The wanted rate, or the highest there is."""
        return min(bit_per_s, self.link_bit_per_s)


class ShannonRate(BaseModel):
    """R = B·min(cap, log2(1 + SNR / gap)). Law: does not fall with SNR.

    Needs a finite bandwidth (raises ScenarioError), which is also the noise bandwidth.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["shannon"] = "shannon"
    gap_db: FiniteFloat = Field(default=0.0, ge=0, description="SNR gap to capacity [dB].")
    max_bit_per_s_hz: FiniteFloat | None = Field(
        default=None, gt=0, description="Highest spectral efficiency [bit/s/Hz]; none if absent."
    )

    def bit_per_s(self, snr: float, bandwidth_hz: float) -> float:
        """Rate [bit/s]."""
        self._require_band(bandwidth_hz)
        efficiency = math.log1p(snr / linear_from_db(self.gap_db)) / math.log(2.0)
        return bandwidth_hz * min(efficiency, self._cap)

    def log_snr(self, bit_per_s: float, bandwidth_hz: float) -> float:
        """ln of the least SNR that carries the rate; -inf for rate 0, inf beyond the cap.

        With y = R ln2 / B: ln(gap·(e^y − 1)) = ln gap + y + ln(1 − e^−y), which cannot overflow.
        """
        self._require_band(bandwidth_hz)
        # The cap times the bandwidth may round to just below the rate that it defines.
        if bit_per_s > self._cap * bandwidth_hz * (1.0 + 1e-12):
            return math.inf
        nats = bit_per_s * math.log(2.0) / bandwidth_hz
        if nats <= 0.0:
            return -math.inf
        return math.log(linear_from_db(self.gap_db)) + nats + math.log(-math.expm1(-nats))

    def reachable_bit_per_s(self, bit_per_s: float, bandwidth_hz: float) -> float:
        """The wanted rate, or the highest there is."""
        return min(bit_per_s, self._cap * bandwidth_hz)

    @property
    def _cap(self) -> float:
        return math.inf if self.max_bit_per_s_hz is None else self.max_bit_per_s_hz

    @staticmethod
    def _require_band(bandwidth_hz: float) -> None:
        if not math.isfinite(bandwidth_hz):
            raise ScenarioError(
                [
                    "access: got an infinite bandwidth, wanted a scheme with bandwidth_hz "
                    "(channel.rate.kind is shannon)"
                ]
            )


Rate = Annotated[FixedRate | ShannonRate, Field(discriminator="kind")]


def finish_times_s(
    bits_K: DoubleArray, rate_of_block: Callable[[int], float], block_s: float
) -> DoubleArray:
    """When the first bits_K[k] bits are through: the t with ∫₀ᵗ R dt = bits, for each k.

    bits_K: [K] ascending, >= 0. R is `rate_of_block(b)` [bit/s] on [b·block_s, (b+1)·block_s).
    Returns [K] seconds after the start, ascending. Never one rate for the whole transfer.
    Raises EmulatorError when MAX_BLOCKS blocks, or one endless block of rate 0, are not enough.
    """
    times_K = np.zeros_like(bits_K)
    done = int(np.searchsorted(bits_K, 0.0, side="right"))
    carried_bits = 0.0
    block = 0
    while done < bits_K.size:
        bit_per_s = rate_of_block(block)
        if block == MAX_BLOCKS or (bit_per_s <= 0.0 and math.isinf(block_s)):
            raise EmulatorError(
                f"a transfer of {bits_K[-1]:.0f} bits is at {carried_bits:.0f} bits after "
                f"{block} coherence blocks of {block_s:g} s: the link does not carry it"
            )
        if bit_per_s > 0.0:
            through = carried_bits + bit_per_s * block_s
            end = int(np.searchsorted(bits_K, through, side="right"))
            within_s = (bits_K[done:end] - carried_bits) / bit_per_s
            times_K[done:end] = (block * block_s if block else 0.0) + within_s
            carried_bits, done = through, end
        block += 1
    return times_K


def bits_within(deadline_s: float, rate_of_block: Callable[[int], float], block_s: float) -> float:
    """∫₀^deadline R dt: the inverse of `finish_times_s`. deadline_s finite, R as there."""
    bits = 0.0
    block = 0
    start_s = 0.0
    while start_s < deadline_s:
        bits += rate_of_block(block) * (min(deadline_s, start_s + block_s) - start_s)
        block += 1
        start_s = block * block_s
    return bits
