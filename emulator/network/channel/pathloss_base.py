"""The base of all path loss families: ranges of validity, and the shadowing of a standard.

A family has `path_loss_db(distance_2d_m, line_of_sight)`, element by element; for a given state the loss
does not fall with distance. A quantity outside its range counts as the nearest value inside, and one
warning reports it.
"""

import functools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emulator.core.errors import ScenarioError
from emulator.core.types.arrays import BoolArray, DoubleArray

LEAST_DISTANCE_M = 1.0
"""Families without a range of validity treat shorter distances as this one, below which far-field
formulas are not valid."""

CARRIER: Any = Field(gt=0, description="Carrier frequency [GHz]; `channel.fc_ghz` by default.")


class ValidityWarning(UserWarning):
    """A model is used outside its range of validity."""


@dataclass(frozen=True)
class Spread:
    """Shadowing of a standard: deviation [dB] and decorrelation distance [m] by state."""

    los_db: float
    nlos_db: float
    los_m: float
    nlos_m: float


class PathLossFamily(BaseModel):
    """The abstract base of all families. Families of a standard override `shadowing_spread`.

    The properties state values that other parts of a channel may state too; `consistency` compares them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def path_loss_db(self, distance_2d_m: DoubleArray, line_of_sight: BoolArray) -> DoubleArray:
        """Mean path loss [dB], element by element."""
        raise NotImplementedError

    @property
    def carrier_ghz(self) -> float | None:
        """The carrier of the scenario [GHz]; None if the formula has no carrier."""
        fc_ghz: float | None = getattr(self, "fc_ghz", None)
        return fc_ghz

    @property
    def measured_at_ghz(self) -> float | None:
        """The carrier [GHz] for which a formula without fc was made; None: any."""
        return None

    @property
    def widest_band_hz(self) -> float:
        """The widest band for which the model is valid [Hz]."""
        return math.inf

    @property
    def surroundings(self) -> str | None:
        """The kind of place whose line-of-sight states the family distinguishes; None: it has one state."""
        return None

    @property
    def setting(self) -> Mapping[str, object]:
        """Values, by name, with which a line-of-sight law of the same surroundings must agree."""
        return {}

    def shadowing_spread(self) -> Spread | None:
        """The shadowing of the standard; None if the formula has none."""
        return None

    def sigma_db(self, line_of_sight: BoolArray) -> DoubleArray:
        """Standard deviation of the shadowing [dB], element by element. ScenarioError if unknown."""
        spread = self._spread("sigma_db", "a deviation [dB]")
        return np.where(line_of_sight, spread.los_db, spread.nlos_db)

    def decorrelation_m(self, line_of_sight: BoolArray) -> DoubleArray:
        """Distance over which shadowing decays to 1/e [m], element by element. ScenarioError if unknown."""
        spread = self._spread("decorrelation_m", "a distance [m]")
        return np.where(line_of_sight, spread.los_m, spread.nlos_m)

    @functools.cached_property
    def warned(self) -> set[str]:
        """The quantities of which this object has warned."""
        return set()

    def clamp(
        self,
        quantity: str,
        value: DoubleArray | float,
        least: float,
        most: float,
        counts: BoolArray | bool = True,
    ) -> DoubleArray:
        """`value`, clamped to [least, most]. Warns once of a value outside for which `counts` is true."""
        wanted = np.asarray(value, dtype=np.float64)
        inside = np.clip(wanted, least, most)
        outside = wanted[(wanted != inside) & counts]
        self._warn_once(quantity, outside, f"{least:g} to {most:g}; the nearest counts")
        return inside

    def check_most(self, quantity: str, value: DoubleArray, most: float) -> DoubleArray:
        """`value` unchanged. Warns once of a value above `most`, for a formula that states no range."""
        self._warn_once(quantity, value[value > most], f"at most {most:g}; the formula goes on")
        return value

    def _warn_once(self, quantity: str, outside: DoubleArray, wanted: str) -> None:
        """Warn of the first value outside, if there is one and the quantity is new."""
        if quantity in self.warned or not outside.size:
            return
        self.warned.add(quantity)
        kind = getattr(self, "kind", type(self).__name__)
        warnings.warn(
            f"channel.path_loss: {kind}: {quantity}: got {float(outside.flat[0]):g}, wanted {wanted}, "
            "here and from now on",
            ValidityWarning,
            stacklevel=3,
        )

    def _spread(self, field: str, wanted: str) -> Spread:
        spread = self.shadowing_spread()
        if spread is None:
            kind = getattr(self, "kind", type(self).__name__)
            raise ScenarioError(
                [
                    f"channel.shadowing.{field}: got none with path_loss.kind {kind}, which has no "
                    f"shadowing of its own, wanted {wanted}"
                ]
            )
        return spread
