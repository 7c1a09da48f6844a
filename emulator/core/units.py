"""Conversions between the units of radio engineers (dB, dBm) and the linear units of the code."""

import math

import numpy as np
from numpy.typing import NDArray

THERMAL_NOISE_DBM_PER_HZ = -174.0
"""Noise density at 290 K, rounded as in 3GPP documents [dBm/Hz]."""


MOST_LOSS_DB = 300.0
"""Largest path loss; beyond it there is no path: the strongest transmitters are 100 dB below any noise."""


def linear_from_db(value_db: float) -> float:
    """10^(x/10): a power ratio from decibels."""
    return float(10.0 ** (value_db / 10.0))


def db_from_linear(ratio: float) -> float:
    """10 lg x: decibels from a power ratio; -inf for 0 (no path or no signal)."""
    return 10.0 * math.log10(ratio) if ratio > 0.0 else -math.inf


def watts_from_dbm(power_dbm: float) -> float:
    """Watts from decibels over a milliwatt."""
    return linear_from_db(power_dbm - 30.0)


def dbm_from_watts(power_w: float) -> float:
    """Decibels over a milliwatt from watts; -inf for 0."""
    return db_from_linear(power_w) + 30.0


def noise_w(bandwidth_hz: float, noise_figure_db: float) -> float:
    """Thermal noise power in a bandwidth, with the receiver's noise figure [W]."""
    return watts_from_dbm(THERMAL_NOISE_DBM_PER_HZ + noise_figure_db) * bandwidth_hz


def bits_from_bytes(num_bytes: int) -> int:
    """Eight bits a byte."""
    return 8 * num_bytes


def gain_from_path_loss(path_loss_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear power gain of a path loss [dB], element by element; 0 beyond MOST_LOSS_DB: no path."""
    gain = 10.0 ** (-path_loss_db / 10.0)
    return np.asarray(np.where(path_loss_db > MOST_LOSS_DB, 0.0, gain), dtype=np.float64)
