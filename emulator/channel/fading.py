"""Small-scale fading: a power factor of mean 1 that multiplies the mean gain.

It is quasi-static: constant over a coherence block, drawn anew for each further block of a long
transfer. Blocks count from the start of the transfer. A draw is keyed by the *sorted* pair, so both
directions of a link fade alike and any process can recompute it.
"""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.streams import stream

LEAST_FADING_POWER = 1e-12
"""A generator may return exactly 0, whose logarithm does not exist; 120 dB down is just as dead."""


class NoFading(BaseModel):
    """The power factor is 1, for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["none"] = "none"

    @property
    def block_s(self) -> float:
        """How long one draw holds [s]."""
        return math.inf

    def power(self, seed: int, exchange_index: int, block: int, first: int, second: int) -> float:
        """Power factor of a link in a block."""
        return 1.0


class RayleighFading(BaseModel):
    """Many paths and no line of sight: |h|² ~ Exp(1), independent between blocks."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["rayleigh"] = "rayleigh"
    coherence_s: FiniteFloat = Field(
        default=1.0, gt=0, description="How long the channel holds; about 0.423 / Doppler [s]."
    )

    @property
    def block_s(self) -> float:
        """How long one draw holds [s]."""
        return self.coherence_s

    def power(self, seed: int, exchange_index: int, block: int, first: int, second: int) -> float:
        """Power factor of a link in a block. `power(…, i, j)` equals `power(…, j, i)`."""
        low, high = min(first, second), max(first, second)
        draw = stream(seed, "fading", exchange_index, block, low, high).exponential()
        return max(float(draw), LEAST_FADING_POWER)


Fading = Annotated[NoFading | RayleighFading, Field(discriminator="kind")]
