"""What a device computes about the channel before it trains: its budget, and the survey of all devices.

Shapes: M devices, L modules, N coordinates of the trained vector.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from emulator.core.errors import EmulatorError
from emulator.core.protocols.access import BoundAccess
from emulator.core.protocols.channel import BoundChannel
from emulator.core.types.arrays import DoubleArray, IndexArray
from emulator.core.types.survey import PowerSharing, Survey, spent_w


@dataclass(frozen=True)
class IntroducedSizes:
    """Integers of the introductions: training examples and task group of each device [M], and the
    entries of each module [L]."""

    samples_M: tuple[int, ...]
    groups_M: tuple[int, ...]
    module_sizes_L: tuple[int, ...]


def make_survey(
    channel: BoundChannel,
    access: BoundAccess,
    time_s: float,
    bytes_M: IndexArray,
    densities_ML: DoubleArray,
    known: IntroducedSizes,
) -> Survey:
    """Combine the introductions with gains, and with the powers that bytes_M on the air require.

    Every introduction contains position and power. The channel holds the same numbers, so this
    function reads them from the channel, for one time and all devices, together with the gains.
    """
    now = channel.at(time_s)

    @cache
    def required_power_w(neighbours: int) -> DoubleArray:
        return now.required_power_w(bytes_M, *access.share(neighbours))

    return Survey(
        positions_m=now.positions_m,
        mean_gain=now.mean_gain,
        in_range=now.in_range(*access.share(1)),
        max_power_w=channel.max_power_w,
        required_power_w=required_power_w,
        samples=np.array(known.samples_M, dtype=np.int64),
        groups=np.array(known.groups_M, dtype=np.int64),
        densities=densities_ML,
        module_sizes=np.array(known.module_sizes_L, dtype=np.int64),
        power_sharing=find_power_sharing(channel, access),
    )


def find_power_sharing(channel: BoundChannel, access: BoundAccess) -> PowerSharing:
    """Find out how a device divides its power among several neighbours."""
    if not access.powers_add_up:
        return "in_turn"
    return "equally" if channel.splits_power_equally else "as_needed"


def parameter_budget(
    channel: BoundChannel,
    access: BoundAccess,
    device: int,
    affordable: int,
    neighbours: int,
    bytes_of: Callable[[int], int],
) -> int:
    """The largest number of values, at most `affordable`, that a device can send to its neighbours.

    Eq 11a and 11b: the device serves its nearest neighbours at once, at the mean gains, within the
    deadline and the power limit. bytes_of: bytes on the air of a message of n values.
    Raises EmulatorError if the number is less than 1.
    """
    now, sharing = channel.at(0.0), find_power_sharing(channel, access)
    nearest = min(neighbours, len(channel.max_power_w) - 1)

    def out_of_reach(num_values: int) -> bool:
        needed_MM = now.required_power_w(bytes_of(num_values), *access.share(nearest))
        needed_M: DoubleArray = needed_MM[device]
        others = np.sort(np.delete(needed_M, device))[:nearest]
        return bool(spent_w(others, sharing) > channel.max_power_w[device])

    budget = bisect_right(range(1, affordable + 1), False, key=out_of_reach)
    if budget < 1:
        raise EmulatorError(
            f"device {device}: got a budget of no parameter, wanted more local.compute_budget or "
            f"power, or fewer than {nearest} method.budget_neighbours"
        )
    return budget
