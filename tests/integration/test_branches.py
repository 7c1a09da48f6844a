"""A branch ends, or goes on, from a round of another run: the same files as a run that was planned so."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from written import files_of

from emulator.core.errors import ScenarioError
from emulator.runtime.resuming import Resumption, plan_resumption
from emulator.runtime.run import RunRequest, run_scenario
from emulator.scenario.load import read_scenario

pytestmark = pytest.mark.usefixtures("no_launcher")

ROUNDS, K = 5, 2
SCENARIO = """\
name: small
devices: 3
rounds: 5
checkpoint_keep: 4
tasks: {kind: synthetic, names: [reverse, sort], train_samples: 40, test_samples: 4}
local: {steps: 6, batch_size: 4, straggler_probability: 0.3}
channel:
  kind: wireless
  noise_figure_db: 30
  losses: {kind: bernoulli, probability: 0.2}
access: {kind: ofdma, bandwidth_hz: 2.0e+5}
wire: {lost_coordinates: last_received}
"""
METHODS = {
    "sparse_orthogonal": (),
    "sparse_orthogonal again": ("method.exchange_every=3",),
    "lora": ("method.kind=lora", "topology.kind=ring", "wire.error_feedback=true"),
    "lori": ("method.kind=lori", "method.mask_warmup_steps=3", "topology.kind=complete"),
    "stacking": ("method.kind=stacking", "topology.kind=ring", "wire.lost_coordinates=keep_own"),
    "local": ("method.kind=local",),
}
WARM_UP = {"method.mask_warmup_steps": 10}
"""What its setup derives from the number of rounds."""

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "small.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def run(file: Path, out: Path, *overrides: str, driver: str = "one_process") -> Path:
    """A run from the start; returns its folder."""
    chosen = read_scenario(file, list(overrides)).scenario
    run_scenario(RunRequest(chosen, driver, out, force=False), QUIET)
    return out


def resume(asked: Resumption) -> Path:
    """A run or a branch that goes on; returns its folder."""
    request, _ = plan_resumption(asked)
    run_scenario(request, QUIET)
    return request.out


@pytest.mark.parametrize("method", METHODS)
def test_a_branch_is_a_run_of_fewer_rounds(file: Path, tmp_path: Path, method: str) -> None:
    overrides = METHODS[method]
    trunk = run(file, tmp_path / "trunk", *overrides)
    asked = Resumption(trunk, "one_process", from_round=K, finish=True, out=tmp_path / "branch")
    branch = resume(asked)
    if method.startswith("sparse"):
        overrides += tuple(f"{key}={value}" for key, value in WARM_UP.items())
    planned = run(file, tmp_path / "planned", f"rounds={K}", *overrides)
    earlier = tuple(f"checkpoints/round-{r:04d}/" for r in range(K - 1))
    wanted = {n: data for n, data in files_of(planned).items() if not n.startswith(earlier)}
    assert sorted(files_of(branch)) == sorted(wanted)
    assert [name for name, data in files_of(branch).items() if data != wanted[name]] == []
    assert files_of(trunk) == files_of(run(file, tmp_path / "again", *METHODS[method]))


def test_a_branch_goes_on_under_another_driver(file: Path, tmp_path: Path) -> None:
    trunk = run(file, tmp_path / "trunk")
    asked = Resumption(trunk, "many_processes", from_round=K, out=tmp_path / "branch")
    branch = resume(asked)
    earlier = tuple(f"checkpoints/round-{r:04d}/" for r in range(K - 1))
    wanted = {n: data for n, data in files_of(trunk).items() if not n.startswith(earlier)}
    assert files_of(branch) == wanted


def points_of(folder: Path) -> dict[tuple[int, int, str, str], float]:
    """The points of a run's curve: (device, round, task, metric) -> value."""
    rows = pq.read_table(folder / "metrics.parquet").to_pylist()
    return {
        (r["device"], r["round_index"], r["task"], r["metric"].removeprefix("curve/")): r["value"]
        for r in rows
        if r["metric"].startswith("curve/")
    }


def sums_of(folder: Path, rounds: int) -> dict[str, float]:
    """What a run has cost all devices, as a curve names it."""
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["rounds"] == rounds
    return {
        "sent_bytes": summary["bytes"]["total"],
        "transmit_energy_j": summary["energy_transmit_j"],
        "compute_energy_j": summary["energy_compute_j"],
    }


