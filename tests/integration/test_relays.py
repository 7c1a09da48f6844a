"""Whole lives of four devices in a line, 200 m apart, of which only neighbours are in range."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from emulator.analysis.channel.link_budget import Occasion, build_link_report
from emulator.cli.app import app
from emulator.core.errors import ScenarioError
from emulator.core.records import check_account
from emulator.core.types.records import LinkRecord
from emulator.device import live
from emulator.network.shim import Shim
from emulator.runtime.drivers import one_process
from emulator.runtime.drivers.lifecycle import LifeOutcome
from emulator.runtime.run import DRIVERS, RunRequest, run_scenario
from emulator.runtime.run_folder import build_run_files
from emulator.scenario.load import read_preset
from emulator.scenario.world import World, build_world

sys.path.append(str(Path(__file__).parents[1] / "support"))

from written import files_of

LINE = (
    "devices=4",
    "channel.line_of_sight={kind: never}",
    "channel.shadowing={kind: none}",
    "channel.placement={kind: fixed, positions_m: [[0,0],[200,0],[400,0],[600,0]]}",
)
SMALL = (
    "rounds=2",
    "local.steps=1",
    "local.batch_size=4",
    "method.lora_rank=2",
    "tasks.kind=synthetic",
    "tasks.train_samples=8",
    "tasks.test_samples=1",
)
FOUR_TASKS = (
    "method.kind=sparse_orthogonal",
    "method.mask_warmup_steps=1",
    "topology={kind: clusters, max_collision_rate: 0}",  # each device is a leader
    "tasks.names=[reverse,sort,rotate,successor]",
)
LORA = ("method.kind=lora", "tasks.names=[reverse]", "wire.lost_coordinates=retransmit")
EVERYBODY = "topology.kind=complete"


def lives(*overrides: str, preset: str = "urban_sidelink") -> tuple[World, dict[int, LifeOutcome]]:
    scenario = read_preset(preset, [*SMALL, *overrides]).scenario
    world = build_world(scenario)
    devices = range(scenario.devices)
    airs = {i: Shim(i, scenario.wire, world.access, world.channel, world.network) for i in devices}
    return world, one_process.run_lives({i: live(world, i) for i in devices}, airs, lambda *_: None)


def records_of(outcomes: dict[int, LifeOutcome]) -> list[LinkRecord]:
    records = [record for outcome in outcomes.values() for record in outcome.link_records]
    check_account(records)
    return records


def check_hops(records: Sequence[LinkRecord]) -> None:
    """Only neighbours hear each other, and a hop begins when its content is there."""
    assert all(abs(r.sender - r.receiver) == 1 for r in records)
    ends = {(r.exchange_index, r.origin, r.hop, r.receiver): r.arrival_s for r in records}
    for r in records:
        if r.hop:
            assert r.start_s >= ends[r.exchange_index, r.origin, r.hop - 1, r.sender]


def test_leaders_of_clusters_out_of_range_trade_by_three_hops() -> None:
    world, outcomes = lives(*LINE, *FOUR_TASKS)
    records = records_of(outcomes)
    check_hops(records)
    ring = [
        r for r in records if r.traffic == "inter_cluster" and (r.origin, r.destination) == (3, 0)
    ]
    exchanges = {r.exchange_index for r in ring}
    assert exchanges
    for exchange in exchanges:
        hops = sorted((r.hop, r.sender, r.receiver) for r in ring if r.exchange_index == exchange)
        assert hops == [(0, 3, 2), (1, 2, 1), (2, 1, 0)]
    for outcome in outcomes.values():  # everything arrives everywhere
        assert [expert.task for expert in outcome.result.experts] == [
            "reverse",
            "sort",
            "rotate",
            "successor",
        ]
    machine = {"wall_s": 0.0}
    files = build_run_files(world, list(outcomes.values()), "one_process", machine)
    assert [3, 2, 1, 0] in json.loads(files["topology.json"])["paths"]
    summary = json.loads(files["summary.json"])
    assert summary["bytes"]["total"] == sum(r.air_bytes + r.ack_bytes for r in records)
    spent_j = sum(r.energy_j + r.ack_energy_j for r in records)
    assert math.isclose(summary["energy_transmit_j"], spent_j)


@pytest.mark.parametrize(
    "air",
    [
        (),
        ("access.cast=broadcast",),
        ("access={kind: ofdma, bandwidth_hz: 20000000.0}",),
        ("access={kind: aloha, bandwidth_hz: 20000000.0, send_probability: 0.25}",),
    ],
    ids=["tdma", "broadcast", "ofdma", "aloha"],
)
def test_averages_over_relays_are_those_of_direct_links(air: tuple[str, ...]) -> None:
    """Dec-LoRA on all pairs of the line, repeated until it arrives, and over the ideal channel."""
    _, relayed = lives(*LINE, *LORA, *air, EVERYBODY)
    _, direct = lives("devices=4", *LORA, EVERYBODY, preset="ideal")
    check_hops(records := records_of(relayed))
    assert max(r.hop for r in records) == 2
    for device, outcome in direct.items():
        for name, values in outcome.result.own_expert.tensors.items():
            assert np.array_equal(relayed[device].result.own_expert.tensors[name], values)


def test_devices_that_do_not_wait_reach_each_other_over_relays() -> None:
    _, outcomes = lives(
        *LINE, *LORA, "topology={kind: erdos_renyi, probability: 0.9}",
        "schedule.kind=asynchronous", "local.speeds=[1, 0.2, 0.7, 1.3]",
    )  # fmt: skip
    check_hops(records := records_of(outcomes))
    assert {r.traffic for r in records if r.hop} == {"in_cluster"}


@pytest.mark.parametrize(
    "overrides",
    [
        FOUR_TASKS,
        (*LORA, EVERYBODY, "schedule.kind=asynchronous", "local.speeds=[1, 0.2, 0.7, 1.3]"),
    ],
    ids=["synchronous", "asynchronous"],
)
def test_both_drivers_write_the_same(
    overrides: tuple[str, ...], tmp_path: Path, no_launcher: None
) -> None:
    """torch.distributed knows no hops; that it carried what the last hops delivered, each run checks."""
    scenario = read_preset("urban_sidelink", [*SMALL, *LINE, *overrides]).scenario
    for driver in DRIVERS:
        run_scenario(
            RunRequest(scenario, driver, tmp_path / driver, force=False), Console(quiet=True)
        )
    one, many = (files_of(tmp_path / driver) for driver in DRIVERS)
    assert one == many
    assert [3, 2, 1, 0] in json.loads(one["topology.json"])["paths"]


def test_a_limit_of_bytes_counts_every_hop() -> None:
    _, whole = lives(*LINE, *LORA, EVERYBODY)
    of_round = [r for r in records_of(whole) if r.round_index <= 0]
    first_round = sum(r.air_bytes + r.ack_bytes for r in of_round)
    passed_on = sum(r.air_bytes + r.ack_bytes for r in of_round if not r.first_hop)
    limit = first_round - passed_on // 2  # losses differ a little: with `stop` devices talk more
    _, outcomes = lives(*LINE, *LORA, EVERYBODY, "rounds=3", f"stop.bytes_total={limit}")
    assert {outcome.result.rounds for outcome in outcomes.values()} == {2}
    control = [r for r in records_of(outcomes) if r.traffic == "control"]
    assert sum(r.air_bytes + r.ack_bytes for r in control) < passed_on // 2  # not enough


def test_islands_are_refused_as_before() -> None:
    with pytest.raises(ScenarioError, match=r"got 2 islands .*\[0, 1\]; \[2, 3\]"):
        lives(*LINE[:-1], *LORA, EVERYBODY,
              "channel.placement={kind: fixed, positions_m: [[0,0],[200,0],[900,0],[1100,0]]}")  # fmt: skip


# ── before a run ─────────────────────────────────────────────────────────────────────────────────


def shown(*overrides: str) -> str:
    console = Console(width=160)
    scenario = read_preset("urban_sidelink", list(overrides)).scenario
    with console.capture() as capture:
        console.print(build_link_report(scenario, Occasion(), "readable"))
    return " ".join(capture.get().split())


def test_the_link_budget_names_the_relays() -> None:
    assert "relays 0 - 2 by 1; 0 - 3 by 1, 2; 1 - 3 by 2 islands" in shown(*LINE)
    assert "relays" not in shown("devices=4")
    many = ",".join(f"[{150 * i},0]" for i in range(14))
    placed = f"channel.placement={{kind: fixed, positions_m: [{many}]}}"
    told = shown("devices=14", *LINE[1:3], placed)
    assert "relays for 78 pairs out of range, up to 13 hops; --all names them" in told


@pytest.mark.parametrize("verb", [["check"], ["run", "--dry-run", "--quiet"]], ids=" ".join)
def test_pairs_that_need_relays_are_noted_before_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(
        "name: s\ntasks: {names: [reverse]}\nchannel: urban_sidelink\n"
    )
    out = CliRunner().invoke(app, [*verb, "s.yaml", *LINE])
    assert out.exit_code == 0
    assert out.stderr.splitlines() == [
        "note: channel: got 3 pairs of devices out of range, whose messages go hop by hop: "
        "0 - 2 by 1; 0 - 3 by 1, 2; 1 - 3 by 2"
    ]
    near = CliRunner().invoke(app, [*verb, "s.yaml", "devices=4"])
    assert (near.exit_code, near.stderr) == (0, "")
