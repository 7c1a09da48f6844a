"""Path loss between a base station and a user terminal: 3GPP TR 38.901, table 7.4.1-1.

Distances in metres, 2D along the floor and 3D between the antennas; PL in dB with fc in GHz.
There is no O2I penetration. Shadowing: deviations of table 7.4.1-1, distances of table 7.5-6.

The models were not measured between devices. Here one antenna of every pair is at h_bs_m and the other at
h_ut_m, no matter which, so that the loss is the same in both directions. Set both heights to that of the
devices; the standard evaluates h_bs_m at its default only.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, FiniteFloat

from emulator.core.types.arrays import BoolArray, DoubleArray
from emulator.network.channel.pathloss_base import CARRIER, PathLossFamily, Spread

SPEED_OF_LIGHT_M_PER_S = {"standard": 3.0e8, "exact": 299_792_458.0}
"""The standard rounds c; the exact value changes a loss beyond the breakpoint by less than 0.006 dB."""

FC_GHZ = (0.5, 100.0)
CELL_2D_M = (10.0, 5000.0)
OFFICE_3D_M = (1.0, 150.0)
FACTORY_3D_M = (1.0, 600.0)
TERMINAL_M = (1.5, 22.5)
TERMINAL_ON_THE_GROUND_M = (1.5, 13.0)
"""For higher terminals UMa draws the height of the surroundings for every link, which is not implemented."""

SURROUNDINGS_M = 1.0
"""h_E: the height above which the effective antenna heights of UMi and UMa count [m]."""

InfVariant = Literal["sl", "dl", "sh", "dh"]
"""Sparse or dense clutter (s, d), and a base station lower or higher than the clutter (l, h)."""

INF_H_BS_M: dict[str, float] = {"sl": 1.5, "dl": 1.5, "sh": 8.0, "dh": 8.0}
"""Base station heights of the standard's calibration, table 7.8-7 [m]."""


class _Tr38901PathLoss(PathLossFamily):
    """The base of the families of the report: `PLACE`, and a band of at most 10 % of fc and 2 GHz.

    Source: TR 38.901, section 7.1.
    """

    PLACE: ClassVar[str]

    kind: str
    fc_ghz: FiniteFloat = CARRIER

    @property
    def surroundings(self) -> str:
        """The kind of place of the family."""
        return self.PLACE

    @property
    def widest_band_hz(self) -> float:
        """10 % of the carrier, at most 2 GHz [Hz]."""
        return min(0.1 * self.fc_ghz, 2.0) * 1e9


class UmiPathLoss(_Tr38901PathLoss):
    """Urban micro cell, street canyon.

    LOS: 32.4 + 21 lg d3D + 20 lg fc up to the breakpoint d' = 4 (h_bs-1)(h_ut-1) fc/c, beyond it
    32.4 + 40 lg d3D + 20 lg fc - 9.5 lg(d'² + (h_bs-h_ut)²).
    NLOS: max(LOS, 35.3 lg d3D + 22.4 + 21.3 lg fc - 0.3 (h_ut-1.5)).
    Valid for 10 m <= d2D <= 5 km, fc 0.5-100 GHz, h_ut 1.5-22.5 m.
    Source: TR 38.901, table 7.4.1-1; decorrelation 10 m and 13 m.
    """

    PLACE: ClassVar[str] = "streets"
    kind: Literal["umi"] = "umi"
    h_bs_m: FiniteFloat = Field(default=10.0, gt=1, description="Height of one antenna [m].")
    h_ut_m: FiniteFloat = Field(default=1.5, gt=0, description="Height of the other antenna [m].")
    speed_of_light: Literal["standard", "exact"] = Field(
        default="standard", description="c in the breakpoint: 3.0e8 m/s, or 299792458 m/s."
    )

    def path_loss_db(self, distance_2d_m: DoubleArray, line_of_sight: BoolArray) -> DoubleArray:
        """PL [dB], element by element."""
        d2d_m = self.clamp("distance_2d_m", distance_2d_m, *CELL_2D_M, distance_2d_m > 0.0)
        fc_ghz = float(self.clamp("fc_ghz", self.fc_ghz, *FC_GHZ))
        h_ut_m = float(self.clamp("h_ut_m", self.h_ut_m, *TERMINAL_M))
        breakpoint_m = _breakpoint_m(fc_ghz, self.h_bs_m, h_ut_m, self.speed_of_light)
        rise_m = self.h_bs_m - h_ut_m
        lg_3d = np.log10(np.hypot(d2d_m, rise_m))
        near_db = 32.4 + 21.0 * lg_3d
        far_db = 32.4 + 40.0 * lg_3d - 9.5 * math.log10(breakpoint_m**2 + rise_m**2)
        los_db = np.where(d2d_m <= breakpoint_m, near_db, far_db) + 20.0 * math.log10(fc_ghz)
        nlos_db = 35.3 * lg_3d + 22.4 + 21.3 * math.log10(fc_ghz) - 0.3 * (h_ut_m - 1.5)
        return _by_state(line_of_sight, los_db, nlos_db)

    def shadowing_spread(self) -> Spread:
        """4 dB with line of sight, 7.82 dB without."""
        return Spread(4.0, 7.82, 10.0, 13.0)


