"""Budgets before training: what a device can afford and what its radio can deliver."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from pydantic import TypeAdapter

from emulator.core.errors import EmulatorError
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import Kind, Message, Traffic, ValueType
from emulator.core.types.packet import air_bytes
from emulator.core.types.survey import Survey
from emulator.learning.training import Local
from emulator.network.channel.access import OfdmaAccess, TdmaAccess
from emulator.network.channel.energy import FixedPower, LeastPower, Power
from emulator.network.channel.snapshot import WirelessSnapshot
from emulator.network.survey import IntroducedSizes
from emulator.scenario.schema import Scenario
from emulator.scenario.world import World, build_world

SIZE = 4000
LAYOUT = AdapterLayout(("m.lora_B",), ((SIZE,),))


def message_of(count: int) -> Message:
    mask = Mask(SIZE, np.arange(count, dtype=np.int64))
    return Message(
        kind=Kind.VALUES,
        traffic=Traffic.IN_CLUSTER,
        source=0,
        origin=0,
        round_index=0,
        receivers=(),
        layout=LAYOUT,
        mask=mask,
        values=np.zeros(count, dtype=np.float32),
        value_type=ValueType.BFLOAT16,
        mask_known=True,
        reliable=False,
    )


def world(noise_figure_db: float = 58.0, **local: object) -> World:
    return build_world(
        Scenario.model_validate(
            {
                "name": "budget",
                "devices": 4,
                "tasks": {"kind": "synthetic", "train_samples": 60, "test_samples": 4},
                "router": {"kind": "uniform"},
                "channel": {"kind": "wireless", "noise_figure_db": noise_figure_db},
                "access": {"kind": "ofdma", "bandwidth_hz": 20e3},
                "local": local,
            }
        )
    )


def sizes(modules: Sequence[int], samples: Sequence[int] = (1, 1, 1, 1)) -> IntroducedSizes:
    return IntroducedSizes(tuple(samples), tuple(range(4)), tuple(modules))


def fits(air: World, device: int, count: int, neighbours: int) -> bool:
    needed = air.channel.at(0.0).required_power_w(
        air_bytes(air.scenario.wire.encode(message_of(count))), 20e3 / neighbours, 1.0
    )[device]
    return bool(
        sorted(np.delete(needed, device))[:neighbours]
        and sum(sorted(np.delete(needed, device))[:neighbours]) <= air.channel.max_power_w[device]
    )


@pytest.mark.parametrize("neighbours", [1, 2, 3])
def test_the_radio_delivers_the_budget_and_not_one_value_more(neighbours: int) -> None:
    air = world()
    budget = air.parameter_budget(0, SIZE, neighbours, message_of)
    assert 1 <= budget < SIZE
    assert fits(air, 0, budget, neighbours)
    assert not fits(air, 0, budget + 1, neighbours)


def test_more_neighbours_leave_less_for_each() -> None:
    air = world()
    budgets = [air.parameter_budget(1, SIZE, n, message_of) for n in (1, 2, 3)]
    assert budgets == sorted(budgets, reverse=True)
    assert budgets[0] > budgets[2]


def test_compute_bounds_it_too() -> None:
    air = world(noise_figure_db=0.0, compute_budget=[100.0, 200.0], batch_size=30)
    budgets = [air.parameter_budget(device, SIZE, 3, message_of) for device in range(4)]
    assert budgets == [100 * 30 // 60, 200 * 30 // 60] * 2


def test_no_budget_at_all_is_named() -> None:
    with pytest.raises(EmulatorError, match="device 2: got a budget of no parameter"):
        world(compute_budget=[1e-3]).parameter_budget(2, SIZE, 3, message_of)


@pytest.mark.parametrize("budget", [[0.0], [1.0, -1.0]])
def test_a_compute_budget_is_positive(budget: list[float]) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Local.model_validate({"compute_budget": budget})


def test_without_a_compute_budget_everything_is_affordable() -> None:
    assert Local().affordable_parameters(0, 10) == math.inf


@pytest.mark.parametrize(
    ("access", "power", "spent_w"),
    [
        ({"kind": "ofdma", "bandwidth_hz": 20e3}, LeastPower(), [0.6, 0.6]),
        ({"kind": "ofdma", "bandwidth_hz": 20e3}, FixedPower(power_w=0.1), [0.9, 1.5]),
        ({"kind": "ofdma", "bandwidth_hz": 20e3, "cast": "broadcast"}, LeastPower(), [0.3, 0.5]),
        ({"kind": "tdma", "bandwidth_hz": 200e3}, FixedPower(power_w=0.1), [0.3, 0.5]),
    ],
)
def test_neighbours_cost_what_their_way_of_being_served_costs(
    access: dict, power: Power, spent_w: list[float]
) -> None:
    """Each what it needs; all as much as the neediest; one after the other."""
    one = world()
    scenario = one.scenario.model_copy(
        update={
            "access": TypeAdapter(OfdmaAccess | TdmaAccess).validate_python(access),
            "channel": one.scenario.channel.model_copy(update={"power": power}),
        }
    )
    air = build_world(scenario)
    dense = np.ones((4, 1))
    survey = air.survey(0.0, air.planned_bytes([message_of(50)] * 4), dense, sizes([SIZE]))
    needed_w = np.array([[0.1, 0.2, 0.3], [0.0, 0.5, 0.1]])
    assert survey.spent_w(needed_w) == pytest.approx(spent_w)
    assert survey.spent_w(np.zeros((2, 0))).tolist() == [0.0, 0.0]


def test_powers_are_worked_out_once_for_each_number_of_neighbours_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All numbers at once would take memory with the cube of the devices, in every one of them."""
    air, asked = world(), []
    really = WirelessSnapshot.required_power_w

    def counted(snapshot, num_bytes, *share):
        asked.append(share)
        return really(snapshot, num_bytes, *share)

    monkeypatch.setattr(WirelessSnapshot, "required_power_w", counted)
    message = message_of(10)
    survey = air.survey(0.0, air.planned_bytes([message] * 4), np.ones((4, 1)), sizes([SIZE]))
    asked.clear()
    wanted = really(air.channel.at(0.0), air_bytes(air.scenario.wire.encode(message)), 1e4, 1.0)
    for _ in range(2):
        np.testing.assert_array_equal(survey.required_power_w(2), wanted)
    assert asked == [(1e4, 1.0)]


def test_equal_introductions_give_equal_surveys() -> None:
    air, message = world(), message_of(10)

    def surveyed(samples: list[int], density: float, size: int = SIZE) -> Survey:
        dense_ML = np.full((4, 1), density)
        return air.survey(0.0, air.planned_bytes([message] * 4), dense_ML, sizes([size], samples))

    first = surveyed([1, 2, 3, 4], 0.5)
    assert surveyed([1, 2, 3, 4], 0.5) is first
    assert first.samples.tolist() == [1, 2, 3, 4]
    others = [
        surveyed([1, 2, 3, 5], 0.5),
        surveyed([1, 2, 3, 4], 0.25),
        surveyed([1, 2, 3, 4], 0.5, size=2 * SIZE),
    ]
    assert len({id(each) for each in (first, *others)}) == 4
    assert [each.densities[0, 0] for each in others] == [0.5, 0.25, 0.5]
    assert [each.module_sizes.tolist() for each in others] == [[SIZE], [SIZE], [2 * SIZE]]
