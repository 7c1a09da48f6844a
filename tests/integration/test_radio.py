"""Whole lives over real air: what the radio allows is what is kept, and nobody speaks longer than it takes."""

import math

import numpy as np
import pytest

from emulator.core.records import check_account
from emulator.core.units import noise_w
from emulator.device import live
from emulator.network.shim import Shim
from emulator.runtime.drivers import one_process
from emulator.runtime.drivers.lifecycle import LifeOutcome
from emulator.scenario.load import read_preset
from emulator.scenario.schema import Scenario
from emulator.scenario.world import World, build_world

DEVICES, SAMPLES, BATCH = 4, 20, 4
BAND_HZ, DEADLINE_S, MOST_W, NOISE_FIGURE_DB = 12e3, 1.0, 0.2, 30.0
SMALL = [
    f"devices={DEVICES}",
    "rounds=1",
    "local.steps=2",
    f"local.batch_size={BATCH}",
    "method.kind=sparse_orthogonal",
    "method.lora_rank=2",
    "method.mask_warmup_steps=1",
    "topology.kind=complete",
    "tasks.kind=synthetic",
    "tasks.names=[reverse,sort]",
    f"tasks.train_samples={SAMPLES}",
    "tasks.test_samples=1",
]


def lives(scenario: Scenario) -> tuple[World, dict[int, LifeOutcome]]:
    world = build_world(scenario)
    devices = range(scenario.devices)
    airs = {i: Shim(i, scenario.wire, world.access, world.channel) for i in devices}
    return world, one_process.run_lives({i: live(world, i) for i in devices}, airs, lambda *_: None)


def test_a_budget_of_the_device_is_what_it_computes_and_its_radio_carries() -> None:
    """Eq 7 binds devices 1 and 3; Eq 11 and 25, for the nearest two, bind 0 and 2."""
    affordable, neighbours = 500, 2
    budget = [1e12, affordable * SAMPLES / BATCH]
    scenario = Scenario.model_validate(
        {
            "name": "budget",
            "devices": DEVICES,
            "rounds": 1,
            "tasks": {"kind": "synthetic", "train_samples": SAMPLES, "test_samples": 1},
            "local": {"steps": 2, "batch_size": BATCH, "compute_budget": budget},
            "method": {
                "kind": "sparse_orthogonal",
                "lora_rank": 2,
                "mask_warmup_steps": 1,
                "budget": "device",
                "budget_neighbours": neighbours,
            },
            "topology": {"kind": "complete"},
            "channel": {
                "kind": "wireless",
                "noise_figure_db": NOISE_FIGURE_DB,
                "max_power_w": MOST_W,
                "deadline_s": DEADLINE_S,
            },
            "access": {"kind": "ofdma", "bandwidth_hz": BAND_HZ},
        }
    )
    world, outcomes = lives(scenario)
    gains_MM = world.channel.at(0.0).mean_gain
    share_hz = BAND_HZ / neighbours

    def power_w(device: int, num_bytes: int) -> float:
        """Eq 25 for the nearest neighbours, all at once."""
        nearest = np.sort(np.delete(gains_MM[device], device))[-neighbours:]
        snr = 2.0 ** (8 * num_bytes / (share_hz * DEADLINE_S)) - 1.0
        return float((noise_w(share_hz, NOISE_FIGURE_DB) / nearest * snr).sum())

    kept = {}
    for device, outcome in outcomes.items():
        (kept[device],) = [
            r.value for r in outcome.result.records if r.metric == "trained_parameters"
        ]
        bursts = [r for r in outcome.link_records if r.traffic == "in_cluster"]
        assert {r.values for r in bursts} == {kept[device]}
        (num_bytes,) = {r.sent_bytes for r in bursts}
        assert power_w(device, num_bytes) <= MOST_W
        one_value_more = power_w(device, num_bytes + 2)
        assert one_value_more < MOST_W if device % 2 else one_value_more > MOST_W
    assert kept[1] == kept[3] == affordable
    size = 2 * 3 * (5 * 128 + 2 * 256)  # r columns for each output of the seven projections
    assert all(affordable < kept[device] < size for device in (0, 2))


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("paper", []),
        ("paper", ["channel.late=lose", "channel.deadline_s=0.05"]),
        ("indoor_office", []),
        ("urban_sidelink", ["access.cast=broadcast"]),
        ("urban_sidelink", ["channel.fading.correlation=jakes"]),
        ("urban_sidelink", ["access.kind=aloha", "access.send_probability=0.25"]),
        ("wfl_classic", ["channel.arq_max_tries=3"]),
        ("lossy_link", []),
    ],
)
def test_no_device_transmits_for_longer_than_its_burst_takes(
    preset: str, overrides: list[str]
) -> None:
    scenario = read_preset(preset, [*SMALL, *overrides]).scenario
    _, outcomes = lives(scenario)
    records = [record for outcome in outcomes.values() for record in outcome.link_records]
    check_account(records)
    assert {r.traffic for r in records} >= {"setup", "in_cluster"}
    for r in records:
        assert 0.0 <= r.airtime_s <= (r.arrival_s - r.start_s) * (1.0 + 1e-9) + 1e-12
        assert (r.airtime_s > 0.0) == r.on_air
        assert math.isclose(r.energy_j, r.tx_power_w * r.airtime_s, rel_tol=1e-12)
        assert min(r.ack_bytes, r.ack_airtime_s, r.ack_energy_j) > 0
        assert math.isclose(r.ack_energy_j, r.tx_power_w * r.ack_airtime_s, rel_tol=1e-12)
