"""The received power of a link in each coherence block, over noise and interference.

Shapes: R receivers of a grant.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from emulator.core.types.arrays import DoubleArray
from emulator.core.types.transmission import Grant
from emulator.core.units import noise_w
from emulator.network.channel.flow import Blocks

if TYPE_CHECKING:
    from emulator.network.channel.fading import Fades, NoFades
    from emulator.network.channel.geometry import PairLosses
    from emulator.network.channel.model import Wireless

MOVING_BLOCK_S = 1.0
"""Longest time for which the gain between moving devices is constant during a transfer [s]."""

ON_AIR_S = 1e-9
"""Own time [s] after which a sender is certainly inside its first slot."""


class Gains(Protocol):
    """Linear power gains without small-scale fading, from positions or from a file."""

    @property
    def moving(self) -> bool:
        """Whether gains ever change."""
        ...

    def mean_gain(self, time_s: float) -> DoubleArray:
        """Gains between all devices at a time [M, M], symmetric, diagonal 0."""
        ...

    def gain(self, first: int, second: int, time_s: float) -> float:
        """The gain of one pair at a time. Law: it equals mean_gain(time_s)[first, second]."""
        ...

    def pair_losses(self, pairs_L: Sequence[tuple[int, int]], time_s: float) -> PairLosses | None:
        """The parts of the loss of L pairs at a time [L]; None if only the whole gains are known."""
        ...


@dataclass(frozen=True, eq=False)
class Signal:
    """Gains and fading of a run. gain_at_start [M, M]: the mean gains at time 0.

    The blocks of a grant count from the block in which it starts. most_w: the power of an interferer [W].
    """

    model: Wireless
    seed: int
    gains: Gains
    gain_at_start: DoubleArray
    most_w: float

    def blocks(self, grant: Grant) -> Blocks:
        """The blocks during a grant: those of the run, or blocks that begin with the grant."""
        if self.model.fading.blocks == "per_exchange":
            return Blocks(self._block_s)
        return Blocks.over_time(self._block_s, grant.start_s)

    def first_block(self, grant: Grant) -> int:
        """The block in which the sender first transmits."""
        if grant.slots is None:
            return 0
        before_s = grant.slots.carrying_s(grant.start_s)
        first_s = float(grant.slots.times_at(np.array([before_s + ON_AIR_S]))[0]) - grant.start_s
        return self.blocks(grant).at(max(first_s, 0.0))

    def snr(self, grant: Grant, block: int) -> DoubleArray:
        """Received power over noise (of the granted band) and interference in one block [R].

        Interferers count with their largest power, because a sender does not know when the other
        devices of its slot are silent.
        """
        return self._snr(grant, lambda first, second: self._gain(grant, block, first, second))

    def mean_snr(self, grant: Grant) -> DoubleArray:
        """The SNR at the start of a grant, without small-scale fading [R]."""
        return self._snr(grant, lambda first, second: self._mean_gain(grant, 0, first, second))

    def has_path(self, grant: Grant, block: int) -> bool:
        """Whether the gain to every receiver is above 0."""
        gains = (self._mean_gain(grant, block, grant.sender, r) for r in grant.receivers)
        return all(gain > 0.0 for gain in gains)

    def log_power_w(self, grant: Grant, block: int, log_snr: float) -> float:
        """ln of the power [W] that gives the weakest receiver a wanted SNR in a block; inf without a path."""
        gain = functools.partial(self._gain, grant, block)
        gains = [gain(grant.sender, receiver) for receiver in grant.receivers]
        if not all(gains):
            return math.inf
        disturbances_w = self._disturbance_w(grant, gain).tolist()
        return max(
            log_snr + math.log(disturbance_w) - math.log(own)
            for disturbance_w, own in zip(disturbances_w, gains, strict=True)
        )

    def _snr(self, grant: Grant, gain: Callable[[int, int], float]) -> DoubleArray:
        gain_R = np.array([gain(grant.sender, receiver) for receiver in grant.receivers])
        return grant.tx_power_w * gain_R / self._disturbance_w(grant, gain)

    def _disturbance_w(self, grant: Grant, gain: Callable[[int, int], float]) -> DoubleArray:
        """Noise and interference at each receiver [W], [R]."""
        noise = noise_w(grant.bandwidth_hz, self.model.noise_figure_db) + self.model.interference_w
        interference_R = [
            sum(gain(i, receiver) for i in grant.interferers if i != receiver)
            for receiver in grant.receivers
        ]
        return noise + self.most_w * np.array(interference_R, dtype=np.float64)

    def _gain(self, grant: Grant, block: int, first: int, second: int) -> float:
        """Power gain of a link in a block of a grant."""
        in_run = self.blocks(grant).first + block
        fade = in_run // self._blocks_of_a_fade if self._blocks_of_a_fade else 0
        power = self._fades.power(grant.exchange_index, fade, first, second)
        return self._mean_gain(grant, block, first, second) * power

    def _mean_gain(self, grant: Grant, block: int, first: int, second: int) -> float:
        """The gain without fading, at the start of the block or, for block 0, of the grant."""
        if not self.gains.moving:
            return float(self.gain_at_start[first, second])
        return self.gains.gain(first, second, grant.start_s + self.blocks(grant).start_s(block))

    @functools.cached_property
    def _fades(self) -> Fades | NoFades:
        """The fading of the run."""
        return self.model.fading.bind(self.seed)

    @functools.cached_property
    def _blocks_of_a_fade(self) -> int:
        """Number of blocks for which one draw of the fading holds; 0: it holds for the whole run."""
        held_s = self.model.fading.block_s
        if math.isinf(held_s):
            return 0
        return math.ceil(held_s / MOVING_BLOCK_S) if self.gains.moving else 1

    @functools.cached_property
    def _block_s(self) -> float:
        """Duration of a block [s]: that of the fading, but at most MOVING_BLOCK_S if devices move."""
        held_s = self.model.fading.block_s
        if math.isinf(held_s):
            return MOVING_BLOCK_S if self.gains.moving else held_s
        return held_s / self._blocks_of_a_fade
