"""A life that goes on from a captured state ends like one that was never interrupted."""

from dataclasses import dataclass, field

import pytest

from emulator.core.state_file import read_state, write_state
from emulator.core.types.records import LinkRecord, MetricRecord
from emulator.core.types.steps import Commit
from emulator.device import live
from emulator.network.shim import Shim
from emulator.runtime.drivers import one_process
from emulator.runtime.drivers.lifecycle import LifeOutcome
from emulator.scenario.schema import Scenario
from emulator.scenario.world import World, build_world

ROUNDS = 3
SPARSE = {"kind": "sparse_orthogonal", "mask_warmup_steps": 3, "density": 0.1}
SIDELINK = {
    "channel": {
        "kind": "wireless",
        "noise_figure_db": 30.0,
        "losses": {"kind": "bernoulli", "probability": 0.2},
    },
    "access": {"kind": "ofdma", "bandwidth_hz": 2e5},
}
MOVING = SIDELINK["channel"] | {
    "mobility": {
        "kind": "random_waypoint",
        "min_speed_m_per_s": 5.0,
        "max_speed_m_per_s": 15.0,
    }
}
CASES: dict[str, dict[str, object]] = {
    "lora with lost packets, remembered": {
        "method": {"kind": "lora"},
        **SIDELINK,
        "wire": {"lost_coordinates": "last_received"},
    },
    "lora with error feedback": {
        "method": {"kind": "lora"},
        "wire": {"value_type": "int8", "error_feedback": True},
    },
    "lora with a limit": {"method": {"kind": "lora"}, "stop": {"emulated_s": 0.5}},
    "alternating": {"method": {"kind": "alternating", "switch_every": 2}},
    "experts_once": {"method": {"kind": "experts_once", "options": {"mask_warmup_steps": 3}}},
    "full": {"method": {"kind": "full"}},
    "full_oracle": {"method": {"kind": "full_oracle"}},
    "local": {"method": {"kind": "local"}},
    "lora_by_task": {"method": {"kind": "lora_by_task"}},
    "lori": {"method": {"kind": "lori", "mask_warmup_steps": 3}},
    "sparse": {"method": SPARSE, "evaluation": {"own_task_every": 2}},
    "sparse on a sidelink": {"method": SPARSE, **SIDELINK},
    "sparse that moves": {
        "method": SPARSE | {"recluster_every": 2, "exchange_every": 2},
        **(SIDELINK | {"channel": MOVING}),
    },
    "sparse as printed": {
        "method": SPARSE | {"aggregation": "printed_24", "exchange_every": 1},
        "topology": {"kind": "clusters", "max_collision_rate": 0.02},
    },
    "sparse with matrices": {"method": SPARSE | {"send_projection": "matrix"}},
    "stacking": {"method": {"kind": "stacking"}, "evaluation": {"own_task_every": 1}},
}


def world_of(sections: dict[str, object]) -> World:
    small: dict[str, object] = {
        "name": "restored",
        "devices": 4,
        "rounds": ROUNDS,
        "tasks": {
            "kind": "synthetic",
            "names": ["reverse", "sort"],
            "train_samples": 24,
            "test_samples": 3,
        },
        "local": {"steps": 2, "batch_size": 8, "straggler_probability": 0.3},
    }
    return build_world(Scenario.model_validate(small | sections))


@dataclass
class Led:
    """Lives led to their end. files: after each round, the state of every device and of its shim."""

    metrics: dict[int, list[MetricRecord]] = field(default_factory=dict)
    links: dict[int, list[LinkRecord]] = field(default_factory=dict)
    files: dict[int, dict[int, bytes]] = field(default_factory=dict)
    outcomes: dict[int, LifeOutcome] = field(default_factory=dict)


def lead(world: World, files: dict[int, bytes] | None = None) -> Led:
    """All lives, from the start or from files."""
    led, devices = Led(), range(world.scenario.devices)
    shims = {
        i: Shim(i, world.scenario.wire, world.access, world.channel, world.network) for i in devices
    }
    states = {i: read_state(data) for i, data in (files or {}).items()}
    for i, state in states.items():
        shims[i].restore(state["shim"])

    def note(device: int, commit: Commit, links: tuple[LinkRecord, ...]) -> None:
        led.metrics.setdefault(device, []).extend(commit.records)
        led.links.setdefault(device, []).extend(links)
        assert commit.capture is not None
        state = {"device": commit.capture(), "shim": shims[device].state()}
        led.files.setdefault(commit.round_index, {})[device] = write_state(state)

    led.outcomes = one_process.run_lives(
        {i: live(world, i, states[i]["device"] if states else None) for i in devices},
        shims,
        note,
        shims[0].next_exchange,
    )
    for i in devices:
        led.metrics.setdefault(i, []).extend(led.outcomes[i].result.records)
        led.links[i] = list(led.outcomes[i].link_records)
    return led


def tensors_of(outcome: LifeOutcome) -> dict[str, bytes]:
    result = outcome.result
    experts = {"own": result.own_expert, **dict(enumerate(result.experts))}
    found = {
        f"{key}/{name}": values.tobytes()
        for key, expert in experts.items()
        for name, values in expert.tensors.items()
    }
    return found | {f"router/{name}": values.tobytes() for name, values in result.router.items()}


def without_cpu(files: dict[int, bytes]) -> dict[int, bytes]:
    """The files without the real processor's time, which differs."""
    states = {i: read_state(data) for i, data in files.items()}
    for state in states.values():
        del state["device"]["progress"]["train_cpu_s"]
    return {i: write_state(state) for i, state in states.items()}


@pytest.mark.parametrize("case", CASES)
def test_it_ends_with_the_same_bytes(case: str) -> None:
    whole = lead(world_of(CASES[case]))
    for done in {0, len(whole.files) - 1}:
        files = whole.files[done]
        rest = lead(world_of(CASES[case]), files)
        assert sorted(rest.files) == [r for r in sorted(whole.files) if r > done]
        for r in rest.files:
            assert without_cpu(rest.files[r]) == without_cpu(whole.files[r])
        for i, outcome in rest.outcomes.items():
            assert tensors_of(outcome) == tensors_of(whole.outcomes[i])
            assert rest.links[i] == whole.links[i][len(whole.links[i]) - len(rest.links[i]) :]
            assert (
                rest.metrics[i] == whole.metrics[i][len(whole.metrics[i]) - len(rest.metrics[i]) :]
            )
            for name in ("links", "clusters", "emulated_s", "compute_energy_j", "rounds"):
                got = getattr(outcome.result, name)
                assert got == getattr(whole.outcomes[i].result, name), name
