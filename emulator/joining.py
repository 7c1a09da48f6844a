"""Why a network falls apart: the best link that is missing, what it has, and what it would take.

Everything is asked of the air through its protocols, so it holds for a channel of somebody's own.
Shapes: M devices.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.sparse.csgraph import connected_components

from emulator.channel.snapshot import IN_RANGE_BYTES
from emulator.errors import ScenarioError
from emulator.protocols import BoundAccess, BoundChannel
from emulator.state import BoolArray, IndexArray
from emulator.units import bits_from_bytes, db_from_linear

MOST_DOUBLINGS = 100
"""A deadline that is not long enough after so many doublings never is."""

BAND_STEP = 10.0**0.05
"""Bands are tried at so many times the present one, to and fro."""

BAND_STEPS = 240
"""Twelve decades up and down."""


def joined(channel: BoundChannel, access: BoundAccess, time_s: float) -> BoolArray:
    """Who reaches whom at a time [M, M]. Raises ScenarioError where some cannot reach each other."""
    island_M = islands(channel, access, time_s)
    if island_M.any():
        count = 1 + int(island_M.max())
        named = [str(np.flatnonzero(island_M == island).tolist()) for island in range(count)]
        raise ScenarioError(
            [
                f"channel: got {count} islands of devices out of each other's range "
                f"({'; '.join(named)}), wanted a connected network; "
                f"{missing_link(channel, access, time_s, island_M)}"
            ]
        )
    return channel.at(time_s).in_range(*access.share(1))


def islands(channel: BoundChannel, access: BoundAccess, time_s: float) -> IndexArray:
    """The island of each device at a time [M], counted from 0: all of them 0 where all are connected."""
    near_MM = channel.at(time_s).in_range(*access.share(1))
    return np.asarray(connected_components(near_MM, directed=False)[1], dtype=np.int64)


def missing_link(
    channel: BoundChannel, access: BoundAccess, time_s: float, island_M: IndexArray
) -> str:
    """In words, the link between two islands that lacks least power, and what would make it one."""
    snapshot, (band_hz, share) = channel.at(time_s), access.share(1)
    apart_MM = island_M[:, None] != island_M
    needed_MM = snapshot.required_power_w(IN_RANGE_BYTES, band_hz, share)
    gain_MM = np.where(apart_MM, snapshot.mean_gain, -1.0)
    within_MM = apart_MM & np.isfinite(needed_MM)
    if within_MM.any():
        best = int(np.argmin(np.where(within_MM, needed_MM, np.inf)))
    else:
        best = int(np.argmax(gain_MM))
    i, j = divmod(best, len(island_M))
    link, has_w = f"the best link between them, {i} -> {j},", float(channel.max_power_w[i])
    if gain_MM[i, j] <= 0.0:
        return f"{link} has no path at all (gain 0)"

    def needs_w(longer: float, hz: float) -> float:
        """With a deadline so many times longer, on a band."""
        return float(snapshot.required_power_w(IN_RANGE_BYTES, hz, share * longer)[i, j])

    longer = _least_factor(lambda factor: needs_w(factor, band_hz) <= has_w)
    cures = []
    if longer is not None:
        cures.append(f"channel.deadline_s of {_rounded_up(longer * channel.deadline_s)} or more")
    if (other_hz := _nearest_band(lambda hz: needs_w(1.0, hz) <= has_w, band_hz)) is not None:
        cures.append(f"access.bandwidth_hz of {other_hz:g}")
    if math.isfinite(more_w := needs_w(1.0, band_hz)):
        lacks_db = db_from_linear(more_w / has_w)
        cures.append(f"a power of {_rounded_up(more_w)} W or more ({lacks_db:.1f} dB more)")
    wanted = bits_from_bytes(IN_RANGE_BYTES) / (channel.deadline_s * share)
    carries = "nothing" if longer is None else f"{wanted / longer:.3g} bit/s"
    band = "" if math.isinf(band_hz) else f" on {band_hz:g} Hz"
    return (
        f"{link} carries {carries} with {has_w:.3g} W{band}, and {IN_RANGE_BYTES} bytes within "
        f"channel.deadline_s = {channel.deadline_s:g} need {wanted:.3g} bit/s: it takes "
        f"{', or '.join(cures) or 'other places, for no deadline, band or power is enough'}"
    )


def _least_factor(enough: Callable[[float], bool]) -> float | None:
    """The least factor above 1 that is enough, to a thousandth; None: none is."""
    high = next((2.0**k for k in range(MOST_DOUBLINGS) if enough(2.0**k)), None)
    if high is None:
        return None
    low = high / 2.0
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _nearest_band(enough: Callable[[float], bool], band_hz: float) -> float | None:
    """The band nearest to the present one that is enough, on a grid; None: none is."""
    if math.isinf(band_hz):
        return None
    for step in range(1, BAND_STEPS + 1):
        for factor in (BAND_STEP**step, BAND_STEP**-step):
            hz = float(f"{band_hz * factor:.2g}")
            if enough(hz):
                return hz
    return None


def _rounded_up(value: float) -> str:
    """Three digits, not less than the value."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / unit) * unit:.3g}"
