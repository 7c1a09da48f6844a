"""Small-scale fading: a power factor of mean 1 that multiplies the mean gain.

The factor is constant over a block and belongs to a pair, not to a transfer. Block n of a run is the
emulated time from n·block_s to (n+1)·block_s. Every process computes the same factor for a block, in any
exchange and any order. A draw is keyed by the *sorted* pair, so both directions of a link have the same
fading.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from emulator.core.rng import Stream, stream
from emulator.core.types.arrays import DoubleArray
from emulator.core.units import linear_from_db
from emulator.network.channel.pathloss import SPEED_OF_LIGHT_M_PER_S

ComplexArray = NDArray[np.complex128]

LEAST_FADING_POWER = 1e-12
"""Least power factor (-120 dB). A generator may return exactly 0, which has no logarithm."""

COHERENCE_CYCLES = 0.423
"""T_c f_d = √(9 / (16π)) = 0.423. Source: Rappaport, Wireless Communications, section 5.4."""

JAKES_BLOCKS = 4
"""Blocks of a coherence time under `correlation: jakes`: the gains of successive blocks have a correlation
of 0.89, so that the constant blocks follow the curve."""

SINUSOIDS = 64
"""Paths of a correlated gain. The autocorrelation of one realisation equals J0 to 1e-9 up to f_d τ = 5, and
differs from it by |2 J_64(2π f_d τ)| beyond."""

CHUNK_BLOCKS = 64
"""Number of blocks that are drawn with one key."""

KEPT_CHUNKS = 8192
"""Chunks whose draws are cached, 512 bytes each; others are drawn again."""


class NoFading(BaseModel):
    """No fading: the power factor is always 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["none"] = "none"

    @property
    def carrier_ghz(self) -> float | None:
        """None: there is no carrier."""
        return None

    def speed_at_mps(self, carrier_ghz: float | None) -> float | None:
        """None: there is no speed."""
        return None

    @property
    def steady_ratio(self) -> float:
        """inf: there is only the steady path."""
        return math.inf

    @property
    def block_s(self) -> float:
        """inf: the factor never changes [s]."""
        return math.inf

    @property
    def blocks(self) -> Literal["over_time"]:
        """over_time; the blocks have no effect."""
        return "over_time"

    def bind(self, seed: int) -> "NoFades":
        """The fading of a run, which does not depend on the seed."""
        return NoFades()


class NoFades:
    """`NoFading` in a run."""

    def power(self, exchange_index: int, block: int, first: int, second: int) -> float:
        """Power factor of a link in a block: 1."""
        return 1.0


