"""What a device works out about the air before it trains: its budget, and the survey of all.

Shapes: M devices, L modules, N coordinates of the trained vector.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from emulator.errors import EmulatorError, ScenarioError
from emulator.scenario import Scenario
from emulator.sections import Asynchronous
from emulator.state import DoubleArray, IndexArray, Message, Survey, air_bytes, spent_w
from emulator.topology.graphs import RandomFeasible, is_fixed
from emulator.world import World


def survey_of(
    world: World,
    module_sizes: Sequence[int],
    samples: Sequence[int],
    blocks: Sequence[int],
    densities_ML: DoubleArray,
    planned: Sequence[Message],
    time_s: float,
) -> Survey:
    """What the introductions tell, with gains and the powers that everybody's message requires.

    Positions and powers are in every introduction; as the channel holds the same numbers, they are
    read from there at one time for all, with the gains that follow from them. planned: one message
    per device. Devices that were told the same get the same object.
    """
    scenario = world.scenario
    different = {id(message): message for message in planned}
    bytes_of = {key: air_bytes(scenario.wire.encode(m)) for key, m in different.items()}
    bytes_M = np.array([bytes_of[id(m)] for m in planned], dtype=np.int64)
    if isinstance(scenario.graph, RandomFeasible) and scenario.graph.message_bytes:
        bytes_M[:] = scenario.graph.message_bytes
    listed = (samples, blocks, module_sizes)
    told = (time_s, bytes_M.tobytes(), densities_ML.tobytes(), *map(tuple, listed))

    def surveyed() -> Survey:
        known = [np.array(each, dtype=np.int64) for each in listed]
        return _survey(world, time_s, bytes_M, densities_ML, *known)

    return world.once(("survey", *told), surveyed)


def _survey(
    world: World,
    time_s: float,
    bytes_M: IndexArray,
    densities_ML: DoubleArray,
    samples_M: IndexArray,
    blocks_M: IndexArray,
    module_sizes_L: IndexArray,
) -> Survey:
    """Of devices that each send so many bytes on the air."""
    channel, scenario = world.channel.at(time_s), world.scenario

    @cache
    def required_power_w(neighbours: int) -> DoubleArray:
        return channel.required_power_w(bytes_M, *world.access.share(neighbours))

    survey = Survey(
        positions_m=channel.positions_m,
        mean_gain=channel.mean_gain,
        in_range=channel.in_range(*world.access.share(1)),
        max_power_w=world.channel.max_power_w,
        required_power_w=required_power_w,
        samples=samples_M,
        blocks=blocks_M,
        densities=densities_ML,
        module_sizes=module_sizes_L,
        power_sharing=world.power_sharing,
    )
    if isinstance(scenario.schedule, Asynchronous):
        _check_fixed(scenario, survey)
    return survey


def _check_fixed(scenario: Scenario, survey: Survey) -> None:
    """Raise ScenarioError where links change: who does not wait must know whom to listen to."""
    graph, seed = scenario.graph, scenario.seed
    if is_fixed(graph):
        return
    first = graph.links(0, survey, seed)
    if any(graph.links(r, survey, seed) != first for r in range(1, scenario.rounds)):
        raise ScenarioError(
            [
                f"topology.kind: got {scenario.topology.kind}, whose links change from round to round, "
                "wanted fixed ones (schedule.kind is asynchronous)"
            ]
        )


def parameter_budget(
    world: World, device: int, most: int, neighbours: int, message_of: Callable[[int], Message]
) -> int:
    """How many of `most` values a device can afford to train and to send to so many neighbours.

    Eq 7 by local.compute_budget; Eq 11a and 11b: at the mean gains, the nearest so many neighbours
    served at once within the deadline and the power limit. message_of: a message of so many values.
    Raises EmulatorError for less than 1.
    """
    scenario, channel = world.scenario, world.channel.at(0.0)
    affordable = scenario.local.affordable_parameters(device, len(world.shards[device].train))
    nearest = min(neighbours, scenario.devices - 1)

    def out_of_reach(num_values: int) -> bool:
        needed_M: DoubleArray = channel.required_power_w(
            air_bytes(scenario.wire.encode(message_of(num_values))),
            *world.access.share(nearest),
        )[device]
        others = np.sort(np.delete(needed_M, device))[:nearest]
        spent = spent_w(others, world.power_sharing)
        return bool(spent > world.channel.max_power_w[device])

    budget = bisect_right(range(1, int(min(most, affordable)) + 1), False, key=out_of_reach)
    if budget < 1:
        raise EmulatorError(
            f"device {device}: got a budget of no parameter, wanted more local.compute_budget or "
            f"power, or fewer than {nearest} method.budget_neighbours"
        )
    return budget
