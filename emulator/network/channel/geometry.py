"""Mean gains from the positions of the devices: mobility, line of sight, path loss and shadowing.

Shapes: M devices; positions [.., 2] in metres.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emulator.core.types.arrays import BoolArray, DoubleArray
from emulator.core.units import gain_from_path_loss
from emulator.network.channel.line_of_sight import LineOfSightStates
from emulator.network.channel.mobility import Trajectories
from emulator.network.channel.pathloss_base import PathLossFamily
from emulator.network.channel.shadowing import Shadows


@dataclass(frozen=True, eq=False)
class PairLosses:
    """The parts of the loss between pairs of positions, element by element.

    Shadowing is added to the path loss. line_of_sight: the state of each pair.
    """

    distance_m: DoubleArray
    line_of_sight: BoolArray
    path_loss_db: DoubleArray
    shadowing_db: DoubleArray


@dataclass(frozen=True, eq=False)
class Geometry:
    """The bound components of one run; gains are linear power gains without small-scale fading."""

    trajectories: Trajectories
    line_of_sight: LineOfSightStates
    path_loss: PathLossFamily
    shadows: Shadows

    @property
    def moving(self) -> bool:
        """Whether a gain ever changes."""
        return self.trajectories.moving

    def mean_gain(self, time_s: float) -> DoubleArray:
        """Gains between all devices at a time [M, M], symmetric, diagonal 0."""
        positions_m = self.trajectories.positions_m(time_s)
        gain = self._between(positions_m[:, None], positions_m[None, :])
        np.fill_diagonal(gain, 0.0)
        return gain

    def gain(self, first: int, second: int, time_s: float) -> float:
        """The gain of one pair at a time. Law: it equals mean_gain(time_s)[first, second]."""
        ends = [self.trajectories.position_m(device, time_s) for device in (first, second)]
        return float(self._between(ends[0][None], ends[1][None])[0])

    def pair_losses(self, pairs_L: Sequence[tuple[int, int]], time_s: float) -> PairLosses:
        """The parts of the loss of L pairs of devices at a time [L]."""
        positions_m = self.trajectories.positions_m(time_s)
        first_L, second_L = (list(ends) for ends in zip(*pairs_L, strict=True))
        return self._losses(positions_m[first_L], positions_m[second_L])

    def _losses(self, first_m: DoubleArray, second_m: DoubleArray) -> PairLosses:
        """The parts of the loss [..] between positions [.., 2], which broadcast against each other."""
        distance_m = np.hypot(*np.moveaxis(first_m - second_m, -1, 0))
        seen = self.line_of_sight.between(first_m, second_m)
        loss_db = self.path_loss.path_loss_db(distance_m, seen)
        return PairLosses(
            distance_m, seen, loss_db, self.shadows.between_db(first_m, second_m, seen)
        )

    def _between(self, first_m: DoubleArray, second_m: DoubleArray) -> DoubleArray:
        """Gains [..] between positions, which broadcast against each other."""
        losses = self._losses(first_m, second_m)
        return gain_from_path_loss(losses.path_loss_db + losses.shadowing_db)
