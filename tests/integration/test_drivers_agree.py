"""One process, forked processes and launched processes tell the same story, byte for byte."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from processes import LIMIT_S
from toy_lives import GRAPHS, SIZES, child_main, complete, reference

from emulator.runtime import processes
from emulator.runtime.processes import Post, assign_all_devices, run_forked
from emulator.runtime.transport import nccl
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.peers import Timeouts

TOYS = Path(__file__).parents[1] / "support"


def forked(devices: int, main) -> tuple[dict[int, str], dict[int, int]]:
    """Fingerprints and link records of all devices."""
    fingerprints, records, _ = forked_at_a_cost(devices, main)
    return fingerprints, records


def forked_at_a_cost(devices: int, main) -> tuple[dict[int, str], dict[int, int], float]:
    """The same, and the CPU time of all devices [s]."""
    fingerprints, records = {}, dict.fromkeys(range(devices), 0)

    def on_message(device, header, blob) -> None:
        if "fingerprint" in header:
            fingerprints[device] = header["fingerprint"]
            assert blob == b"blob" * 50_000
        else:
            records[device] += header["records"]

    before = psutil.Process().cpu_times()
    run_forked(assign_all_devices(devices), main, on_message, Timeouts())
    after = psutil.Process().cpu_times()
    children = ("children_user", "children_system")
    cpu_s = sum(getattr(after, name) - getattr(before, name) for name in children)
    return dict(sorted(fingerprints.items())), records, cpu_s


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_forked_processes_equal_one_process(name: str) -> None:
    graph = GRAPHS[name](4)
    fingerprints, _ = forked(4, child_main(graph))
    assert fingerprints == reference(4, graph)
    assert len(set(fingerprints.values())) == 4


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_data_between_gpus_is_data_by_frames(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By gloo and main memory in the place of NCCL and GPUs."""
    monkeypatch.setattr(nccl, "BACKEND", "gloo")
    monkeypatch.setattr(nccl, "PLACE", "cpu")
    graph = GRAPHS[name](4)

    def main(transport: Transport, post: Post) -> None:
        transport.use_gpu_transfers()
        child_main(graph)(transport, post)

    assert forked(4, main)[0] == reference(4, graph)


def test_every_link_record_is_committed_once() -> None:
    _, records = forked(3, child_main(complete(3)))
    assert records == dict.fromkeys(range(3), 2 * 24)


def test_sizes_cover_empty_inline_and_several_frames() -> None:
    assert min(SIZES) == 0
    assert max(SIZES) > 10 * 65536


def test_a_single_device_needs_no_peer() -> None:
    graph = GRAPHS["complete"](1)
    assert forked(1, child_main(graph))[0] == reference(1, graph)


def test_no_more_devices_compute_than_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Six devices on two cores: never three at once, the first two together; and the same bytes."""
    monkeypatch.setattr(processes, "count_cores", lambda: 2)
    graph, spans = GRAPHS["ring"](6), []

    def main(transport: Transport, post: Post) -> None:
        began_s = time.monotonic()
        (tmp_path / str(transport.device)).touch()
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < began_s + LIMIT_S:
            time.sleep(0.01)
        time.sleep(0.05)
        post(0, {"began_s": began_s, "ended_s": time.monotonic(), "records": 0}, b"")
        child_main(graph, exchanges=1)(transport, post)

    fingerprints = {}

    def on_message(device, header, blob) -> None:
        fingerprints.update({device: header["fingerprint"]} if "fingerprint" in header else {})
        spans.extend([(header["began_s"], header["ended_s"])] if "began_s" in header else [])

    processes.run_forked(assign_all_devices(6), main, on_message, Timeouts())
    assert dict(sorted(fingerprints.items())) == reference(6, graph, exchanges=1)
    at_once = [sum(a <= moment < b for a, b in spans) for moment, _ in spans]
    assert len(at_once) == 6
    assert max(at_once) == 2


def test_sixteen_devices_start_soon() -> None:
    """By their CPU time, for a loaded machine takes longer."""
    graph = GRAPHS["ring"](16)
    fingerprints, _, cpu_s = forked_at_a_cost(16, child_main(graph, exchanges=1))
    assert fingerprints == reference(16, graph, exchanges=1)
    assert cpu_s < 20.0


@pytest.mark.parametrize("devices", [2, 4])
def test_torchrun_equals_one_process(devices: int) -> None:
    graph = "complete"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(devices),
        "--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0",
        str(TOYS / "toy_lives.py"), graph, str(devices),
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    lines = sorted(line.split() for line in done.stdout.splitlines() if line.startswith("device"))
    assert {int(d): text for _, d, text in lines} == reference(devices, GRAPHS[graph](devices))
