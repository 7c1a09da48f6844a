"""Line of sight between two devices: a probability over distance, and a state of each pair.

`probability(distance_2d_m)` is the share of pairs with line of sight at that distance. The state of a
pair results from the comparison of that probability with a keyed random field over the positions of both
ends. It is the same in both directions, the same whenever the devices are at these positions, and rarely
different a step further. Distances are 2D, in metres.

TR 37.885 has no probability for sidelinks that fits the two states of its path loss (it distinguishes
buildings of the streets from other vehicles); TR 36.843 uses `umi` for devices outdoors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from scipy.special import ndtr

from emulator.core.types.arrays import BoolArray, DoubleArray
from emulator.network.channel.gaussian_field import PairField, draw_pair_field
from emulator.network.channel.tr38901 import InfVariant, inf_h_bs_m


class LineOfSightLaw(Protocol):
    """A probability of line of sight, and the distance over which the state is correlated.

    `field_m` is None if the probability is 0 or 1 everywhere.
    """

    @property
    def field_m(self) -> float | None:
        """Decorrelation distance of the state [m]."""
        ...

    def probability(self, distance_2d_m: DoubleArray) -> DoubleArray:
        """Probability of line of sight, element by element."""
        ...


@dataclass(frozen=True, eq=False)
class LineOfSightStates:
    """The line-of-sight states of one run: the law and the random field."""

    law: LineOfSightLaw
    field: PairField | None

    def between(self, first_m: DoubleArray, second_m: DoubleArray) -> BoolArray:
        """Whether positions [.., 2] and [.., 2], which broadcast, have line of sight. Law: symmetric."""
        distance_m = np.hypot(*np.moveaxis(first_m - second_m, -1, 0))
        probability = self.law.probability(distance_m)
        if self.field is None:
            return np.asarray(probability > 0.5)
        return np.asarray(ndtr(self.field.between(first_m, second_m)) < probability)


class _LineOfSight(BaseModel):
    """The abstract base of all laws, which binds a law to the field of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def field_m(self) -> float | None:
        """Decorrelation distance of the state [m]; None: the state is not random."""
        return None

    @property
    def surroundings(self) -> str | None:
        """The kind of place for which the law holds, as path losses name it; None: any."""
        return None

    @property
    def setting(self) -> Mapping[str, object]:
        """Values, by name, with which a path loss of the same surroundings must agree."""
        return {}

    def probability(self, distance_2d_m: DoubleArray) -> DoubleArray:
        """Probability of line of sight, element by element."""
        raise NotImplementedError

    def bind(self, seed: int) -> LineOfSightStates:
        """The states under one seed."""
        if self.field_m is None:
            return LineOfSightStates(self, None)
        return LineOfSightStates(self, draw_pair_field(seed, "line_of_sight", self.field_m))


class _DrawnLineOfSight(_LineOfSight):
    """The abstract base of laws with probabilities between 0 and 1. `PLACE`: the kind of place."""

    PLACE: ClassVar[str]

    decorrelation_m: FiniteFloat = Field(
        default=50.0, gt=0, description="Decorrelation distance of the state [m]."
    )

    @property
    def field_m(self) -> float:
        """The decorrelation distance of the scenario [m]."""
        return self.decorrelation_m

    @property
    def surroundings(self) -> str:
        """The kind of place of the law."""
        return self.PLACE


class AlwaysLineOfSight(_LineOfSight):
    """Every pair has line of sight."""

    kind: Literal["always"] = "always"

    def probability(self, distance_2d_m: DoubleArray) -> DoubleArray:
        """Ones, element by element."""
        return np.ones_like(distance_2d_m)


class NeverLineOfSight(_LineOfSight):
    """No pair has line of sight."""

    kind: Literal["never"] = "never"

    def probability(self, distance_2d_m: DoubleArray) -> DoubleArray:
        """Zeros, element by element."""
        return np.zeros_like(distance_2d_m)


