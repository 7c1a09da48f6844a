"""Which devices can reach each other: links of a round, and what all devices know of all.

Shapes: M devices, L adapted modules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from emulator.core.types.arrays import BoolArray, DoubleArray, IndexArray


@dataclass(frozen=True)
class Link:
    """One directed link of a round and the mixing weight its receiver gives to its sender."""

    sender: int
    receiver: int
    weight: float


PowerSharing = Literal["as_needed", "equally", "in_turn"]
"""How a device shares its power out: each neighbour what it needs, all the same at once, or in turn."""


def spent_w(needed_w: DoubleArray, sharing: PowerSharing) -> DoubleArray:
    """Power [W] for neighbours who need [.., neighbours] each, so that it is enough for all."""
    if sharing == "as_needed":
        return np.asarray(needed_w.sum(axis=-1))
    at_once = needed_w.shape[-1] if sharing == "equally" else 1
    return np.asarray(at_once * needed_w.max(axis=-1, initial=0.0))


@dataclass(frozen=True, eq=False)
class Survey:
    """What every device knows of all after the introductions; the input of every topology.

    positions_m [M, 2]; mean_gain [M, M] (linear power gain, diagonal 0); in_range [M, M] booleans;
    max_power_w [M]; required_power_w: of the number u > 0 of neighbours that i serves at once, the
    least power of i towards j [M, M], worked out when asked for; samples [M]; groups [M]: the task
    group of each device (its projection); densities [M, L]; module_sizes [L]: entries d*r of B in each
    module.
    Methods without masks leave densities at 1 and every group different.
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
        """Power that a device spends to serve neighbours who need [.., neighbours] each [W]."""
        return spent_w(needed_w, self.power_sharing)

    @property
    def devices(self) -> int:
        """M."""
        return int(self.samples.size)
