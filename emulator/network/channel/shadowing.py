"""Shadowing [dB] by obstacles, which is added to the mean path loss.

Shadowing is a keyed random field over the positions of both ends, one field for pairs with line of sight
and one for pairs without. It is the same in both directions, constant while no device moves, and
correlated along a walk of either end. Positions [.., 2] in metres.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.core.types.arrays import BoolArray, DoubleArray
from emulator.network.channel.gaussian_field import PairField, draw_pair_field
from emulator.network.channel.pathloss_base import PathLossFamily


class Shadows(Protocol):
    """The shadowing of one run."""

    def between_db(
        self, first_m: DoubleArray, second_m: DoubleArray, line_of_sight: BoolArray
    ) -> DoubleArray:
        """Shadowing [dB], [..], between positions [.., 2] and [.., 2], which broadcast, by state [..]."""
        ...


@dataclass(frozen=True)
class NoShadows:
    """A run without shadowing: 0 dB for every pair."""

    def between_db(
        self, first_m: DoubleArray, second_m: DoubleArray, line_of_sight: BoolArray
    ) -> DoubleArray:
        """Zeros [..]."""
        return np.zeros(line_of_sight.shape)


@dataclass(frozen=True, eq=False)
class LogNormalShadows:
    """Log-normal shadowing of one run: a deviation [dB] and a field for each state."""

    los_db: float
    nlos_db: float
    los_field: PairField
    nlos_field: PairField

    def between_db(
        self, first_m: DoubleArray, second_m: DoubleArray, line_of_sight: BoolArray
    ) -> DoubleArray:
        """Shadowing [dB], [..], in the state of each pair. Law: it is symmetric in the two ends."""
        los = self.los_db * self._drawn(self.los_field, first_m, second_m, line_of_sight)
        nlos = self.nlos_db * self._drawn(self.nlos_field, first_m, second_m, ~line_of_sight)
        return np.where(line_of_sight, los, nlos)

    def _drawn(
        self, field: PairField, first_m: DoubleArray, second_m: DoubleArray, wanted: BoolArray
    ) -> DoubleArray:
        """The field if any pair needs it, and zeros otherwise, because the field is expensive to compute."""
        return field.between(first_m, second_m) if bool(wanted.any()) else np.zeros(wanted.shape)


class NoShadowing(BaseModel):
    """No shadowing: links have their mean path loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["none"] = "none"

    def bind(self, path_loss: PathLossFamily, seed: int) -> Shadows:
        """The shadowing of one run."""
        return NoShadows()


class LogNormalShadowing(BaseModel):
    """Normal in decibels, correlated by exp(-d / decorrelation_m) when one end moves by d.

    Values that are not given are those of the path loss model, by state.
    Source: Gudmundson, Correlation model for shadow fading, Electronics Letters 27(23), 1991.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["log_normal"] = "log_normal"
    sigma_db: FiniteFloat | None = Field(
        default=None, ge=0, description="Standard deviation [dB]; null: the path loss model's own."
    )
    decorrelation_m: FiniteFloat | None = Field(
        default=None,
        gt=0,
        description="Decorrelation distance [m]; null: the path loss model's own.",
    )

    def bind(self, path_loss: PathLossFamily, seed: int) -> Shadows:
        """The shadowing of one run. Raises ScenarioError for a value that the path loss model lacks too."""
        states = np.array([True, False])
        sigma_db, distance_m = self.sigma_db, self.decorrelation_m
        both_db = path_loss.sigma_db(states) if sigma_db is None else np.full(2, sigma_db)
        both_m = path_loss.decorrelation_m(states) if distance_m is None else np.full(2, distance_m)
        return LogNormalShadows(
            float(both_db[0]),
            float(both_db[1]),
            draw_pair_field(seed, "shadowing/los", float(both_m[0])),
            draw_pair_field(seed, "shadowing/nlos", float(both_m[1])),
        )


Shadowing = Annotated[NoShadowing | LogNormalShadowing, Field(discriminator="kind")]
