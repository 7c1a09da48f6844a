"""How fast bits flow at a signal-to-noise ratio. `trace` alone knows none: see `trace.py`.

A rate law gives `bit_per_s(snr, bandwidth_hz)` and its inverse `log_snr(bit_per_s, bandwidth_hz)`,
the natural logarithm of the least SNR that carries a rate: needed efficiencies may be thousands of
bit/s/Hz, whose SNR no float can hold.
"""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.core.units import linear_from_db
from emulator.network.channel.cqi import NrCqiRate
from emulator.network.channel.flow import require_band
from emulator.network.channel.trace import TraceRate


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
        require_band(bandwidth_hz)
        efficiency = math.log1p(snr / linear_from_db(self.gap_db)) / math.log(2.0)
        return bandwidth_hz * min(efficiency, self._cap)

    def log_snr(self, bit_per_s: float, bandwidth_hz: float) -> float:
        """ln of the least SNR that carries the rate; -inf for rate 0, inf beyond the cap.

        With y = R ln2 / B: ln(gap·(e^y − 1)) = ln gap + y + ln(1 − e^−y), which cannot overflow.
        """
        require_band(bandwidth_hz)
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


Rate = Annotated[FixedRate | ShannonRate | NrCqiRate | TraceRate, Field(discriminator="kind")]
