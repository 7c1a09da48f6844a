"""What distance costs: mean path loss in decibels, without shadowing or fading.

Every family gives `path_loss_db(distance_m)`, element by element, and does not fall with distance.
Below 1 m the far-field formulas mean nothing: distances are clamped to 1 m.
"""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.state import DoubleArray
from emulator.units import db_from_linear

LEAST_DISTANCE_M = 1.0
"""Shorter distances count as this one."""

SPEED_OF_LIGHT_M_PER_S = 299_792_458.0


class PowerLawPathLoss(BaseModel):
    """gain = beta0 · d^-exponent, d in metres.

    Source: arXiv 2602.20492, simulation setup (beta0 1e-4 at 1 m, exponent 2).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["power_law"] = "power_law"
    gain_at_1m: FiniteFloat = Field(
        default=1e-4, gt=0, le=1, description="beta0: linear power gain at 1 m."
    )
    exponent: FiniteFloat = Field(default=2.0, ge=0, description="Path loss exponent.")

    def path_loss_db(self, distance_m: DoubleArray) -> DoubleArray:
        """PL [dB] = -10 lg beta0 + 10·exponent·lg d."""
        return -db_from_linear(self.gain_at_1m) + 10.0 * self.exponent * _lg(distance_m)


class FreeSpacePathLoss(BaseModel):
    """Friis between isotropic antennas. Source: ITU-R P.525: (4π d f / c)²."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["free_space"] = "free_space"
    fc_ghz: FiniteFloat = Field(gt=0, description="Carrier frequency [GHz].")

    def path_loss_db(self, distance_m: DoubleArray) -> DoubleArray:
        """PL [dB] = 20 lg(4π f / c) + 20 lg d."""
        at_1m_db = 20.0 * math.log10(4.0 * math.pi * self.fc_ghz * 1e9 / SPEED_OF_LIGHT_M_PER_S)
        return at_1m_db + 20.0 * _lg(distance_m)


class LogDistancePathLoss(BaseModel):
    """A measured loss at a reference distance and an exponent.

    Source: Rappaport, Wireless Communications, section 4.9.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["log_distance"] = "log_distance"
    reference_db: FiniteFloat = Field(ge=0, description="Path loss at reference_m [dB].")
    reference_m: FiniteFloat = Field(default=1.0, ge=1, description="Reference distance [m].")
    exponent: FiniteFloat = Field(ge=0, description="Path loss exponent.")

    def path_loss_db(self, distance_m: DoubleArray) -> DoubleArray:
        """PL [dB] = reference_db + 10·exponent·lg(d / reference_m)."""
        excess = _lg(distance_m) - math.log10(self.reference_m)
        return self.reference_db + 10.0 * self.exponent * excess


class NoPathLoss(BaseModel):
    """0 dB between any two devices: links without geometry."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["none"] = "none"

    def path_loss_db(self, distance_m: DoubleArray) -> DoubleArray:
        """PL [dB] = 0."""
        return np.zeros_like(distance_m)


PathLoss = Annotated[
    PowerLawPathLoss | FreeSpacePathLoss | LogDistancePathLoss | NoPathLoss,
    Field(discriminator="kind"),
]


def _lg(distance_m: DoubleArray) -> DoubleArray:
    """lg of the distance in metres, clamped."""
    return np.log10(np.maximum(distance_m, LEAST_DISTANCE_M))
