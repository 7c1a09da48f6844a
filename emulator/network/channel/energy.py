"""Transmit power and what it costs.

Powers are handled as natural logarithms of watts where Eq 25 makes them: an efficiency of some
thousand bit/s/Hz would overflow any float before it is scaled down to what the device has.
Shapes: G concurrent grants of one sender.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.core.types.arrays import DoubleArray

ENDLESS_LOG_W = 1e6
"""ln of a power [W] beside which all others are nothing."""


class FixedPower(BaseModel):
    """A constant total power, split equally over the grants that are on the air at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["fixed"] = "fixed"
    power_w: FiniteFloat = Field(gt=0, description="Total transmit power of a device [W].")

    def most_w(self, max_power_w: float) -> float:
        """The power that a device may be heard with [W]."""
        return min(self.power_w, max_power_w)

    def powers_w(self, log_needed_G: DoubleArray, max_power_w: float) -> DoubleArray:
        """Powers [G] in watts, whatever is needed. Law: their sum is min(power_w, max_power_w)."""
        count = log_needed_G.size
        return np.full(count, min(self.power_w, max_power_w) / max(count, 1))


class LeastPower(BaseModel):
    """The least power that meets the deadline (Eq 25), under the limit of the device.

    When the sum would pass the limit, all are scaled down alike and these links will be late.
    Source: arXiv 2602.20492, Lemma 1 (Eq 25).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["least_power"] = "least_power"

    def most_w(self, max_power_w: float) -> float:
        """The power that a device may be heard with [W]."""
        return max_power_w

    def powers_w(self, log_needed_G: DoubleArray, max_power_w: float) -> DoubleArray:
        """Powers [G] in watts from ln of the needed ones. Law: the sum is at most max_power_w.

        Where no power is enough (inf), all there is.
        """
        log_needed_G = np.where(np.isposinf(log_needed_G), ENDLESS_LOG_W, log_needed_G)
        log_sum = float(np.logaddexp.reduce(log_needed_G, initial=-np.inf))
        excess = max(0.0, log_sum - float(np.log(max_power_w)))
        return np.exp(log_needed_G - excess)


Power = Annotated[FixedPower | LeastPower, Field(discriminator="kind")]


def transmit_energy_j(tx_power_w: float, circuit_power_w: float, airtime_s: float) -> float:
    """E = (P + P_circuit)·airtime [J]: what the sender spends on one grant."""
    return (tx_power_w + circuit_power_w) * airtime_s
