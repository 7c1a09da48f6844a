"""The state of the network at one moment: positions, gains, pairs in range, and required powers.

Shapes: M devices.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emulator.core.types.arrays import BoolArray, DoubleArray, IndexArray
from emulator.core.units import noise_w
from emulator.network.channel.rates import Rate

IN_RANGE_BYTES = 1500
"""Two devices are in range if one full packet meets the deadline at full power."""


@dataclass(frozen=True, eq=False)
class WirelessSnapshot:
    """The state of a wireless channel at one moment.

    positions_m [M, 2]. mean_gain_of: returns `mean_gain`; it is called at most once, when needed.
    """

    positions_m: DoubleArray
    mean_gain_of: Callable[[], DoubleArray]
    rate: Rate
    noise_figure_db: float
    interference_w: float
    deadline_s: float
    max_power_w: float

    @cached_property
    def mean_gain(self) -> DoubleArray:
        """Linear power gains [M, M], symmetric, diagonal 0."""
        return self.mean_gain_of()

    def in_range(self, bandwidth_hz: float, time_share: float) -> BoolArray:
        """Whether IN_RANGE_BYTES on the whole band meet the deadline within the power limit [M, M]."""
        near = self.required_power_w(IN_RANGE_BYTES, bandwidth_hz, time_share) <= self.max_power_w
        np.fill_diagonal(near, val=False)
        return near

    def bit_per_s(self, bandwidth_hz: float) -> DoubleArray:
        """Rate [bit/s] from i to j on a band at the mean gain and full power, without interferers [M, M]."""
        if self.rate.kind == "trace":
            return np.full_like(self.mean_gain, self.rate.mean_bit_per_s)
        noise = noise_w(bandwidth_hz, self.noise_figure_db) + self.interference_w
        snr_MM = self.max_power_w * self.mean_gain / noise
        rates = [self.rate.bit_per_s(snr, bandwidth_hz) for snr in snr_MM.ravel().tolist()]
        return np.array(rates, dtype=np.float64).reshape(snr_MM.shape)

    def required_power_w(
        self, num_bytes: int | IndexArray, bandwidth_hz: float, time_share: float
    ) -> DoubleArray:
        """Least power [W] from i to j at the mean gain (Eq 25), diagonal 0 [M, M].

        num_bytes: air bytes of every sender, or of each sender [M], due within the deadline on
        bandwidth_hz in a share of the time. inf if no power is enough, or if there is no path (gain 0).
        """
        devices = len(self.positions_m)
        bytes_M = np.broadcast_to(np.asarray(num_bytes, dtype=np.int64), devices)
        wanted_M = bytes_M * 8.0 / (self.deadline_s * time_share)
        log_snr_M = np.array([self.rate.log_snr(float(x), bandwidth_hz) for x in wanted_M])
        log_noise = math.log(noise_w(bandwidth_hz, self.noise_figure_db) + self.interference_w)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            power = np.exp(log_snr_M[:, None] + log_noise - np.log(self.mean_gain))
        # A sender that needs no SNR needs no power, even against the infinite noise of an infinite band.
        power[np.isneginf(log_snr_M)] = 0.0
        power[self.mean_gain == 0.0] = math.inf
        np.fill_diagonal(power, 0.0)
        return power
