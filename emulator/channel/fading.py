"""Small-scale fading: a power factor of mean 1 that multiplies the mean gain.

It is quasi-static: constant over a coherence block, drawn anew for each further block of a long
transfer. Blocks count from the start of the transfer. A draw is keyed by the *sorted* pair, so both
directions of a link fade alike and any process can recompute it.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from emulator.channel.pathloss import SPEED_OF_LIGHT_M_PER_S
from emulator.streams import Stream, stream
from emulator.units import linear_from_db

LEAST_FADING_POWER = 1e-12
"""A generator may return exactly 0, whose logarithm does not exist; 120 dB down is just as dead."""

COHERENCE_CYCLES = 0.423
"""T_c f_d = √(9 / (16π)) = 0.423. Source: Rappaport, Wireless Communications, section 5.4."""


class NoFading(BaseModel):
    """The power factor is 1, for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["none"] = "none"

    @property
    def carrier_ghz(self) -> float | None:
        """It speaks of none."""
        return None

    def speed_at_mps(self, carrier_ghz: float | None) -> float | None:
        """It speaks of none."""
        return None

    @property
    def block_s(self) -> float:
        """How long one draw holds [s]."""
        return math.inf

    def power(self, seed: int, exchange_index: int, block: int, first: int, second: int) -> float:
        """Power factor of a link in a block."""
        return 1.0


class BlockFading(BaseModel):
    """How long a draw holds: said in seconds, by a speed, or (`coherence_s: null`) a whole exchange.

    A speed v at a carrier f gives T_c = 0.423 / f_d with the Doppler shift f_d = v f / c.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    coherence_s: FiniteFloat | None = Field(
        default=1.0,
        gt=0,
        description="How long the channel holds [s]; null without a speed: a whole exchange.",
    )
    speed_mps: FiniteFloat | None = Field(
        default=None, gt=0, description="Relative speed of the two ends [m/s], with fc_ghz."
    )
    fc_ghz: FiniteFloat | None = Field(
        default=None,
        gt=0,
        description="Carrier frequency [GHz], with speed_mps; `channel.fc_ghz` by default.",
    )

    @model_validator(mode="before")
    @classmethod
    def _speed_replaces_the_default(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("speed_mps") is not None:
            return {"coherence_s": None, **data}
        return data

    @model_validator(mode="after")
    def _one_coherence(self) -> Self:
        if (self.speed_mps is None) != (self.fc_ghz is None):
            raise ValueError(
                f"speed_mps: got {self.speed_mps} with fc_ghz {self.fc_ghz}, wanted both or neither"
            )
        if self.coherence_s is not None and self.speed_mps is not None:
            raise ValueError(
                f"coherence_s: got {self.coherence_s} with speed_mps {self.speed_mps}, "
                "wanted one of them (null leaves it to the speed)"
            )
        return self

    @property
    def carrier_ghz(self) -> float | None:
        """The carrier that was asked for [GHz]."""
        return self.fc_ghz

    def speed_at_mps(self, carrier_ghz: float | None) -> float | None:
        """The speed that was asked for, or that `coherence_s` stands for at a carrier [m/s]."""
        if self.speed_mps is not None or self.coherence_s is None or carrier_ghz is None:
            return self.speed_mps
        doppler_hz = COHERENCE_CYCLES / self.coherence_s
        return doppler_hz * SPEED_OF_LIGHT_M_PER_S / (carrier_ghz * 1e9)

    @property
    def block_s(self) -> float:
        """How long one draw holds [s]."""
        if self.speed_mps is not None and self.fc_ghz is not None:
            doppler_hz = self.speed_mps * self.fc_ghz * 1e9 / SPEED_OF_LIGHT_M_PER_S
            return COHERENCE_CYCLES / doppler_hz
        return math.inf if self.coherence_s is None else self.coherence_s


class RayleighFading(BlockFading):
    """Many paths and no line of sight: |h|² ~ Exp(1), independent between blocks."""

    kind: Literal["rayleigh"] = "rayleigh"

    def power(self, seed: int, exchange_index: int, block: int, first: int, second: int) -> float:
        """Power factor of a link in a block. `power(…, i, j)` equals `power(…, j, i)`."""
        draw = _source(seed, exchange_index, block, first, second).exponential()
        return max(float(draw), LEAST_FADING_POWER)


class RicianFading(BlockFading):
    """A steady path beside many weak ones: h = √(K/(K+1)) + √(1/(K+1))·CN(0, 1).

    So 2(K+1)|h|² is noncentral chi-square with 2 degrees of freedom and noncentrality 2K, mean 1 and
    variance (2K+1)/(K+1)² after scaling; independent between blocks. K → 0 is Rayleigh.
    Source: Simon and Alouini, Digital Communication over Fading Channels, section 2.2.
    """

    kind: Literal["rician"] = "rician"
    k_db: FiniteFloat = Field(description="K: power of the steady path over all others' [dB].")

    def power(self, seed: int, exchange_index: int, block: int, first: int, second: int) -> float:
        """Power factor of a link in a block. `power(…, i, j)` equals `power(…, j, i)`."""
        in_phase, quadrature = _source(seed, exchange_index, block, first, second).normal(size=2)
        steady = linear_from_db(self.k_db)
        power = ((in_phase + math.sqrt(2.0 * steady)) ** 2 + quadrature**2) / (2.0 * (steady + 1.0))
        return max(float(power), LEAST_FADING_POWER)


Fading = Annotated[NoFading | RayleighFading | RicianFading, Field(discriminator="kind")]


def _source(seed: int, exchange_index: int, block: int, first: int, second: int) -> Stream:
    """The draws of an unordered pair in one block."""
    return stream(seed, "fading", exchange_index, block, min(first, second), max(first, second))
