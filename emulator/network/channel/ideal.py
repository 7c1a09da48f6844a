"""The ideal channel: no losses, no delays and no costs.

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
    """Every packet arrives at once, without loss and without cost: a run without a channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["ideal"] = "ideal"

    def bind(self, devices: int, seed: int) -> "IdealChannel":
        """The channel of one run."""
        return IdealChannel(devices)


@dataclass(frozen=True)
class IdealSnapshot:
    """`Ideal` at any moment: all devices are at the origin and in range of each other."""

    devices: int

    @property
    def positions_m(self) -> DoubleArray:
        """Zeros: there is no geometry [M, 2]."""
        return np.zeros((self.devices, 2))

    @cached_property
    def mean_gain(self) -> DoubleArray:
        """Ones, diagonal 0 [M, M]."""
        return 1.0 - np.eye(self.devices)

    def in_range(self, bandwidth_hz: float, time_share: float) -> BoolArray:
        """True for every two different devices [M, M]."""
        return ~np.eye(self.devices, dtype=np.bool_)

    def bit_per_s(self, bandwidth_hz: float) -> DoubleArray:
        """inf: there is no limit [M, M]."""
        return np.full((self.devices, self.devices), math.inf)

    def required_power_w(
        self, num_bytes: int | IndexArray, bandwidth_hz: float, time_share: float
    ) -> DoubleArray:
        """Zeros: no power is needed [M, M]."""
        return np.zeros((self.devices, self.devices))


@dataclass(frozen=True)
class IdealChannel:
    """`Ideal` with its devices."""

    devices: int
    deadline_s: float = 0.0

    @property
    def max_power_w(self) -> DoubleArray:
        """inf: there is no limit [M]."""
        return np.full(self.devices, math.inf)

    @property
    def splits_power_equally(self) -> bool:
        """False: there is no power to split."""
        return False

    def at(self, time_s: float) -> IdealSnapshot:
        """The same state at any time."""
        return self._always

    @cached_property
    def _always(self) -> IdealSnapshot:
        return IdealSnapshot(self.devices)

    def set_powers(self, grants: Sequence[Grant], requests: Sequence[Request]) -> tuple[Grant, ...]:
        """The grants unchanged: no power is needed."""
        return tuple(grants)

    def transmit(self, packets: Sequence[Packet], grant: Grant) -> tuple[Reception, ...]:
        """All packets arrive at all receivers at the first try, at the start of the grant."""
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
        """0: a transmission costs no energy."""
        return 0.0
