"""A run that ends before its end, as a user meets it: one line, and nobody and nothing left."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from processes import LIMIT_S, without_progress

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "configs/quickstart.yaml"
ENDLESS = (
    "devices=4",
    "topology.degree=1",
    "local.steps=1",
    "method.mask_warmup_steps=1",
    "rounds=100000",
    "checkpoint_every=0",
    "clock.kind=paced",  # the devices mostly wait, and leave the processor to the test
    "clock.time_scale=1",
)
"""A run of four devices that does not end by itself."""

pytestmark = pytest.mark.usefixtures("no_launcher")


def processes_of(session: int) -> list[tuple[int, int]]:
    """(process id, parent's) of all that live in a session, zombies aside."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append((process.pid, process.ppid()))
    return found


def start_run(out, devices, *arguments):
    """A run in a session of its own, once all its devices live; (process, their process ids)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "emulator", "run", *map(str, arguments), "--out", str(out)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    until_s = time.monotonic() + LIMIT_S
    while time.monotonic() < until_s and process.poll() is None:
        children = [pid for pid, parent in processes_of(process.pid) if parent == process.pid]
        if len(children) == devices:
            time.sleep(1.0)  # past their start, into the exchanges
            return process, children
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"{devices} devices did not come to life: {process.communicate()[1]}")


def end_of(process):
    """(exit code, stdout, stderr), with nobody left."""
    stdout, stderr = process.communicate(timeout=LIMIT_S)
    assert processes_of(process.pid) == []
    return process.returncode, stdout, without_progress(stderr)


def test_an_interrupted_run_leaves_one_line_and_nothing_else(tmp_path):
    out = tmp_path / "runs" / "out"
    process, _ = start_run(out, 4, QUICKSTART, *ENDLESS)
    again = [sys.executable, "-m", "emulator", "run", str(QUICKSTART), "--out", str(out)]
    second = subprocess.run([*again, "--force"], cwd=ROOT, capture_output=True, check=False)
    assert (second.returncode, second.stdout) == (2, b"")
    assert second.stderr.startswith(b"error: --out: got ")
    assert f"a run is under way (process {process.pid} on ".encode() in second.stderr
    os.killpg(process.pid, signal.SIGINT)
    assert end_of(process) == (130, "", "interrupted: nothing was written\n")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_device_ends_the_run_with_one_line(tmp_path):
    process, children = start_run(tmp_path / "runs" / "out", 4, QUICKSTART, *ENDLESS)
    os.kill(children[1], signal.SIGKILL)
    code, stdout, stderr = end_of(process)
    assert (code, stdout) == (1, "")
    assert stderr.startswith("error: device ")
    assert "SIGKILL" in stderr
    assert stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
