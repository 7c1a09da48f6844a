"""The power that arrives over a link in each coherence block, over noise and interference.

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
"""How often the gain of a transfer follows who moves, where no fading has blocks of its own."""

ON_AIR_S = 1e-9
"""Own time after which a sender is surely in its first own moment [s]."""


class Gains(Protocol):
    """Linear power gains without small-scale fading, whatever they come from."""

    @property
    def moving(self) -> bool:
        """Whether they ever change."""
        ...

    def mean_gain(self, time_s: float) -> DoubleArray:
        """Between all devices at a time [M, M], symmetric, diagonal 0."""
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

    Blocks of a grant count from the one in which it starts; most_w: what an interferer sends with.
    """

    model: Wireless
    seed: int
    gains: Gains
    gain_at_start: DoubleArray
    most_w: float

    def blocks(self, grant: Grant) -> Blocks:
        """The blocks that a grant meets: of the run, or counted from its start."""
        if self.model.fading.blocks == "per_exchange":
            return Blocks(self._block_s)
        return Blocks.over_time(self._block_s, grant.start_s)

    def first_block(self, grant: Grant) -> int:
        """The block in which the sender is on the air for the first time."""
        if grant.slots is None:
            return 0
        before_s = grant.slots.carrying_s(grant.start_s)
        first_s = float(grant.slots.times_at(np.array([before_s + ON_AIR_S]))[0]) - grant.start_s
        return self.blocks(grant).at(max(first_s, 0.0))

    def snr(self, grant: Grant, block: int) -> DoubleArray:
        """[R] received power over noise (of the granted band) and interference, in one block.

        Interferers count with all the power they may have: who shares a slot does not know when the
        others are silent.
        """
        return self._snr(grant, lambda first, second: self._gain(grant, block, first, second))

    def mean_snr(self, grant: Grant) -> DoubleArray:
        """[R] the same at the start, without small-scale fading."""
        return self._snr(grant, lambda first, second: self._mean_gain(grant, 0, first, second))

    def has_path(self, grant: Grant, block: int) -> bool:
        """Whether anything of what is sent arrives at all receivers."""
        gains = (self._mean_gain(grant, block, grant.sender, r) for r in grant.receivers)
        return all(gain > 0.0 for gain in gains)

    def log_power_w(self, grant: Grant, block: int, log_snr: float) -> float:
        """ln of the power [W] that gives the weakest receiver an SNR in a block; inf without a path."""
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
        """[R] noise and interference at each receiver."""
        noise = noise_w(grant.bandwidth_hz, self.model.noise_figure_db) + self.model.interference_w
        heard_R = [
            sum(gain(i, receiver) for i in grant.interferers if i != receiver)
            for receiver in grant.receivers
        ]
        return noise + self.most_w * np.array(heard_R, dtype=np.float64)

    def _gain(self, grant: Grant, block: int, first: int, second: int) -> float:
        """Power gain of a link in a block of a grant."""
        in_run = self.blocks(grant).first + block
        fade = in_run // self._blocks_of_a_fade if self._blocks_of_a_fade else 0
        power = self._fades.power(grant.exchange_index, fade, first, second)
        return self._mean_gain(grant, block, first, second) * power

    def _mean_gain(self, grant: Grant, block: int, first: int, second: int) -> float:
        """That without fading, as it is when the block begins or the grant starts."""
        if not self.gains.moving:
            return float(self.gain_at_start[first, second])
        return self.gains.gain(first, second, grant.start_s + self.blocks(grant).start_s(block))

    @functools.cached_property
    def _fades(self) -> Fades | NoFades:
        """The fading of the run."""
        return self.model.fading.bind(self.seed)

    @functools.cached_property
    def _blocks_of_a_fade(self) -> int:
        """Blocks for which one draw of the fading holds; 0: it holds for ever."""
        held_s = self.model.fading.block_s
        if math.isinf(held_s):
            return 0
        return math.ceil(held_s / MOVING_BLOCK_S) if self.gains.moving else 1

    @functools.cached_property
    def _block_s(self) -> float:
        """How long rate and losses hold [s]: as the fading, but for who moves MOVING_BLOCK_S at most."""
        held_s = self.model.fading.block_s
        if math.isinf(held_s):
            return MOVING_BLOCK_S if self.gains.moving else held_s
        return held_s / self._blocks_of_a_fade
