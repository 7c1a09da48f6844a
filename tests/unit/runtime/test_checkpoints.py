"""Checkpoints: whole rounds only, whatever a kill leaves; and no more of them than are kept."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.core.errors import ScenarioError
from emulator.core.types.records import MetricRecord
from emulator.runtime.checkpoint_files import (
    FOLDER,
    Records,
    find_missing_devices,
    find_newest_problems,
    newest_complete,
    read_checkpoint,
)
from emulator.runtime.checkpoints import CheckpointPlan, CheckpointWriter, remove_old

DEVICES = 3
DIGEST = "of a scenario"
SPENT = {"train_cpu_s": 0.25, "cpu_s": 0.5, "wall_s": 1.0}


def records(device: int, round_index: int) -> Records:
    return Records((MetricRecord(device, round_index, "sort", "loss", 1.0 / (round_index + 1)),))


def planned(run: Path, **changed: Any) -> CheckpointPlan:
    terms = {"devices": DEVICES, "every": 1, "keep": 2, "digest": DIGEST} | changed
    return CheckpointPlan(run, scenario_text="name: a", **terms)


def writers(run: Path, keep: int = 2) -> list[CheckpointWriter]:
    return [CheckpointWriter(planned(run, keep=keep), i) for i in range(DEVICES)]


def write(writer: CheckpointWriter, device: int, round_index: int) -> None:
    writer.record(round_index, records(device, round_index))
    state = {"values": np.full(4, float(10 * device + round_index)), "round": round_index}
    writer.write(round_index, state, SPENT)


def test_a_device_comes_back_as_it_was(tmp_path: Path) -> None:
    for i, writer in enumerate(writers(tmp_path)):
        for r in range(3):
            write(writer, i, r)
    found = read_checkpoint(tmp_path, 1, 2)
    assert found.state["values"].tolist() == [12.0] * 4
    assert found.spent == SPENT
    assert [record.round_index for record in found.records.metrics] == [0, 1, 2]
    assert [record.value for record in found.records.metrics] == [1.0, 0.5, 1 / 3]


def test_a_round_is_complete_when_all_devices_have_it(tmp_path: Path) -> None:
    made = writers(tmp_path)
    assert newest_complete(tmp_path, range(DEVICES)) is None
    for i, writer in enumerate(made):
        write(writer, i, 0)
    write(made[0], 0, 1)
    write(made[0], 0, 2)
    write(made[2], 2, 1)
    assert newest_complete(tmp_path, range(DEVICES)) == 0
    assert find_missing_devices(tmp_path, range(DEVICES), 1) == [1]
    write(made[1], 1, 1)
    assert newest_complete(tmp_path, range(DEVICES)) == 1


@pytest.mark.parametrize("ending", ["safetensors", "json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_file_makes_its_round_incomplete(
    tmp_path: Path, ending: str, damage: str
) -> None:
    for i, writer in enumerate(writers(tmp_path)):
        write(writer, i, 0)
        write(writer, i, 1)
    path = tmp_path / FOLDER / "round-0001" / f"device-02.{ending}"
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "changed":
        path.write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
    else:
        path.unlink()
    assert newest_complete(tmp_path, range(DEVICES)) == 0
    with pytest.raises(ScenarioError, match=r"device-02\.safetensors: got no whole checkpoint"):
        read_checkpoint(tmp_path, 2, 1)


def test_only_the_last_complete_rounds_are_kept_however_far_devices_are_apart(
    tmp_path: Path,
) -> None:
    first, second, third = writers(tmp_path)
    for r in range(5):
        write(first, 0, r)
    for r in range(3):
        write(second, 1, r)
    write(third, 2, 0)
    assert newest_complete(tmp_path, range(DEVICES)) == 0  # nothing of it was removed
    for r in range(1, 5):
        write(third, 2, r)
    for r in (3, 4):
        write(second, 1, r)
    remove_old(planned(tmp_path))
    rounds = sorted(p.name for p in (tmp_path / FOLDER).glob("round-*"))
    assert rounds == ["round-0003", "round-0004"]
    assert newest_complete(tmp_path, range(DEVICES)) == 4


def test_a_line_that_was_cut_off_is_no_record(tmp_path: Path) -> None:
    (writer, *_) = writers(tmp_path)
    for r in range(3):
        write(writer, 0, r)
    path = tmp_path / FOLDER / "records" / "device-00.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    assert len(read_checkpoint(tmp_path, 0, 1).records.metrics) == 2
    with pytest.raises(
        ScenarioError, match=r"got records of rounds \[0, 1\], wanted each of 0 to 2"
    ):
        read_checkpoint(tmp_path, 0, 2)


def test_what_came_after_the_round_is_removed_before_going_on(tmp_path: Path) -> None:
    (writer, *_) = writers(tmp_path)
    for r in range(3):
        write(writer, 0, r)
    CheckpointWriter(planned(tmp_path, resumed_after=0), 0).begin()
    write(writer, 0, 1)
    assert len(read_checkpoint(tmp_path, 0, 1).records.metrics) == 2
    assert not (tmp_path / FOLDER / "round-0002").exists()


def test_rounds_between_checkpoints_are_recorded_too(tmp_path: Path) -> None:
    writer = CheckpointWriter(planned(tmp_path, devices=1, every=2), 0)
    due = []
    for r in range(5):
        writer.record(r, records(0, r))
        if writer.is_due(r, last=r == 4):
            due.append(r)
            writer.write(r, None, SPENT)
    assert due == [1, 3, 4]
    assert len(read_checkpoint(tmp_path, 0, 4).records.metrics) == 5
    lines = (tmp_path / FOLDER / "records" / "device-00.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == list(range(5))


def test_a_checkpoint_of_another_scenario_is_refused(tmp_path: Path) -> None:
    for i, writer in enumerate(writers(tmp_path)):
        write(writer, i, 0)
    other = CheckpointWriter(planned(tmp_path, digest="of another"), 0)
    for i, writer in enumerate((other, *writers(tmp_path)[1:])):
        write(writer, i, 1)
    assert newest_complete(tmp_path, range(DEVICES), DIGEST) == 0
    with pytest.raises(ScenarioError, match="got a checkpoint of another scenario than"):
        read_checkpoint(tmp_path, 0, 1, DIGEST)


def test_a_checkpoint_of_another_device_or_round_is_refused(tmp_path: Path) -> None:
    for i, writer in enumerate(writers(tmp_path)):
        write(writer, i, 0)
        write(writer, i, 1)
    last = tmp_path / FOLDER / "round-0001"
    for ending in ("json", "safetensors"):
        shutil.copy(last / f"device-02.{ending}", last / f"device-00.{ending}")
        shutil.copy(last / f"device-01.{ending}", last / f"../round-0000/device-01.{ending}")
    assert newest_complete(tmp_path, range(DEVICES)) is None
    for device, round_index in ((0, 1), (1, 0)):
        with pytest.raises(ScenarioError, match="got another device or round"):
            read_checkpoint(tmp_path, device, round_index)


DAMAGES: dict[str, Callable[[list[str]], list[str]]] = {
    "missing": lambda lines: lines[:1] + lines[2:],
    "repeated": lambda lines: lines[:1] + lines,
    "cut": lambda lines: [lines[0], lines[1][:9] + "\n", lines[2]],
    "deep": lambda lines: [lines[0], "[" * 100_000 + "\n", lines[2]],
    "huge": lambda lines: [lines[0], '{"round": ' + "9" * 5000 + "}\n", lines[2]],
    "no record": lambda lines: [
        lines[0],
        '{"round": 1, "metrics": [{}], "ledger": []}\n',
        lines[2],
    ],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_device_goes_on_only_after_rounds_whose_records_are_whole(
    tmp_path: Path, damage: str
) -> None:
    for i, writer in enumerate(writers(tmp_path, keep=3)):
        for r in range(3):
            write(writer, i, r)
    path = tmp_path / FOLDER / "records" / "device-01.jsonl"
    path.write_text("".join(DAMAGES[damage](path.read_text().splitlines(keepends=True))))
    assert newest_complete(tmp_path, range(DEVICES)) == 0
    (problem,) = find_newest_problems(tmp_path, range(DEVICES), DIGEST)
    assert problem.startswith(f"{path}: got ")


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"sha256": 1}'])
def test_a_damaged_manifest_makes_its_round_incomplete(tmp_path: Path, text: str) -> None:
    for i, writer in enumerate(writers(tmp_path)):
        write(writer, i, 0)
    (tmp_path / FOLDER / "round-0000" / "device-01.json").write_text(text)
    assert newest_complete(tmp_path, range(DEVICES)) is None


@pytest.mark.parametrize("spent", [{}, {**SPENT, "cpu_s": "x"}, {**SPENT, "wall_s": None}])
def test_a_manifest_without_what_was_spent_is_none(tmp_path: Path, spent: dict[str, Any]) -> None:
    writer = CheckpointWriter(planned(tmp_path, devices=1), 0)
    writer.record(0, records(0, 0))
    writer.write(0, None, spent)
    assert newest_complete(tmp_path, range(1)) is None


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    (writer, *_) = writers(tmp_path)
    for r in range(2):
        write(writer, 0, r)
    folder = tmp_path / FOLDER
    left = [folder / "records/device-00.jsonl.7.partial", folder / "scenario.yaml.7.partial"]
    left.append(folder / "round-0001/device-00.safetensors.7.partial")
    for path in left:
        path.write_bytes(b"x")
    planned(tmp_path, resumed_after=0).begin()
    assert not any(path.exists() for path in left)
    left[-1].write_bytes(b"x")
    CheckpointWriter(planned(tmp_path, resumed_after=0), 0).begin()
    assert not left[-1].parent.exists()


def test_a_file_that_finds_no_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (writer, *_) = writers(tmp_path)
    write(writer, 0, 0)

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    plan = planned(tmp_path, resumed_after=0)
    with pytest.raises(OSError, match="No space left"):
        plan.begin()
    assert not list(tmp_path.rglob("*.partial"))