class UmaPathLoss(_Tr38901PathLoss):
    """Urban macro cell.

    LOS: 28 + 22 lg d3D + 20 lg fc up to the breakpoint d' = 4 (h_bs-1)(h_ut-1) fc/c, beyond it
    28 + 40 lg d3D + 20 lg fc - 9 lg(d'² + (h_bs-h_ut)²).
    NLOS: max(LOS, 13.54 + 39.08 lg d3D + 20 lg fc - 0.6 (h_ut-1.5)).
    Valid for 10 m <= d2D <= 5 km, fc 0.5-100 GHz and, here, h_ut 1.5-13 m.
    Source: TR 38.901, table 7.4.1-1; decorrelation 37 m and 50 m.
    """

    PLACE: ClassVar[str] = "macro cells"
    kind: Literal["uma"] = "uma"
    h_bs_m: FiniteFloat = Field(default=25.0, gt=1, description="Height of one antenna [m].")
    h_ut_m: FiniteFloat = Field(default=1.5, gt=0, description="Height of the other antenna [m].")
    speed_of_light: Literal["standard", "exact"] = Field(
        default="standard", description="c in the breakpoint: 3.0e8 m/s, or 299792458 m/s."
    )

    def path_loss_db(self, distance_2d_m: DoubleArray, line_of_sight: BoolArray) -> DoubleArray:
        """PL [dB], element by element."""
        d2d_m = self.clamp("distance_2d_m", distance_2d_m, *CELL_2D_M, distance_2d_m > 0.0)
        fc_ghz = float(self.clamp("fc_ghz", self.fc_ghz, *FC_GHZ))
        h_ut_m = float(self.clamp("h_ut_m", self.h_ut_m, *TERMINAL_ON_THE_GROUND_M))
        breakpoint_m = _breakpoint_m(fc_ghz, self.h_bs_m, h_ut_m, self.speed_of_light)
        rise_m = self.h_bs_m - h_ut_m
        lg_3d = np.log10(np.hypot(d2d_m, rise_m))
        near_db = 28.0 + 22.0 * lg_3d
        far_db = 28.0 + 40.0 * lg_3d - 9.0 * math.log10(breakpoint_m**2 + rise_m**2)
        los_db = np.where(d2d_m <= breakpoint_m, near_db, far_db) + 20.0 * math.log10(fc_ghz)
        nlos_db = 13.54 + 39.08 * lg_3d + 20.0 * math.log10(fc_ghz) - 0.6 * (h_ut_m - 1.5)
        return _by_state(line_of_sight, los_db, nlos_db)

    @property
    def setting(self) -> Mapping[str, object]:
        """The height of the terminal."""
        return {"h_ut_m": self.h_ut_m}

    def shadowing_spread(self) -> Spread:
        """4 dB with line of sight, 6 dB without."""
        return Spread(4.0, 6.0, 37.0, 50.0)


class InhPathLoss(_Tr38901PathLoss):
    """Indoor hotspot, office.

    LOS: 32.4 + 17.3 lg d3D + 20 lg fc. NLOS: max(LOS, 38.3 lg d3D + 17.3 + 24.9 lg fc).
    Valid for 1 m <= d3D <= 150 m, fc 0.5-100 GHz.
    Source: TR 38.901, table 7.4.1-1; decorrelation 10 m and 6 m.
    """

    PLACE: ClassVar[str] = "offices"
    kind: Literal["inh"] = "inh"
    h_bs_m: FiniteFloat = Field(default=3.0, ge=0, description="Height of one antenna [m].")
    h_ut_m: FiniteFloat = Field(default=1.0, ge=0, description="Height of the other antenna [m].")

    def path_loss_db(self, distance_2d_m: DoubleArray, line_of_sight: BoolArray) -> DoubleArray:
        """PL [dB], element by element."""
        lg_fc = math.log10(float(self.clamp("fc_ghz", self.fc_ghz, *FC_GHZ)))
        d3d_m = np.hypot(distance_2d_m, self.h_bs_m - self.h_ut_m)
        lg_3d = np.log10(self.clamp("distance_3d_m", d3d_m, *OFFICE_3D_M, distance_2d_m > 0.0))
        los_db = 32.4 + 17.3 * lg_3d + 20.0 * lg_fc
        return _by_state(line_of_sight, los_db, 38.3 * lg_3d + 17.3 + 24.9 * lg_fc)

    def shadowing_spread(self) -> Spread:
        """3 dB with line of sight, 8.03 dB without."""
        return Spread(3.0, 8.03, 10.0, 6.0)