class UmiLineOfSight(_DrawnLineOfSight):
    """Urban micro cell: 1 up to 18 m, beyond it 18/d + exp(-d/36) (1 - 18/d).

    Source: TR 38.901, table 7.4.2-1; decorrelation 50 m, table 7.6.3.1-2.
    """

    PLACE: ClassVar[str] = "streets"
    kind: Literal["umi"] = "umi"

    def probability(self, distance_2d_m: DoubleArray) -> DoubleArray:
        """Probability of line of sight, element by element."""
        return _street(distance_2d_m, 36.0)


class UmaLineOfSight(_DrawnLineOfSight):
    """Urban macro cell: 1 up to 18 m, beyond it

    (18/d + exp(-d/63) (1 - 18/d)) (1 + C · 5/4 · (d/100)³ exp(-d/150)), where C is
    ((h_ut - 13)/10)^1.5 for antennas above 13 m and 0 for others.
    Source: TR 38.901, table 7.4.2-1; decorrelation 50 m, table 7.6.3.1-2.
    """

    PLACE: ClassVar[str] = "macro cells"
    kind: Literal["uma"] = "uma"
    h_ut_m: FiniteFloat = Field(
        default=1.5, gt=0, le=23, description="Height of the lower antenna [m]."
    )

    @property
    def setting(self) -> Mapping[str, object]:
        """The height of the terminal."""
        return {"h_ut_m": self.h_ut_m}

    def probability(self, distance_2d_m: DoubleArray) -> DoubleArray:
        """Probability of line of sight, element by element."""
        height = (max(self.h_ut_m - 13.0, 0.0) / 10.0) ** 1.5
        bump = 1.25 * (distance_2d_m / 100.0) ** 3 * np.exp(-distance_2d_m / 150.0)
        return np.asarray(np.minimum(_street(distance_2d_m, 63.0) * (1.0 + height * bump), 1.0))


class InhOpenLineOfSight(_DrawnLineOfSight):
    """Open office: 1 up to 5 m, exp(-(d-5)/70.8) up to 49 m, then 0.54 exp(-(d-49)/211.7).

    Source: TR 38.901, table 7.4.2-1; decorrelation 10 m, table 7.6.3.1-2.
    """

    PLACE: ClassVar[str] = "offices"
    kind: Literal["inh_open"] = "inh_open"
    decorrelation_m: FiniteFloat = Field(
        default=10.0, gt=0, description="Decorrelation distance of the state [m]."
    )

    def probability(self, distance_2d_m: DoubleArray) -> DoubleArray:
        """Probability of line of sight, element by element."""
        near = np.minimum(np.exp(-(distance_2d_m - 5.0) / 70.8), 1.0)
        far = 0.54 * np.exp(-(distance_2d_m - 49.0) / 211.7)
        return np.where(distance_2d_m <= 49.0, near, far)


class InhMixedLineOfSight(_DrawnLineOfSight):
    """Mixed office: 1 up to 1.2 m, exp(-(d-1.2)/4.7) up to 6.5 m, then 0.32 exp(-(d-6.5)/32.6).

    Source: TR 38.901, table 7.4.2-1; decorrelation 10 m, table 7.6.3.1-2.
    """

    PLACE: ClassVar[str] = "offices"
    kind: Literal["inh_mixed"] = "inh_mixed"
    decorrelation_m: FiniteFloat = Field(
        default=10.0, gt=0, description="Decorrelation distance of the state [m]."
    )

    def probability(self, distance_2d_m: DoubleArray) -> DoubleArray:
        """Probability of line of sight, element by element."""
        near = np.minimum(np.exp(-(distance_2d_m - 1.2) / 4.7), 1.0)
        far = 0.32 * np.exp(-(distance_2d_m - 6.5) / 32.6)
        return np.where(distance_2d_m < 6.5, near, far)


