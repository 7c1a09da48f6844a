"""Rate laws: bits per second as a function of the signal-to-noise ratio (SNR).

A rate law has `bit_per_s(snr, bandwidth_hz)` and its inverse `log_snr(bit_per_s, bandwidth_hz)`, the
natural logarithm of the least SNR that carries a rate. The logarithm is needed because a required
efficiency may be thousands of bit/s/Hz, and no float can hold its SNR. `trace.py` has the rate that
follows a recording.

`depends_on_snr` states whether the SNR matters; a law with True also has a `label` for figures.
"""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.core.units import linear_from_db
from emulator.network.channel.cqi import NrCqiRate
from emulator.network.channel.flow import require_band
from emulator.network.channel.trace import TraceRate


class FixedRate(BaseModel):
    """One rate for every link, whatever its SNR and bandwidth."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    depends_on_snr: ClassVar[Literal[False]] = False
    kind: Literal["fixed"] = "fixed"
    link_bit_per_s: FiniteFloat = Field(gt=0, description="Rate of every link [bit/s].")

    def bit_per_s(self, snr: float, bandwidth_hz: float) -> float:
        """Rate [bit/s]."""
        return self.link_bit_per_s

    def log_snr(self, bit_per_s: float, bandwidth_hz: float) -> float:
        """ln of the least SNR that carries the rate: -inf if every link can, inf if no link can."""
        return -math.inf if bit_per_s <= self.link_bit_per_s else math.inf

    def reachable_bit_per_s(self, bit_per_s: float, bandwidth_hz: float) -> float:
        """The smaller of the wanted rate and the highest rate of the law [bit/s]."""
        return min(bit_per_s, self.link_bit_per_s)


class ShannonRate(BaseModel):
    """R = B·min(cap, log2(1 + SNR / gap)). Law: the rate does not fall with SNR.

    Needs a finite bandwidth (raises ScenarioError), which is also the noise bandwidth.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    depends_on_snr: ClassVar[Literal[True]] = True
    kind: Literal["shannon"] = "shannon"
    gap_db: FiniteFloat = Field(default=0.0, ge=0, description="SNR gap to capacity [dB].")
    max_bit_per_s_hz: FiniteFloat | None = Field(
        default=None, gt=0, description="Highest spectral efficiency [bit/s/Hz]; none if absent."
    )

    @property
    def label(self) -> str:
        """The name of the curve in a figure, with gap and cap unless both are the defaults."""
        if self == ShannonRate():
            return "Shannon"
        cap = "" if self.max_bit_per_s_hz is None else f", at most {self.max_bit_per_s_hz:g}"
        return f"Shannon, gap {self.gap_db:g} dB{cap}"

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
        """The smaller of the wanted rate and the highest rate of the law [bit/s]."""
        return min(bit_per_s, self._cap * bandwidth_hz)

    @property
    def _cap(self) -> float:
        return math.inf if self.max_bit_per_s_hz is None else self.max_bit_per_s_hz


Rate = Annotated[FixedRate | ShannonRate | NrCqiRate | TraceRate, Field(discriminator="kind")]