class InfPathLoss(_Tr38901PathLoss):
    """Indoor factory: sparse or dense clutter, one antenna low or high (sl, dl, sh, dh).

    LOS: 31.84 + 21.5 lg d3D + 19 lg fc. NLOS, never less than LOS, each with + 20 lg fc:
    sl 33 + 25.5 lg d3D; dl 18.6 + 35.7 lg d3D, and never less than sl; sh 32.4 + 23 lg d3D;
    dh 33.63 + 21.9 lg d3D. Valid for 1 m <= d3D <= 600 m, fc 0.5-100 GHz.
    Source: TR 38.901, table 7.4.1-1; decorrelation 10 m in both states.
    """

    NLOS: ClassVar[dict[str, tuple[float, float]]] = {
        "sl": (33.0, 25.5),
        "dl": (18.6, 35.7),
        "sh": (32.4, 23.0),
        "dh": (33.63, 21.9),
    }
    NLOS_SIGMA_DB: ClassVar[dict[str, float]] = {"sl": 5.7, "dl": 7.2, "sh": 5.9, "dh": 4.0}

    PLACE: ClassVar[str] = "factories"
    kind: Literal["inf"] = "inf"
    variant: InfVariant = Field(description="Clutter sparse or dense, base station low or high.")
    h_bs_m: FiniteFloat | None = Field(
        default=None,
        ge=0,
        description="Height of one antenna [m]: 1.5 (low) or 8 (high) by default.",
    )
    h_ut_m: FiniteFloat = Field(default=1.5, ge=0, description="Height of the other antenna [m].")

    def path_loss_db(self, distance_2d_m: DoubleArray, line_of_sight: BoolArray) -> DoubleArray:
        """PL [dB], element by element."""
        lg_fc = math.log10(float(self.clamp("fc_ghz", self.fc_ghz, *FC_GHZ)))
        d3d_m = np.hypot(distance_2d_m, inf_h_bs_m(self.variant, self.h_bs_m) - self.h_ut_m)
        lg_3d = np.log10(self.clamp("distance_3d_m", d3d_m, *FACTORY_3D_M, distance_2d_m > 0.0))
        los_db = 31.84 + 21.5 * lg_3d + 19.0 * lg_fc
        variants = ("sl", "dl") if self.variant == "dl" else (self.variant,)
        laws = [self.NLOS[variant] for variant in variants]
        nlos_db = [constant + slope * lg_3d + 20.0 * lg_fc for constant, slope in laws]
        return _by_state(line_of_sight, los_db, np.maximum.reduce(nlos_db))

    @property
    def setting(self) -> Mapping[str, object]:
        """The clutter, and both heights."""
        h_bs_m = inf_h_bs_m(self.variant, self.h_bs_m)
        return {"variant": self.variant, "h_bs_m": h_bs_m, "h_ut_m": self.h_ut_m}

    def shadowing_spread(self) -> Spread:
        """4.3 dB with line of sight, 4 to 7.2 dB without."""
        return Spread(4.3, self.NLOS_SIGMA_DB[self.variant], 10.0, 10.0)


def inf_h_bs_m(variant: InfVariant, h_bs_m: float | None) -> float:
    """The base station height of a factory as given, or that of the calibration [m]."""
    return INF_H_BS_M[variant] if h_bs_m is None else h_bs_m


def _breakpoint_m(fc_ghz: float, h_bs_m: float, h_ut_m: float, speed_of_light: str) -> float:
    """2D distance beyond which the reflection from the ground matters [m]."""
    heights = (h_bs_m - SURROUNDINGS_M) * (h_ut_m - SURROUNDINGS_M)
    return 4.0 * heights * fc_ghz * 1e9 / SPEED_OF_LIGHT_M_PER_S[speed_of_light]


def _by_state(line_of_sight: BoolArray, los_db: DoubleArray, nlos_db: DoubleArray) -> DoubleArray:
    """The loss of each pair in its state; the loss without line of sight is never less than with it."""
    return np.where(line_of_sight, los_db, np.maximum(los_db, nlos_db))
