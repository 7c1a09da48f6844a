"""Devices that share the weights of a GPU or have one each, with the GPU taken by main memory.

No GPU is needed: the way is the same, who comes first loads the weights and tells handles to them, the
others adopt these, and all read the questions by themselves; only the memory is another. Where each
has a GPU of its own, gloo takes NCCL's part.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "support"))

from written import files_of

from emulator.core.errors import DeviceFailedError, ScenarioError
from emulator.runtime import gpu
from emulator.runtime.run import RunRequest, run_scenario
from emulator.runtime.transport import nccl
from emulator.runtime.transport.frames import Header
from emulator.scenario import world
from emulator.scenario.schema import Scenario

GPUS = 2
SMALL = {
    "name": "shared",
    "devices": 4,
    "rounds": 2,
    "tasks": {"kind": "synthetic", "train_samples": 40, "test_samples": 4},
    "local": {"steps": 2, "batch_size": 4},
}


def run_in(out: Path, driver: str, accelerator: str = "cpu", **more: str) -> dict[str, bytes]:
    scenario = Scenario.model_validate({**SMALL, "accelerator": accelerator, **more})
    run_scenario(RunRequest(scenario, driver, out, force=False), Console(quiet=True))
    return files_of(out)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two GPUs that are main memory; a line in a file for each time that weights are loaded there."""
    log = tmp_path / "loaded"
    log.touch()

    def load(_model: nn.Module) -> None:
        with log.open("a") as lines:
            lines.write("loaded\n")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: GPUS)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(gpu, "load_on_gpu", load)
    return log


@pytest.mark.parametrize("accelerator", ["cuda", "auto"])
def test_devices_adopt_the_weights_of_the_first_on_their_gpu(
    accelerator: str, gpus: Path, tmp_path: Path
) -> None:
    alone = run_in(tmp_path / "one", "one_process")
    shared = run_in(tmp_path / "many", "many_processes", accelerator)
    assert gpus.read_text().count("loaded") == GPUS
    changed = {name for name in alone if alone[name] != shared[name]}
    assert changed == {"scenario.yaml", "checkpoints/scenario.yaml"}


def test_one_process_loads_them_once(gpus: Path, tmp_path: Path) -> None:
    run_in(tmp_path / "one", "one_process", "cuda")
    assert gpus.read_text().count("loaded") == 1


@pytest.fixture
def own_gpus(gpus: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One for each device; a line is added for each time that one exchanges with others."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: SMALL["devices"])
    monkeypatch.setattr(nccl, "BACKEND", "gloo")
    monkeypatch.setattr(nccl, "PLACE", "cpu")
    exchange = nccl.GpuTransfers.exchange

    def noted(self: nccl.GpuTransfers, bursts: Any, headers: Sequence[Header], where: str) -> Any:
        with gpus.open("a") as lines:
            lines.write(f"{where}: {sum(each.length for each in headers)} bytes\n")
        return exchange(self, bursts, headers, where)

    monkeypatch.setattr(nccl.GpuTransfers, "exchange", noted)
    return gpus


def test_what_travels_between_gpus_is_what_travels_by_frames(
    own_gpus: Path, tmp_path: Path
) -> None:
    alone = run_in(tmp_path / "one", "one_process")
    direct_too = run_in(tmp_path / "many", "many_processes", "cuda", backend="nccl")
    assert {name for name in alone if alone[name] != direct_too[name]} == {
        "scenario.yaml",
        "checkpoints/scenario.yaml",
    }
    swaps = [line for line in own_gpus.read_text().splitlines() if line.startswith("exchange")]
    assert len(swaps) >= SMALL["devices"] * SMALL["rounds"]
    assert sum(int(line.split()[2]) for line in swaps) > 100_000


def test_every_device_needs_a_gpu_of_its_own(
    own_gpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: GPUS)
    with pytest.raises(
        ScenarioError, match="backend: got nccl and more devices than the 2 GPUs of"
    ):
        run_in(tmp_path / "many", "many_processes", "cuda", backend="nccl")


def test_a_torch_without_nccl_is_reported_in_one_line(
    own_gpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(nccl, "BACKEND", "nccl")
    if torch.distributed.is_backend_available("nccl"):
        pytest.skip("this torch has NCCL")
    with pytest.raises(ScenarioError, match="backend: got nccl, wanted gloo here: this torch"):
        run_in(tmp_path / "many", "many_processes", "cuda", backend="nccl")


def test_a_failure_between_gpus_is_reported_in_one_line(
    own_gpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(_transfers: Any) -> Any:
        raise RuntimeError("NCCL error\nand a long story")

    monkeypatch.setattr(torch.distributed, "batch_isend_irecv", fails)
    with pytest.raises(DeviceFailedError, match=r"could not exchange between GPUs: NCCL error$"):
        run_in(tmp_path / "many", "many_processes", "cuda", backend="nccl")


@pytest.mark.parametrize(
    ("accelerator", "problem"),
    [
        ("cuda", "accelerator: got cuda, wanted cpu or auto here"),
        ("auto", "backend: got nccl, wanted gloo here"),
    ],
)
def test_nccl_without_a_gpu_is_refused(
    accelerator: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    asked = Scenario.model_validate({**SMALL, "accelerator": accelerator, "backend": "nccl"})
    with pytest.raises(ScenarioError, match=problem):
        world.build_world(asked)


def test_a_gpu_that_is_not_there_is_missed_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ScenarioError, match="accelerator: got cuda, wanted cpu or auto here"):
        world.build_world(Scenario.model_validate({**SMALL, "accelerator": "cuda"}))
    assert (
        world.choose_accelerator(Scenario.model_validate({**SMALL, "accelerator": "auto"})) == "cpu"
    )