class BlockFading(BaseModel):
    """Fading in blocks, whose length is given in seconds, by a speed, or (`coherence_s: null`) is the run.

    A speed v at a carrier f gives T_c = 0.423 / f_d with the Doppler shift f_d = v f / c; a coherence
    time T_c gives f_d = 0.423 / T_c.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    coherence_s: FiniteFloat | None = Field(
        default=1.0,
        gt=0,
        description="Coherence time: how long a draw holds [s]; null without a speed: for the whole run.",
    )
    speed_mps: FiniteFloat | None = Field(
        default=None, gt=0, description="Relative speed of the two ends [m/s], with fc_ghz."
    )
    fc_ghz: FiniteFloat | None = Field(
        default=None,
        gt=0,
        description="Carrier frequency [GHz], with speed_mps; `channel.fc_ghz` by default.",
    )
    blocks: Literal["over_time", "per_exchange"] = Field(
        default="over_time",
        description="over_time: blocks follow the emulated time, for all transfers. per_exchange: blocks "
        "begin with each transfer, and every exchange has independent draws.",
    )
    correlation: Literal["none", "jakes"] = Field(
        default="none",
        description="none: blocks are independent. jakes: the gain correlates over time with "
        "J0(2π f_d τ); blocks then last a quarter of the coherence time.",
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
        if self.correlation == "jakes" and self.blocks == "per_exchange":
            raise ValueError(
                "correlation: got jakes with blocks per_exchange, wanted blocks over_time (draws of "
                "one exchange know nothing of another's)"
            )
        if self.correlation == "jakes" and math.isinf(self._coherence_s):
            raise ValueError(
                "correlation: got jakes with coherence_s null, wanted a coherence time or a speed (a "
                "gain that never changes has no Doppler shift)"
            )
        return self

    @property
    def carrier_ghz(self) -> float | None:
        """The carrier of the scenario [GHz]; None without a speed."""
        return self.fc_ghz

    def speed_at_mps(self, carrier_ghz: float | None) -> float | None:
        """The speed of the scenario, or the one to which `coherence_s` corresponds at a carrier [m/s]."""
        if self.speed_mps is not None or self.coherence_s is None or carrier_ghz is None:
            return self.speed_mps
        doppler_hz = COHERENCE_CYCLES / self.coherence_s
        return doppler_hz * SPEED_OF_LIGHT_M_PER_S / (carrier_ghz * 1e9)

    @property
    def block_s(self) -> float:
        """How long one draw holds [s]: T_c, or under jakes T_c / JAKES_BLOCKS."""
        return self._coherence_s / (JAKES_BLOCKS if self.correlation == "jakes" else 1)

    @property
    def doppler_hz(self) -> float:
        """f_d: the largest Doppler shift [Hz]; 0 if the gain never changes."""
        return COHERENCE_CYCLES / self._coherence_s

    @property
    def _coherence_s(self) -> float:
        """T_c: the coherence time [s]."""
        if self.speed_mps is not None and self.fc_ghz is not None:
            doppler_hz = self.speed_mps * self.fc_ghz * 1e9 / SPEED_OF_LIGHT_M_PER_S
            return COHERENCE_CYCLES / doppler_hz
        return math.inf if self.coherence_s is None else self.coherence_s

    def bind(self, seed: int) -> "Fades":
        """The fading of a run."""
        return Fades(self, seed)

    @property
    def steady_ratio(self) -> float:
        """Power of the steady path over that of all others; 0 without a steady path."""
        return 0.0

    def draw(self, source: Stream, count: int) -> DoubleArray:
        """Independent power factors [count]."""
        raise NotImplementedError

    def power_of(self, scattered: ComplexArray) -> DoubleArray:
        """Power factors from the gains of the weak paths, CN(0, 1) each."""
        raise NotImplementedError


class RayleighFading(BlockFading):
    """Many paths without line of sight: |h|² ~ Exp(1)."""

    kind: Literal["rayleigh"] = "rayleigh"

    def draw(self, source: Stream, count: int) -> DoubleArray:
        """Independent power factors [count]."""
        return source.exponential(size=count)

    def power_of(self, scattered: ComplexArray) -> DoubleArray:
        """|h|², element by element."""
        return np.asarray(np.abs(scattered) ** 2)


class RicianFading(BlockFading):
    """One steady path and many weak paths: h = √(K/(K+1)) + √(1/(K+1))·CN(0, 1).

    2(K+1)|h|² has a noncentral chi-square distribution with 2 degrees of freedom and noncentrality 2K;
    |h|² has mean 1 and variance (2K+1)/(K+1)². K → 0 is Rayleigh fading. The steady path has no Doppler
    shift; under jakes the gain of the weak paths is correlated over time.
    Source: Simon and Alouini, Digital Communication over Fading Channels, section 2.2.
    """

    kind: Literal["rician"] = "rician"
    k_db: FiniteFloat = Field(
        description="K: power of the steady path over that of all others [dB]."
    )

    @property
    def steady_ratio(self) -> float:
        """K: power of the steady path over that of all others."""
        return linear_from_db(self.k_db)

    def draw(self, source: Stream, count: int) -> DoubleArray:
        """Independent power factors [count]."""
        in_phase, quadrature = source.normal(size=(count, 2)).T / math.sqrt(2.0)
        return self.power_of(in_phase + 1j * quadrature)

    def power_of(self, scattered: ComplexArray) -> DoubleArray:
        """|h|², element by element."""
        steady = self.steady_ratio
        return np.asarray(np.abs(math.sqrt(steady) + scattered) ** 2 / (steady + 1.0))


Fading = Annotated[NoFading | RayleighFading | RicianFading, Field(discriminator="kind")]


@dataclass(frozen=True)
class Fades:
    """Block fading in a run: the factor of any pair in any block, computed independently of other blocks."""

    fading: BlockFading
    seed: int

    def power(self, exchange_index: int, block: int, first: int, second: int) -> float:
        """Power factor of a link in a block. Law: `power(…, i, j)` equals `power(…, j, i)`.

        exchange_index matters under `blocks: per_exchange` only.
        """
        pair = min(first, second), max(first, second)
        if self.fading.blocks == "per_exchange":
            draw = self.fading.draw(stream(self.seed, "fading", exchange_index, block, *pair), 1)
            return max(float(draw[0]), LEAST_FADING_POWER)
        chunk, within = divmod(block, CHUNK_BLOCKS)
        return max(float(self._powers(chunk, *pair)[within]), LEAST_FADING_POWER)

    @functools.cached_property
    def _powers(self) -> Callable[[int, int, int], DoubleArray]:
        """powers(chunk, low, high): power factors of the blocks of a chunk for a sorted pair [CHUNK_BLOCKS]."""

        @functools.lru_cache(KEPT_CHUNKS)
        def powers(chunk: int, low: int, high: int) -> DoubleArray:
            if self.fading.correlation == "none":
                source = stream(self.seed, "fading", chunk, low, high)
                return self.fading.draw(source, CHUNK_BLOCKS)
            blocks = np.arange(CHUNK_BLOCKS, dtype=np.float64) + chunk * CHUNK_BLOCKS
            return self.fading.power_of(self._scattered(blocks * self.fading.block_s, low, high))

        return powers

    def _scattered(self, time_T: DoubleArray, low: int, high: int) -> ComplexArray:
        """The gain of the weak paths of a pair at emulated times [T]: stationary, E|g|² = 1.

        g(t) = N^-½ Σ_n exp(j (2π f_d t cos α_n + φ_n)), α_n = (2πn + θ)/N, with φ_n and θ uniform over
        a turn and N = SINUSOIDS: E g(t + τ) g*(t) = J0(2π f_d τ), and |g|² → Exp(1) with N.
        Source: Clarke, "A statistical theory of mobile-radio reception", 1968; with angles spread
        evenly from a random start as in Xiao, Zheng and Beaulieu, "Novel sum-of-sinusoids simulation
        models for Rayleigh and Rician fading channels", 2006.
        """
        turns = stream(self.seed, "fading_paths", low, high).random(SINUSOIDS + 1)
        angle_N = 2.0 * math.pi * (np.arange(SINUSOIDS) + turns[0]) / SINUSOIDS
        cycles_TN = self.fading.doppler_hz * np.outer(time_T, np.cos(angle_N)) + turns[1:]
        waves_TN = np.exp(2j * math.pi * cycles_TN)
        return np.asarray(waves_TN.sum(axis=1) / math.sqrt(SINUSOIDS))
