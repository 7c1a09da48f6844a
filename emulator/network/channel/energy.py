"""Transmit power and its energy.

Powers that result from Eq 25 are natural logarithms of watts: an efficiency of some thousand bit/s/Hz
would overflow a float before the power is scaled down to the limit of the device.
Shapes: G concurrent grants of one sender.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.core.types.arrays import DoubleArray

ENDLESS_LOG_W = 1e6
"""ln of a power [W] beside which all other powers are negligible."""


class FixedPower(BaseModel):
    """A constant total power, split equally among simultaneous grants."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["fixed"] = "fixed"
    power_w: FiniteFloat = Field(gt=0, description="Total transmit power of a device [W].")

    def keys_below(self, power_w: float) -> list[str]:
        """The fields of this policy that limit a device to less than power_w [W]."""
        return ["power_w"] if self.power_w < power_w else []

    def most_w(self, max_power_w: float) -> float:
        """The largest power with which a device may transmit [W]."""
        return min(self.power_w, max_power_w)

    def powers_w(self, log_needed_G: DoubleArray, max_power_w: float) -> DoubleArray:
        """Equal powers [G] in watts. Law: their sum is min(power_w, max_power_w)."""
        count = log_needed_G.size
        return np.full(count, min(self.power_w, max_power_w) / max(count, 1))


class LeastPower(BaseModel):
    """The least power that meets the deadline (Eq 25), under the limit of the device.

    If the sum exceeds the limit, all powers are scaled down by the same factor, and the links are late.
    Source: arXiv 2602.20492, Lemma 1 (Eq 25).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["least_power"] = "least_power"

    def keys_below(self, power_w: float) -> list[str]:
        """No field: this policy has no limit of its own."""
        return []

    def most_w(self, max_power_w: float) -> float:
        """The largest power with which a device may transmit [W]."""
        return max_power_w

    def powers_w(self, log_needed_G: DoubleArray, max_power_w: float) -> DoubleArray:
        """Powers [G] in watts from ln of the needed powers. Law: their sum is at most max_power_w.

        A grant for which no power is enough (inf) gets all the power.
        """
        log_needed_G = np.where(np.isposinf(log_needed_G), ENDLESS_LOG_W, log_needed_G)
        log_sum = float(np.logaddexp.reduce(log_needed_G, initial=-np.inf))
        excess = max(0.0, log_sum - float(np.log(max_power_w)))
        return np.exp(log_needed_G - excess)


Power = Annotated[FixedPower | LeastPower, Field(discriminator="kind")]


def transmit_energy_j(tx_power_w: float, circuit_power_w: float, airtime_s: float) -> float:
    """Energy of the sender for one grant [J]: (P + P_circuit)·airtime."""
    return (tx_power_w + circuit_power_w) * airtime_s