def test_a_curve_measures_what_branches_come_to(file: Path, tmp_path: Path) -> None:
    curved = run(file, tmp_path / "curved", f"evaluation.curve_every={K}")
    points = points_of(curved)
    assert {r for _, r, _, _ in points} == {1, 3, ROUNDS - 1}
    for rounds in (K, 2 * K, ROUNDS):
        asked = Resumption(
            curved, "one_process", from_round=rounds, finish=True, out=tmp_path / f"{rounds}"
        )
        branch = resume(asked)
        there = {key: value for key, value in points.items() if key[1] == rounds - 1}
        rows = pq.read_table(branch / "metrics.parquet").to_pylist()
        accuracy = {
            (r["device"], r["round_index"], r["task"], r["metric"]): r["value"]
            for r in rows
            if r["metric"] in ("accuracy", "routing_accuracy")
        }
        assert len(accuracy) >= 6
        assert accuracy.items() <= there.items()
        for name, total in sums_of(branch, rounds).items():
            found = sum(value for key, value in there.items() if key[3] == name)
            assert found == pytest.approx(total, rel=1e-12), name
        assert {key: v for key, v in points_of(branch).items() if key[1] == rounds - 1} == there


def test_a_curve_changes_nothing_else_and_is_the_same_in_every_driver(
    file: Path, tmp_path: Path
) -> None:
    curve = f"evaluation.curve_every={K}"
    plain = files_of(run(file, tmp_path / "plain"))
    one = files_of(run(file, tmp_path / "one", curve))
    assert files_of(run(file, tmp_path / "many", curve, driver="many_processes")) == one
    differs = {name for name in one if one[name] != plain.get(name) and "/round-" not in name}
    assert differs == {"scenario.yaml", "checkpoints/scenario.yaml", "metrics.parquet"}
    rows = pq.read_table(tmp_path / "one" / "metrics.parquet").to_pylist()
    without = [row for row in rows if not row["metric"].startswith("curve/")]
    assert without == pq.read_table(tmp_path / "plain" / "metrics.parquet").to_pylist()


def test_a_point_without_checkpoints_is_left_out_with_a_note(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curved = run(file, tmp_path / "run", f"evaluation.curve_every={K}", "checkpoint_keep=1")
    for lost in (curved / "checkpoints" / "round-0001").iterdir():
        lost.unlink()
    request, _ = plan_resumption(Resumption(curved, "many_processes", rounds=ROUNDS + 2))
    run_scenario(request, Console(stderr=True))
    noted = capsys.readouterr().err
    assert "note: evaluation.curve_every: no point at rounds 2: checkpoints are missing" in noted
    assert {r for _, r, _, _ in points_of(curved)} == {3, 5, 6}


REFUSED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "no folder": ({"from_round": K}, "--out: got nothing with --from-round, wanted the folder"),
    "no folder to finish": (
        {"finish": True},
        "--out: got nothing with --finish, wanted the folder",
    ),
    "both": (
        {"finish": True, "rounds": 9, "out": "x"},
        "--rounds: got 9 with --finish, wanted one",
    ),
    "the run": ({"finish": True, "out": "."}, "the run itself, wanted another folder"),
    "not kept": (
        {"from_round": 1, "out": "x"},
        "--from-round: got 1, wanted one of 2, 3, 4, 5: after",
    ),
    "to come": (
        {"from_round": 7, "out": "x"},
        "--from-round: got 7, wanted one of 2, 3, 4, 5: after",
    ),
    "past": (
        {"from_round": 4, "rounds": 3, "out": "x"},
        "--rounds: got 3, wanted more than the 4 of",
    ),
}


def test_what_cannot_branch_is_refused_in_one_line(file: Path, tmp_path: Path) -> None:
    trunk = run(file, tmp_path / "trunk")
    for case, (options, line) in REFUSED.items():
        asked = Resumption(trunk, "one_process", **options)
        if asked.out is not None:
            asked = replace(asked, out=trunk / asked.out)
        with pytest.raises(ScenarioError) as refused:
            plan_resumption(asked)
        (problem,) = refused.value.problems
        assert line in problem, case


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["method.kind=experts_once"], "only the last round averages"),
        (
            ["method.exchange_every=2"],
            "an exchange of experts follows round 2 unless it is the last",
        ),
        (["schedule.kind=asynchronous", "method.kind=lora", "checkpoint_every=1"], "asynchronous"),
        (["checkpoint_every=0"], "with checkpoint_every 0, wanted checkpoints"),
    ],
)
def test_a_curve_that_would_be_another_is_refused(
    file: Path, overrides: list[str], line: str
) -> None:
    with pytest.raises(ScenarioError) as refused:
        read_scenario(file, [*overrides, "evaluation.curve_every=2"])
    assert any(
        p.startswith("small.yaml: evaluation.curve_every: got 2") and line in p
        for p in refused.value.problems
    ), refused.value.problems
