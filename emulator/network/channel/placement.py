"""Placement of the devices. A position depends on (seed, device) only: a further device moves no other.

Every placement also defines the area in which its devices may walk: `map_to_area(unit_N2, placed_M2)`
maps uniform numbers in [0, 1) to the area of the placement, or to the bounding box of the devices if the
placement has no area. Areas are convex.
Shapes: M devices, N points; positions are [M, 2] in metres.
"""

import math
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.core.errors import ScenarioError
from emulator.core.rng import stream
from emulator.core.types.arrays import DoubleArray
from emulator.network.channel.csv_table import read_finite, read_table, read_whole, refuse

NO_DEVICES: DoubleArray = np.empty((0, 2))
"""Placed devices, for an area that does not depend on them."""


class DiscPlacement(BaseModel):
    """Uniform over a disc around the origin: radius R·√u, angle 2π·v.

    Source: arXiv 2602.20492, simulation setup (a disc of 250 m radius).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["disc"] = "disc"
    radius_m: FiniteFloat = Field(default=250.0, gt=0, description="Radius of the disc [m].")

    def place(self, devices: int, seed: int) -> DoubleArray:
        """Positions [M, 2] in metres; each device has its own keyed draw."""
        return self.map_to_area(_unit_square(devices, seed), NO_DEVICES)

    def map_to_area(self, unit_N2: DoubleArray, placed_M2: DoubleArray) -> DoubleArray:
        """Points [N, 2] of the disc, uniform over it."""
        radius_N = self.radius_m * np.sqrt(unit_N2[:, 0])
        angle_N = 2.0 * math.pi * unit_N2[:, 1]
        return np.stack([radius_N * np.cos(angle_N), radius_N * np.sin(angle_N)], axis=1)


class RectanglePlacement(BaseModel):
    """Uniform over a rectangle with one corner at the origin."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["rectangle"] = "rectangle"
    width_m: FiniteFloat = Field(gt=0, description="Extent along x [m].")
    height_m: FiniteFloat = Field(gt=0, description="Extent along y [m].")

    def place(self, devices: int, seed: int) -> DoubleArray:
        """Positions [M, 2] in metres; each device has its own keyed draw."""
        return self.map_to_area(_unit_square(devices, seed), NO_DEVICES)

    def map_to_area(self, unit_N2: DoubleArray, placed_M2: DoubleArray) -> DoubleArray:
        """Points [N, 2] of the rectangle, uniform over it."""
        sides_m = np.array([self.width_m, self.height_m], dtype=np.float64)
        return np.asarray(sides_m * unit_N2)


class GridPlacement(BaseModel):
    """Row by row on a square grid of ⌈√M⌉ columns, with the first device at the origin; no randomness."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["grid"] = "grid"
    spacing_m: FiniteFloat = Field(gt=0, description="Distance between grid neighbours [m].")

    def place(self, devices: int, seed: int) -> DoubleArray:
        """Positions [M, 2] in metres; the seed has no effect."""
        columns = math.isqrt(devices - 1) + 1 if devices else 1
        row_M, column_M = np.divmod(np.arange(devices), columns)
        return self.spacing_m * np.stack([column_M, row_M], axis=1).astype(np.float64)

    def map_to_area(self, unit_N2: DoubleArray, placed_M2: DoubleArray) -> DoubleArray:
        """Points [N, 2] of the bounding box of the devices."""
        return _in_box(unit_N2, placed_M2)


class FixedPlacement(BaseModel):
    """Listed positions: device i is at entry i."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["fixed"] = "fixed"
    positions_m: tuple[tuple[FiniteFloat, FiniteFloat], ...] = Field(
        description="One (x, y) for each device [m]."
    )

    def place(self, devices: int, seed: int) -> DoubleArray:
        """Positions [M, 2] in metres. Raises ScenarioError unless one is listed for each device."""
        if len(self.positions_m) != devices:
            raise ScenarioError(
                [
                    f"channel.placement.positions_m: got {len(self.positions_m)} positions, "
                    f"wanted one for each of {devices} devices"
                ]
            )
        return np.array(self.positions_m, dtype=np.float64).reshape(devices, 2)

    def map_to_area(self, unit_N2: DoubleArray, placed_M2: DoubleArray) -> DoubleArray:
        """Points [N, 2] of the bounding box of the devices."""
        return _in_box(unit_N2, placed_M2)


class FilePlacement(BaseModel):
    """Positions from a CSV file with the header `device,x_m,y_m` and one row for each device, in any order."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["file"] = "file"
    path: Path = Field(description="The CSV file, relative to the scenario file.")

    def place(self, devices: int, seed: int) -> DoubleArray:
        """Positions [M, 2] in metres. Raises ScenarioError unless each device has exactly one row."""
        columns = {"device": read_whole, "x_m": read_finite, "y_m": read_finite}
        rows = read_table(self.path, "channel.placement.path", columns)
        positions_M2 = np.full((devices, 2), np.nan)
        problems = []
        for row in rows:
            device, place = f"{self.path.name}:{row.number}: device", int(row.values[0])
            if not 0 <= place < devices:
                problems.append(f"{device}: got {place}, wanted one of {devices}, counted from 0")
            elif not np.isnan(positions_M2[place, 0]):
                problems.append(f"{device}: got {place} twice, wanted one row a device")
            else:
                positions_M2[place] = row.values[1:]
        nowhere = np.flatnonzero(np.isnan(positions_M2[:, 0]))
        problems += [f"{self.path.name}: got no row for device {i}, wanted one" for i in nowhere]
        refuse(problems)
        return positions_M2

    def map_to_area(self, unit_N2: DoubleArray, placed_M2: DoubleArray) -> DoubleArray:
        """Points [N, 2] of the bounding box of the devices."""
        return _in_box(unit_N2, placed_M2)


Placement = Annotated[
    DiscPlacement | RectanglePlacement | GridPlacement | FixedPlacement | FilePlacement,
    Field(discriminator="kind"),
]


def distances_m(positions_m: DoubleArray) -> DoubleArray:
    """Distances [M, M] between all devices in metres: symmetric, diagonal 0."""
    offset_MM2 = positions_m[:, None, :] - positions_m[None, :, :]
    return np.hypot(offset_MM2[..., 0], offset_MM2[..., 1])


def _unit_square(devices: int, seed: int) -> DoubleArray:
    """Two uniform numbers in [0, 1) for each device [M, 2]."""
    draws = [stream(seed, "placement", device).random(2) for device in range(devices)]
    return np.array(draws, dtype=np.float64).reshape(devices, 2)


def _in_box(unit_N2: DoubleArray, placed_M2: DoubleArray) -> DoubleArray:
    """Points [N, 2] of the bounding box of all devices."""
    low_m, high_m = placed_M2.min(axis=0), placed_M2.max(axis=0)
    return np.asarray(low_m + (high_m - low_m) * unit_N2)
