"""Runs that were killed, interrupted or failed go on from their checkpoints, and end with the same files."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from processes import LIMIT_S, without_progress
from rich.console import Console

from emulator.core.state_file import read_state, write_state
from emulator.runtime.checkpoint_files import newest_complete
from emulator.runtime.interruption import ANNOUNCEMENT
from emulator.runtime.run import RunRequest, run_scenario
from emulator.scenario.load import read_scenario

ROOT = Path(__file__).resolve().parents[2]
DEVICES, ROUNDS = 3, 8
SCENARIO = f"""\
name: small
devices: {DEVICES}
rounds: {ROUNDS}
tasks: {{kind: synthetic, names: [reverse, sort], train_samples: 40, test_samples: 4}}
local: {{steps: 2, batch_size: 8, straggler_probability: 0.3}}
method: {{kind: sparse_orthogonal, density: 0.1, mask_warmup_steps: 3}}
"""
AIR = """\
channel:
  kind: wireless
  noise_figure_db: 30
  losses: {kind: bernoulli, probability: 0.2}
access: {kind: ofdma, bandwidth_hz: 2.0e+5}
wire: {lost_coordinates: last_received}
"""
MACHINE = ("wall_s", "cpu_s", "train_cpu_s", "peak_rss_mb", "own_memory_mb")
DRIVERS = ("one_process", "many_processes")

pytestmark = pytest.mark.usefixtures("no_launcher")


def promised(run: Path) -> dict[str, str]:
    """A hash of every file that equal runs share; what depends on the machine is left out."""
    found = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        is_manifest = name.startswith("checkpoints/round") and name.endswith(".json")
        if not path.is_file() or name == "environment.json" or is_manifest:
            continue
        data = path.read_bytes()
        if name == "summary.json":
            summary = {k: v for k, v in json.loads(data).items() if k not in MACHINE}
            data = json.dumps(summary).encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def emulator(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "emulator", *map(str, arguments)]


def command(*arguments: object, code: int = 0) -> str:
    """What a command prints on standard error."""
    ended = subprocess.run(
        emulator(*arguments), cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    assert ended.returncode == code, ended.stderr
    return without_progress(ended.stderr)


def begun(arguments: Sequence[object], run: Path, after: int) -> Iterator[subprocess.Popen[str]]:
    """A run in a session of its own, once all devices have a checkpoint of a round."""
    process = subprocess.Popen(
        emulator(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    until_s = time.monotonic() + LIMIT_S
    while (newest_complete(run, range(DEVICES)) or -1) < after:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until_s
        time.sleep(0.01)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=LIMIT_S)


def kill_after(arguments: Sequence[object], run: Path, after: int) -> None:
    """Begin a run, and kill all of its processes once a round is complete."""
    for process in begun(arguments, run, after):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "small.yaml"
    path.write_text(SCENARIO + AIR, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of the run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole") / "run"
    command("run", scenario, "--out", out, "--quiet")
    return promised(out)


def test_killed_again_and_again_with_another_driver_each_time(
    scenario: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    kill_after(["run", scenario, "--out", out, "--driver", DRIVERS[0]], out, 0)
    for index, after in enumerate((2, 4, 5)):
        driver = DRIVERS[(index + 1) % 2]
        kill_after(["resume", out, "--driver", driver], out, after)
    told = command("resume", out, "--quiet")
    assert "left by a run that did not end" in told
    assert promised(out) == whole


def test_an_interrupted_run_tells_how_it_goes_on(
    scenario: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for process in begun(["run", scenario, "--out", out], out, 1):
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    done = newest_complete(out, range(DEVICES))
    assert done is not None
    assert done >= 2  # the round that was under way is done
    how = f"`emulator resume {out}` goes on after {done + 1} of {ROUNDS} rounds"
    assert without_progress(stderr) == f"{ANNOUNCEMENT}\ninterrupted: {how}\n"
    assert [entry.name for entry in out.iterdir()] == ["checkpoints"]
    refused = command("run", scenario, "--out", out, code=2)
    assert f"which holds a run that has not ended, wanted `emulator resume {out}`" in refused
    assert command("resume", out, "--driver", "one_process", "--quiet") == ""
    assert promised(out) == whole


def test_a_killed_device_loses_one_round_at_most(
    scenario: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for process in begun(["run", scenario, "--out", out], out, 1):
        children = psutil.Process(process.pid).children()
        children[1].send_signal(signal.SIGKILL)
        _, stderr = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    note, error = without_progress(stderr).splitlines()
    assert note.startswith(f"note: `emulator resume {out}` goes on after ")
    assert error.startswith("error: device ")
    command("resume", out, "--quiet")
    assert promised(out) == whole


def test_a_damaged_checkpoint_costs_its_round_only(
    scenario: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    kill_after(["run", scenario, "--out", out], out, 3)
    done = newest_complete(out, range(DEVICES))
    assert done is not None
    damaged = out / f"checkpoints/round-{done:04d}/device-01.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-3])
    assert newest_complete(out, range(DEVICES)) == done - 1
    command("resume", out, "--quiet")
    assert promised(out) == whole


def test_a_finished_run_trains_on_as_if_it_had_been_planned_so(
    scenario: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command("run", scenario, "rounds=3", "--out", out, "--quiet")
    refused = command("resume", out, code=2)
    assert refused == (
        f"error: {out}: got a run that has ended, wanted one that was interrupted, or --rounds\n"
    )
    refused = command("resume", out, "--rounds", 3, code=2)
    assert refused == f"error: --rounds: got 3, wanted more than the 3 of {out}\n"
    command("resume", out, "--rounds", ROUNDS, "--quiet")
    assert promised(out) == whole


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    refused = command("resume", tmp_path, code=2)
    assert refused == (
        f"error: {tmp_path}: got no checkpoints/scenario.yaml, wanted a run with checkpoints\n"
    )


def test_without_room_for_checkpoints_the_run_goes_on_with_a_note(
    scenario: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    """`records` is a file, so no device can write below it; root may write anywhere else."""
    out = tmp_path / "run"
    blocked = (
        "from emulator.runtime.checkpoints import CheckpointPlan; begin = CheckpointPlan.begin\n"
        "def block(plan):\n"
        "    begin(plan)\n"
        "    (plan.run_folder / 'checkpoints/records').write_text('')\n"
        "CheckpointPlan.begin = block\n"
        "from emulator.__main__ import main; import sys; sys.argv = ['emulator', *sys.argv[1:]]; main()"
    )
    arguments = ["run", str(scenario), "--out", str(out), "--quiet"]
    ended = subprocess.run(
        [sys.executable, "-c", blocked, *arguments], cwd=ROOT, capture_output=True, text=True,
        check=False, timeout=LIMIT_S,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    (note,) = without_progress(ended.stderr).splitlines()
    assert note.startswith("note: checkpoints: cannot be written (")
    assert note.endswith("); the run goes on without them")
    results = {n: h for n, h in promised(out).items() if not n.startswith("checkpoints/")}
    assert results == {n: h for n, h in whole.items() if not n.startswith("checkpoints/")}


@pytest.fixture(scope="module")
def ended_once(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three rounds that has ended."""
    out = tmp_path_factory.mktemp("ended") / "run"
    command("run", scenario, "rounds=3", "--driver", "one_process", "--out", out, "--quiet")
    return out


