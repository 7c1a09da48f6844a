"""Mobility: the position of each device over time, a pure function of (seed, device, time).

Shapes: M devices; positions are [M, 2] in metres.
"""

import bisect
import math
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from emulator.core.errors import ScenarioError
from emulator.core.rng import stream
from emulator.core.types.arrays import DoubleArray
from emulator.network.channel.placement import Placement

TWO_POINTS = np.array([[0.0, 0.0], [0.5, 0.5]])
"""Two points of the unit square; they map to different points of every area that has an extent."""


class Trajectories(Protocol):
    """The trajectories of all devices in one run."""

    @property
    def moving(self) -> bool:
        """Whether a device ever moves."""
        ...

    def positions_m(self, time_s: float) -> DoubleArray:
        """Positions of all devices [M, 2]."""
        ...

    def position_m(self, device: int, time_s: float) -> DoubleArray:
        """Position of one device [2]. Law: it equals row `device` of positions_m."""
        ...


@dataclass(frozen=True, eq=False)
class FixedPositions:
    """Trajectories of devices that stay where they were placed."""

    placed_M2: DoubleArray
    moving: bool = False

    def positions_m(self, time_s: float) -> DoubleArray:
        """The positions of the placement [M, 2]."""
        return self.placed_M2

    def position_m(self, device: int, time_s: float) -> DoubleArray:
        """The position of the placement [2]."""
        return np.asarray(self.placed_M2[device])


class Static(BaseModel):
    """No device moves."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["static"] = "static"

    @property
    def speeds_mps(self) -> tuple[float, float] | None:
        """None: there are no speeds."""
        return None

    def bind(self, placement: Placement, devices: int, seed: int) -> Trajectories:
        """The trajectories of one run."""
        return FixedPositions(placement.place(devices, seed))


class RandomWaypoint(BaseModel):
    """A device walks straight to a random point at a random speed, pauses, and repeats this.

    Points are uniform over the area of the placement (the bounding box of the devices for grid, fixed
    and file, which have no area), and speeds are uniform over their range. The walk starts at the
    placement, not in the stationary state: the mean speed falls from (min + max)/2 to
    (max - min)/ln(max/min). With a minimum of 0 it would fall to 0, so the minimum must be above 0.
    Devices gather in the middle of the area.
    Source: Johnson and Maltz 1996; Yoon, Liu and Noble, INFOCOM 2003, for the decay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["random_waypoint"] = "random_waypoint"
    min_speed_m_per_s: FiniteFloat = Field(gt=0, description="Slowest walk [m/s].")
    max_speed_m_per_s: FiniteFloat = Field(
        gt=0, le=10_000, description="Fastest walk [m/s]; satellites have 8000."
    )
    pause_s: FiniteFloat = Field(default=0.0, ge=0, description="Rest at each point [s].")

    @property
    def speeds_mps(self) -> tuple[float, float]:
        """Lowest and highest speed [m/s]."""
        return self.min_speed_m_per_s, self.max_speed_m_per_s

    @model_validator(mode="after")
    def _speeds_are_a_range(self) -> Self:
        if self.max_speed_m_per_s < self.min_speed_m_per_s:
            raise ValueError(
                f"max_speed_m_per_s: got {self.max_speed_m_per_s:g}, "
                f"wanted at least min_speed_m_per_s = {self.min_speed_m_per_s:g}"
            )
        return self

    def bind(self, placement: Placement, devices: int, seed: int) -> Trajectories:
        """The trajectories of one run. Raises ScenarioError if the placement has no extent."""
        placed_M2 = placement.place(devices, seed)
        if devices and not np.ptp(placement.map_to_area(TWO_POINTS, placed_M2), axis=0).any():
            raise ScenarioError(
                [
                    f"channel.mobility: got random_waypoint with placement.kind {placement.kind} on "
                    "a single point, wanted an area to walk in"
                ]
            )
        return Walks(self, placement, seed, placed_M2, tuple([] for _ in range(devices)))


@dataclass(frozen=True)
class Leg:
    """One walk and the pause after it."""

    start_s: float
    arrival_s: float
    end_s: float
    from_m: tuple[float, float]
    to_m: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Walks:
    """`RandomWaypoint` with its devices. `legs` is a cache of draws, not a state."""

    model: RandomWaypoint
    placement: Placement
    seed: int
    placed_M2: DoubleArray
    legs: tuple[list[Leg], ...] = field(repr=False)
    moving: bool = True

    def positions_m(self, time_s: float) -> DoubleArray:
        """Positions of all devices [M, 2]."""
        rows = [self.position_m(device, time_s) for device in range(len(self.placed_M2))]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

    def position_m(self, device: int, time_s: float) -> DoubleArray:
        """Position of one device [2]; before time 0, its start."""
        legs = self.legs[device]
        while not legs or legs[-1].end_s < time_s:
            legs.append(self._next_leg(device, legs))
        leg = legs[bisect.bisect_left(legs, time_s, key=lambda leg: leg.end_s)]
        lasts_s = leg.arrival_s - leg.start_s
        share = min(max((time_s - leg.start_s) / lasts_s, 0.0), 1.0) if lasts_s > 0.0 else 1.0
        return np.array(
            [(1.0 - share) * a + share * b for a, b in zip(leg.from_m, leg.to_m, strict=True)]
        )

    def _next_leg(self, device: int, legs: list[Leg]) -> Leg:
        """The leg after the given ones, from its own draws."""
        draws = stream(self.seed, "waypoint", device, len(legs)).random(3)
        slowest, fastest = self.model.min_speed_m_per_s, self.model.max_speed_m_per_s
        speed_m_per_s = slowest + (fastest - slowest) * float(draws[2])
        start_s = legs[-1].end_s if legs else 0.0
        from_m = legs[-1].to_m if legs else _point(self.placed_M2[device])
        to_m = _point(self.placement.map_to_area(draws[None, :2], self.placed_M2)[0])
        arrival_s = start_s + math.dist(from_m, to_m) / speed_m_per_s
        return Leg(start_s, arrival_s, arrival_s + self.model.pause_s, from_m, to_m)


Mobility = Annotated[Static | RandomWaypoint, Field(discriminator="kind")]


def _point(position_m: DoubleArray) -> tuple[float, float]:
    """A position as plain numbers, because a leg is read far more often than it is made."""
    return float(position_m[0]), float(position_m[1])
