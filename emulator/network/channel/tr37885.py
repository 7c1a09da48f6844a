"""Path loss between vehicles: 3GPP TR 37.885, table 6.2.1-1. PL in dB, d3D in metres, fc in GHz.

Without line of sight, buildings block the path. The third state of the standard, in which other vehicles
block it (NLOSv: the loss of LOS and a random blockage), is not modelled. Neither is the probability of
its states, which depends on a map of streets.
"""

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, FiniteFloat

from emulator.core.types.arrays import BoolArray, DoubleArray
from emulator.network.channel.pathloss_base import CARRIER, LEAST_DISTANCE_M, PathLossFamily, Spread

FC_GHZ = (0.5, 100.0)
"""The report states no range, and studies links around 6 GHz and up to 63 GHz. This is the range of TR
38.901, on which it builds (ns-3 uses the same range)."""

MOST_3D_M = 5000.0
"""The report states no largest distance. Its streets and highways, and the cells of TR 38.901, are some
kilometres long."""

SIDELINK_SPREAD = Spread(los_db=3.0, nlos_db=4.0, los_m=10.0, nlos_m=13.0)
"""Deviations of table 6.2.1-1, distances of table 6.2.3-1; ns-3 uses them for both kinds of streets."""


class _SidelinkPathLoss(PathLossFamily):
    """The base of both kinds of streets. `LOS`: constant, factor of lg d3D and factor of lg fc with line of
    sight [dB]."""

    PLACE: ClassVar[str]
    LOS: ClassVar[tuple[float, float, float]]

    kind: str
    fc_ghz: FiniteFloat = CARRIER
    first_height_m: FiniteFloat = Field(default=1.6, ge=0, description="One antenna's height [m].")
    second_height_m: FiniteFloat = Field(default=1.6, ge=0, description="The other's height [m].")

    @property
    def surroundings(self) -> str:
        """The kind of streets of the family."""
        return self.PLACE

    def path_loss_db(self, distance_2d_m: DoubleArray, line_of_sight: BoolArray) -> DoubleArray:
        """PL [dB], element by element."""
        constant, per_distance, per_frequency = self.LOS
        rise_m = self.first_height_m - self.second_height_m
        d3d_m = np.maximum(np.hypot(distance_2d_m, rise_m), LEAST_DISTANCE_M)
        lg_3d = np.log10(self.check_most("distance_3d_m", d3d_m, MOST_3D_M))
        lg_fc = math.log10(float(self.clamp("fc_ghz", self.fc_ghz, *FC_GHZ)))
        los_db = constant + per_distance * lg_3d + per_frequency * lg_fc
        return np.where(line_of_sight, los_db, 36.85 + 30.0 * lg_3d + 18.9 * lg_fc)

    def shadowing_spread(self) -> Spread:
        """3 dB with line of sight, 4 dB without."""
        return SIDELINK_SPREAD


class SidelinkUrbanPathLoss(_SidelinkPathLoss):
    """Vehicle to vehicle in city streets.

    LOS: 38.77 + 16.7 lg d3D + 18.2 lg fc. NLOS: 36.85 + 30 lg d3D + 18.9 lg fc.
    The report states no range. Distances below 1 m count as 1 m, and carriers outside 0.5-100 GHz as the
    nearest inside. Beyond 5 km the formula still holds, with a warning.
    Source: TR 37.885, table 6.2.1-1.
    """

    PLACE: ClassVar[str] = "streets"
    LOS: ClassVar[tuple[float, float, float]] = (38.77, 16.7, 18.2)
    kind: Literal["sidelink_urban"] = "sidelink_urban"


class SidelinkHighwayPathLoss(_SidelinkPathLoss):
    """Vehicle to vehicle on a highway.

    LOS: 32.4 + 20 lg d3D + 20 lg fc. NLOS: 36.85 + 30 lg d3D + 18.9 lg fc.
    The report states no range. Distances below 1 m count as 1 m, and carriers outside 0.5-100 GHz as the
    nearest inside. Beyond 5 km the formula still holds, with a warning.
    Source: TR 37.885, table 6.2.1-1.
    """

    PLACE: ClassVar[str] = "highways"
    LOS: ClassVar[tuple[float, float, float]] = (32.4, 20.0, 20.0)
    kind: Literal["sidelink_highway"] = "sidelink_highway"