@pytest.fixture
def ended(ended_once: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(ended_once, tmp_path / "run"))


def test_a_run_that_was_to_train_on_and_was_killed_at_once_still_does(
    whole: dict[str, str], ended: Path
) -> None:
    """Before its first checkpoint it has written the scenario only."""
    path = ended / "checkpoints/scenario.yaml"
    path.write_text(path.read_text().replace("rounds: 3", f"rounds: {ROUNDS}"))
    command("resume", ended, "--driver", "one_process", "--quiet")
    assert promised(ended) == whole


def test_another_scenario_than_that_of_the_checkpoints_is_refused(ended: Path) -> None:
    path = ended / "checkpoints/scenario.yaml"
    path.write_text(path.read_text().replace("seed: 1", "seed: 2"))
    main, detail = command("resume", ended, code=2).splitlines()
    assert "got no round of which all devices have a whole checkpoint" in main
    assert detail.endswith(
        "round-0002/device-00.safetensors: got a checkpoint of another scenario than "
        "checkpoints/scenario.yaml, wanted the same"
    )


def test_a_run_that_a_limit_ended_does_not_train_on(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    limit = "stop.emulated_s=1.0e-3"
    command("run", scenario, limit, "--driver", "one_process", "--out", out, "--quiet")
    before = promised(out)
    assert command("resume", out, "--rounds", ROUNDS + 1, code=2) == (
        f"error: --rounds: got {ROUNDS + 1}, but a limit of stop ended {out} after round 1, wanted a new "
        "run with another limit\n"
    )
    assert promised(out) == before


def test_a_state_that_does_not_fit_is_refused_in_one_line(ended: Path) -> None:
    """As after a change of the emulator's code; the manifest fits, so only the device can see it."""
    path = ended / "checkpoints/round-0002/device-01.safetensors"
    state = read_state(path.read_bytes())
    del state["device"]["model"]["training"]
    path.write_bytes(write_state(state))
    manifest = json.loads(path.with_suffix(".json").read_bytes())
    manifest["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(manifest))
    told = command(
        "resume", ended, "--rounds", ROUNDS, "--driver", "one_process", "--quiet", code=2
    )
    assert told == (
        "error: device 1: got a checkpoint that does not fit (KeyError: 'training'), wanted one that the "
        "same version of all parts wrote\n"
    )


def test_a_host_that_has_not_met_the_others_leaves_the_folder_alone(
    scenario: Path, ended: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host of device 0 may find there that the folder is another run's, and end."""
    for name, value in {
        "RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29599",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)

    class MetError(Exception):
        pass

    def meet(*_: object) -> None:
        raise MetError

    monkeypatch.setattr("emulator.runtime.run.assign_launched_devices", meet)
    before = promised(ended)
    other = read_scenario(scenario, ["seed=2"]).scenario
    with pytest.raises(MetError):
        run_scenario(RunRequest(other, "many_processes", ended, False, 2), Console(quiet=True))
    assert promised(ended) == before
