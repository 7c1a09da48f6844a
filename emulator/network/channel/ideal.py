"""The channel that does nothing: what a run without a channel would see.

Shapes: M devices, P packets, G grants.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from emulator.core.types.arrays import BoolArray, DoubleArray, IndexArray
from emulator.core.types.packet import Packet
from emulator.core.types.transmission import Grant, Reception, Request


class Ideal(BaseModel):
    """Everything arrives whole, at once and for nothing: a run without a channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["ideal"] = "ideal"

    def bind(self, devices: int, seed: int) -> "IdealChannel":
        """The channel of one run."""
        return IdealChannel(devices)


@dataclass(frozen=True)
class IdealSnapshot:
    """`Ideal` at any moment: all devices at the origin, everybody next to everybody."""

    devices: int

    @property
    def positions_m(self) -> DoubleArray:
        """[M, 2] zeros: there is no geometry."""
        return np.zeros((self.devices, 2))

    @cached_property
    def mean_gain(self) -> DoubleArray:
        """[M, M] ones, diagonal 0."""
        return 1.0 - np.eye(self.devices)

    def in_range(self, bandwidth_hz: float, time_share: float) -> BoolArray:
        """[M, M] everybody but oneself."""
        return ~np.eye(self.devices, dtype=np.bool_)

    def bit_per_s(self, bandwidth_hz: float) -> DoubleArray:
        """[M, M] no limit."""
        return np.full((self.devices, self.devices), math.inf)

    def required_power_w(
        self, num_bytes: int | IndexArray, bandwidth_hz: float, time_share: float
    ) -> DoubleArray:
        """[M, M] zeros."""
        return np.zeros((self.devices, self.devices))


@dataclass(frozen=True)
class IdealChannel:
    """`Ideal` with its devices."""

    devices: int
    deadline_s: float = 0.0

    @property
    def max_power_w(self) -> DoubleArray:
        """[M] no limit."""
        return np.full(self.devices, math.inf)

    @property
    def splits_power_equally(self) -> bool:
        """There is nothing to split."""
        return False

    def at(self, time_s: float) -> IdealSnapshot:
        """The same at any time."""
        return self._always

    @cached_property
    def _always(self) -> IdealSnapshot:
        return IdealSnapshot(self.devices)

    def set_powers(self, grants: Sequence[Grant], requests: Sequence[Request]) -> tuple[Grant, ...]:
        """The grants as they are: no power is needed."""
        return tuple(grants)

    def transmit(self, packets: Sequence[Packet], grant: Grant) -> tuple[Reception, ...]:
        """All packets arrive everywhere at the first try at the very start of the grant."""
        count = len(packets)
        reception = Reception(
            arrived=np.ones(count, dtype=np.bool_),
            attempts=np.ones(count, dtype=np.int64),
            arrival_s=grant.start_s,
            airtime_s=0.0,
            late=False,
        )
        return (reception,) * len(grant.receivers)

    def energy_j(self, grant: Grant, reception: Reception) -> float:
        """Nothing."""
        return 0.0
