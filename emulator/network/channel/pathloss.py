"""Mean path loss over distance in decibels, without shadowing or fading.

This file has the families without line-of-sight states, which ignore `line_of_sight`; the families of
the standards have their own files. Far-field formulas are not valid below 1 m, so distances are clamped
to 1 m.
"""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, FiniteFloat

from emulator.core.types.arrays import BoolArray, DoubleArray
from emulator.core.units import db_from_linear
from emulator.network.channel.pathloss_base import CARRIER, LEAST_DISTANCE_M, PathLossFamily, Spread
from emulator.network.channel.tr37885 import SidelinkHighwayPathLoss, SidelinkUrbanPathLoss
from emulator.network.channel.tr38901 import InfPathLoss, InhPathLoss, UmaPathLoss, UmiPathLoss

SPEED_OF_LIGHT_M_PER_S = 299_792_458.0


class PowerLawPathLoss(PathLossFamily):
    """gain = beta0 · d^-exponent, d in metres.

    Source: arXiv 2602.20492, simulation setup (beta0 1e-4 at 1 m, exponent 2).
    """

    kind: Literal["power_law"] = "power_law"
    gain_at_1m: FiniteFloat = Field(
        default=1e-4, gt=0, le=1, description="beta0: linear power gain at 1 m."
    )
    exponent: FiniteFloat = Field(default=2.0, ge=0, description="Path loss exponent.")

    def path_loss_db(self, distance_2d_m: DoubleArray, line_of_sight: BoolArray) -> DoubleArray:
        """PL [dB] = -10 lg beta0 + 10·exponent·lg d."""
        return -db_from_linear(self.gain_at_1m) + 10.0 * self.exponent * _lg(distance_2d_m)


class FreeSpacePathLoss(PathLossFamily):
    """Friis between isotropic antennas. Source: ITU-R P.525: (4π d f / c)²."""

    kind: Literal["free_space"] = "free_space"
    fc_ghz: FiniteFloat = CARRIER

    def path_loss_db(self, distance_2d_m: DoubleArray, line_of_sight: BoolArray) -> DoubleArray:
        """PL [dB] = 20 lg(4π f / c) + 20 lg d."""
        at_1m_db = 20.0 * math.log10(4.0 * math.pi * self.fc_ghz * 1e9 / SPEED_OF_LIGHT_M_PER_S)
        return at_1m_db + 20.0 * _lg(distance_2d_m)


class LogDistancePathLoss(PathLossFamily):
    """A measured loss at a reference distance and an exponent.

    Source: Rappaport, Wireless Communications, section 4.9.
    """

    kind: Literal["log_distance"] = "log_distance"
    reference_db: FiniteFloat = Field(ge=0, description="Path loss at reference_m [dB].")
    reference_m: FiniteFloat = Field(default=1.0, ge=1, description="Reference distance [m].")
    exponent: FiniteFloat = Field(ge=0, description="Path loss exponent.")

    def path_loss_db(self, distance_2d_m: DoubleArray, line_of_sight: BoolArray) -> DoubleArray:
        """PL [dB] = reference_db + 10·exponent·lg(d / reference_m)."""
        excess = _lg(distance_2d_m) - math.log10(self.reference_m)
        return self.reference_db + 10.0 * self.exponent * excess


class NoPathLoss(PathLossFamily):
    """0 dB between any two devices: links without geometry."""

    kind: Literal["none"] = "none"

    def path_loss_db(self, distance_2d_m: DoubleArray, line_of_sight: BoolArray) -> DoubleArray:
        """PL [dB] = 0."""
        return np.zeros_like(distance_2d_m)


class Macro128PathLoss(PathLossFamily):
    """128.1 + 37.6 lg d_km: the macro cell at 2 GHz that many papers use.

    The base station is 15 m above the roofs, without line of sight. The source states no range of
    validity. Source: 3GPP TR 36.814, table A.2.1.1-1 (shadowing 8 dB, decorrelation 50 m).
    """

    kind: Literal["macro_128"] = "macro_128"

    @property
    def measured_at_ghz(self) -> float:
        """2 GHz."""
        return 2.0

    def path_loss_db(self, distance_2d_m: DoubleArray, line_of_sight: BoolArray) -> DoubleArray:
        """PL [dB] = 128.1 + 37.6 (lg d - 3)."""
        return 128.1 + 37.6 * (_lg(distance_2d_m) - 3.0)

    def shadowing_spread(self) -> Spread:
        """8 dB and 50 m in both states."""
        return Spread(8.0, 8.0, 50.0, 50.0)


PathLoss = Annotated[
    PowerLawPathLoss
    | FreeSpacePathLoss
    | LogDistancePathLoss
    | NoPathLoss
    | Macro128PathLoss
    | UmiPathLoss
    | UmaPathLoss
    | InhPathLoss
    | InfPathLoss
    | SidelinkUrbanPathLoss
    | SidelinkHighwayPathLoss,
    Field(discriminator="kind"),
]


def _lg(distance_m: DoubleArray) -> DoubleArray:
    """lg of the distance [m], which is clamped to LEAST_DISTANCE_M."""
    return np.log10(np.maximum(distance_m, LEAST_DISTANCE_M))
