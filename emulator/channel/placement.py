"""Where the devices stand. Positions depend on (seed, device) only: adding a device moves nobody.

Shapes: M devices; positions are [M, 2] in metres.
"""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.errors import ScenarioError
from emulator.state import DoubleArray
from emulator.streams import stream


class DiscPlacement(BaseModel):
    """Uniform over a disc around the origin: radius R·√u, angle 2π·v.

    Source: arXiv 2602.20492, simulation setup (a disc of 250 m radius).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["disc"] = "disc"
    radius_m: FiniteFloat = Field(default=250.0, gt=0, description="Radius of the disc [m].")

    def place(self, devices: int, seed: int) -> DoubleArray:
        """Positions [M, 2] in metres; each device has its own keyed draw."""
        unit_M2 = _unit_square(devices, seed)
        radius_M = self.radius_m * np.sqrt(unit_M2[:, 0])
        angle_M = 2.0 * math.pi * unit_M2[:, 1]
        return np.stack([radius_M * np.cos(angle_M), radius_M * np.sin(angle_M)], axis=1)


class RectanglePlacement(BaseModel):
    """Uniform over a rectangle with one corner at the origin."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["rectangle"] = "rectangle"
    width_m: FiniteFloat = Field(gt=0, description="Extent along x [m].")
    height_m: FiniteFloat = Field(gt=0, description="Extent along y [m].")

    def place(self, devices: int, seed: int) -> DoubleArray:
        """Positions [M, 2] in metres; each device has its own keyed draw."""
        sides_m = np.array([self.width_m, self.height_m], dtype=np.float64)
        return np.asarray(sides_m * _unit_square(devices, seed))


class GridPlacement(BaseModel):
    """Row by row on a square grid of ⌈√M⌉ columns, the first device at the origin. No randomness."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["grid"] = "grid"
    spacing_m: FiniteFloat = Field(gt=0, description="Distance between grid neighbours [m].")

    def place(self, devices: int, seed: int) -> DoubleArray:
        """Positions [M, 2] in metres; the seed changes nothing."""
        columns = math.isqrt(devices - 1) + 1 if devices else 1
        row_M, column_M = np.divmod(np.arange(devices), columns)
        return self.spacing_m * np.stack([column_M, row_M], axis=1).astype(np.float64)


class FixedPlacement(BaseModel):
    """Positions as listed: device i stands at entry i."""

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


Placement = Annotated[
    DiscPlacement | RectanglePlacement | GridPlacement | FixedPlacement,
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
