"""Rates of a 5G link: a step function of the SNR, by its channel quality indicator (CQI)."""

import bisect
import math
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.core.units import db_from_linear, linear_from_db
from emulator.network.channel.flow import require_band

EFFICIENCY_BIT_PER_S_HZ = (
    0.1523, 0.2344, 0.3770, 0.6016, 0.8770, 1.1758, 1.4766, 1.9141,
    2.4063, 2.7305, 3.3223, 3.9023, 4.5234, 5.1152, 5.5547,
)  # fmt: skip
"""Spectral efficiency of CQI 1 to 15. Source: 3GPP TS 38.214, table 5.2.2.1-2 (up to 64-QAM)."""

THRESHOLD_DB = (
    -8.28, -6.28, -4.00, -1.62, 0.45, 2.40, 4.23, 6.11,
    8.09, 9.81, 11.82, 13.69, 15.71, 17.83, 19.82,
)  # fmt: skip
"""SNR [dB] at which CQI 1 to 15 lose one code block of 1024 bits in ten.

Source: link-level simulation with Sionna 2.2.0 (5G LDPC, 20 iterations, Gray QAM, AWGN, no
retransmissions), with an uncertainty of about 0.1 dB. CQI 1 to 3 were not simulated; they are taken
1.25 dB from capacity, like CQI 4 and 5.
"""

RESOURCE_SHARE = 0.8904
"""Resource elements a second and hertz of 20 MHz: 106 resource blocks of 12 subcarriers, 15 kHz apart,
with 14 symbols a millisecond.

106·12·14 000 / 20 000 000: guard bands take 4.6 %, and cyclic prefixes 6.7 % of the rest.
Source: 3GPP TS 38.101-1, table 5.3.2-1; TS 38.211, table 4.3.2-1.
"""

SAME_SNR = 1e-9
"""Relative tolerance of an SNR: least power meets a threshold exactly, and rounding may take it below."""

SAME_RATE = 1e-12
"""Relative tolerance of a rate: efficiency times bandwidth may round to just below the rate it defines."""


class NrCqiRate(BaseModel):
    """R = efficiency(CQI)·B·resource_share·(1 - overhead), with the highest CQI whose threshold is met.

    resource_share: resource elements a second for each hertz of B. overhead: the share of them that
    holds control channels and reference signals. At CQI 15 R is the peak rate of TS 38.306 for one
    layer of 64-QAM: 85.07 Mb/s in 20 MHz with 106 blocks of 15 kHz; 51 blocks of 30 kHz (a
    resource_share of 0.8568) give 81.86 Mb/s. Below the first threshold the rate is 0. Needs a finite
    bandwidth (raises ScenarioError). Noise counts in all of B: 0.2 dB more than in the 19.08 MHz of
    106 blocks. Law: the rate does not fall with SNR.
    Source: 3GPP TS 38.306, section 4.1.2 (0.14 in FR1 and 0.18 in FR2, downlink) and 4.1.5 (sidelink:
    0.217 and 0.25).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    depends_on_snr: ClassVar[Literal[True]] = True
    kind: Literal["nr_cqi"] = "nr_cqi"
    overhead: float = Field(
        default=0.14,
        ge=0,
        lt=1,
        description="Share of the resource elements that carries no data, as in TS 38.306.",
    )
    resource_share: FiniteFloat = Field(
        default=RESOURCE_SHARE,
        gt=0,
        le=1,
        description="Resource elements a second and hertz, without guard bands and cyclic prefixes.",
    )

    @property
    def label(self) -> str:
        """The name of the curve in a figure, with the overhead."""
        return f"NR CQI, {100 * self.overhead:g} % overhead" if self.overhead else "NR CQI"

    def bit_per_s(self, snr: float, bandwidth_hz: float) -> float:
        """Rate [bit/s]."""
        index = _cqi(snr)
        return self._rates_bit_per_s(bandwidth_hz)[index - 1] if index else 0.0

    def threshold_db(self, snr: float) -> float | None:
        """The threshold of the CQI in use [dB]; None below the first threshold."""
        index = _cqi(snr)
        return THRESHOLD_DB[index - 1] if index else None

    def log_snr(self, bit_per_s: float, bandwidth_hz: float) -> float:
        """ln of the least threshold that carries the rate; -inf for rate 0, inf beyond CQI 15."""
        rates = self._rates_bit_per_s(bandwidth_hz)
        if bit_per_s <= 0.0:
            return -math.inf
        index = bisect.bisect_left(rates, bit_per_s * (1.0 - SAME_RATE))
        return math.log(linear_from_db(THRESHOLD_DB[index])) if index < len(rates) else math.inf

    def reachable_bit_per_s(self, bit_per_s: float, bandwidth_hz: float) -> float:
        """The smaller of the wanted rate and the highest rate [bit/s]."""
        return min(bit_per_s, self._rates_bit_per_s(bandwidth_hz)[-1])

    def _rates_bit_per_s(self, bandwidth_hz: float) -> list[float]:
        """Rates of CQI 1 to 15, ascending [bit/s]."""
        require_band(bandwidth_hz)
        usable_hz = bandwidth_hz * self.resource_share * (1.0 - self.overhead)
        return [efficiency * usable_hz for efficiency in EFFICIENCY_BIT_PER_S_HZ]


def _cqi(snr: float) -> int:
    """The highest CQI that an SNR carries; 0 for none."""
    if snr <= 0.0:
        return 0
    return bisect.bisect_right(THRESHOLD_DB, db_from_linear(snr * (1.0 + SAME_SNR)))