class InfLineOfSight(_LineOfSight):
    """Factory: exp(-d/k) with k = -clutter_size / ln(1 - density).

    With one antenna above the clutter (sh, dh), k is multiplied by
    (h_bs - h_ut)/(clutter_height - h_ut). Values that are not given are those of the standard's
    calibration: sparse 20 %, 10 m wide, 2 m high; dense 60 %, 2 m wide, 6 m high.
    Source: TR 38.901, tables 7.4.2-1 and 7.8-7; decorrelation half the clutter's size, 7.6.3.1-2.
    """

    CLUTTER: ClassVar[dict[str, tuple[float, float, float]]] = {
        "s": (0.2, 10.0, 2.0),
        "d": (0.6, 2.0, 6.0),
    }

    kind: Literal["inf"] = "inf"
    variant: InfVariant = Field(description="Clutter sparse or dense, base station low or high.")
    clutter_density: FiniteFloat | None = Field(
        default=None, gt=0, lt=1, description="Share of the floor under clutter."
    )
    clutter_size_m: FiniteFloat | None = Field(
        default=None, gt=0, description="Typical extent of a piece of clutter [m]."
    )
    clutter_height_m: FiniteFloat | None = Field(
        default=None, gt=0, description="Effective height of the clutter [m], for sh and dh."
    )
    h_bs_m: FiniteFloat | None = Field(
        default=None,
        ge=0,
        description="Height of one antenna [m]: 1.5 (low) or 8 (high) by default.",
    )
    h_ut_m: FiniteFloat = Field(default=1.5, ge=0, description="Height of the other antenna [m].")
    decorrelation_m: FiniteFloat | None = Field(
        default=None, gt=0, description="Decorrelation distance of the state [m]."
    )

    @model_validator(mode="after")
    def _clutter_stands_between(self) -> Self:
        _, _, clutter_m = self._clutter()
        if self.variant in ("sh", "dh") and not self.h_ut_m < clutter_m <= self._h_bs_m():
            raise ValueError(
                f"clutter_height_m: got {clutter_m:g}, wanted more than h_ut_m = {self.h_ut_m:g} "
                f"and at most h_bs_m = {self._h_bs_m():g} with variant {self.variant}"
            )
        return self

    @property
    def surroundings(self) -> str:
        """The kind of place of the law: factories."""
        return "factories"

    @property
    def setting(self) -> Mapping[str, object]:
        """The clutter, and both heights."""
        return {"variant": self.variant, "h_bs_m": self._h_bs_m(), "h_ut_m": self.h_ut_m}

    @property
    def field_m(self) -> float:
        """The decorrelation distance as given, or half the size of the clutter [m]."""
        return self.decorrelation_m or self._clutter()[1] / 2.0

    def probability(self, distance_2d_m: DoubleArray) -> DoubleArray:
        """Probability of line of sight, element by element."""
        density, size_m, clutter_m = self._clutter()
        reach_m = -size_m / np.log1p(-density)
        if self.variant in ("sh", "dh"):
            reach_m *= (self._h_bs_m() - self.h_ut_m) / (clutter_m - self.h_ut_m)
        return np.asarray(np.exp(-distance_2d_m / reach_m))

    def _clutter(self) -> tuple[float, float, float]:
        """Density, size [m] and height [m] of the clutter."""
        given = (self.clutter_density, self.clutter_size_m, self.clutter_height_m)
        usual = self.CLUTTER[self.variant[0]]
        density, size_m, height_m = (
            there if mine is None else mine for mine, there in zip(given, usual, strict=True)
        )
        return density, size_m, height_m

    def _h_bs_m(self) -> float:
        return inf_h_bs_m(self.variant, self.h_bs_m)


LineOfSight = Annotated[
    AlwaysLineOfSight
    | NeverLineOfSight
    | UmiLineOfSight
    | UmaLineOfSight
    | InhOpenLineOfSight
    | InhMixedLineOfSight
    | InfLineOfSight,
    Field(discriminator="kind"),
]


def _street(distance_2d_m: DoubleArray, reach_m: float) -> DoubleArray:
    """18/d + exp(-d/reach) (1 - 18/d), and 1 up to 18 m."""
    far_m = np.maximum(distance_2d_m, 18.0)
    return 18.0 / far_m + np.exp(-far_m / reach_m) * (1.0 - 18.0 / far_m)
