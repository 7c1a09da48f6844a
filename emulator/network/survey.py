"""What a device works out about the air before it trains: its budget, and the survey of all.

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
    """Whole numbers of the introductions: training examples and task group of each device [M], and the
    entries of each module [L]."""

    samples_M: tuple[int, ...]
    groups_M: tuple[int, ...]
    module_sizes_L: tuple[int, ...]


def survey_of(
    channel: BoundChannel,
    access: BoundAccess,
    time_s: float,
    bytes_M: IndexArray,
    densities_ML: DoubleArray,
    known: IntroducedSizes,
) -> Survey:
    """What the introductions report, with gains and the powers that so many bytes on the air require.

    Positions and powers are in every introduction; as the channel holds the same numbers, they are
    read from there at one time for all, with the gains that follow from them.
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
        power_sharing=power_sharing(channel, access),
    )


def power_sharing(channel: BoundChannel, access: BoundAccess) -> PowerSharing:
    """How a device serves several neighbours."""
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
    """How many of `affordable` values a device can send to so many neighbours.

    Eq 11a and 11b: at the mean gains, the nearest so many neighbours served at once within the
    deadline and the power limit. bytes_of: bytes on the air of a message of so many values.
    Raises EmulatorError for less than 1.
    """
    now, sharing = channel.at(0.0), power_sharing(channel, access)
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
