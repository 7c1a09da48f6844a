"""Links of a round, and the survey: what every device knows of all devices.

Shapes: M devices, L adapted modules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from emulator.core.types.arrays import BoolArray, DoubleArray, IndexArray


@dataclass(frozen=True)
class Link:
    """One directed link of a round, and the mixing weight that its receiver gives to its sender."""

    sender: int
    receiver: int
    weight: float


PowerSharing = Literal["as_needed", "equally", "in_turn"]
"""How a device divides its power among its neighbours.

as_needed: all at once, each with the power that it needs. equally: all at once, with equal powers.
in_turn: one after the other, each with the full power.
"""


def spent_w(needed_w: DoubleArray, sharing: PowerSharing) -> DoubleArray:
    """Least power [W] of a device whose neighbours need powers of [.., neighbours]."""
    if sharing == "as_needed":
        return np.asarray(needed_w.sum(axis=-1))
    at_once = needed_w.shape[-1] if sharing == "equally" else 1
    return np.asarray(at_once * needed_w.max(axis=-1, initial=0.0))


@dataclass(frozen=True, eq=False)
class Survey:
    """What every device knows of all devices after the introductions; the input of every topology.

    positions_m [M, 2]; mean_gain [M, M] (linear power gain, diagonal 0); in_range [M, M] booleans;
    max_power_w [M]; required_power_w: a function of u > 0, the number of neighbours that i serves at
    once, which returns the least power of i towards j [M, M]; samples [M]; groups [M]: the task
    group (projection) of each device; densities [M, L]; module_sizes [L]: entries d*r of B in each
    module.
    Methods without masks have densities of 1, and a different group for every device.
    """

    positions_m: DoubleArray
    mean_gain: DoubleArray
    in_range: BoolArray
    max_power_w: DoubleArray
    required_power_w: Callable[[int], DoubleArray]
    samples: IndexArray
    groups: IndexArray
    densities: DoubleArray
    module_sizes: IndexArray
    power_sharing: PowerSharing = "as_needed"

    def spent_w(self, needed_w: DoubleArray) -> DoubleArray:
        """Power [W] of a device that serves neighbours with needs of [.., neighbours], as it shares it."""
        return spent_w(needed_w, self.power_sharing)

    @property
    def devices(self) -> int:
        """The number M of devices."""
        return int(self.samples.size)
