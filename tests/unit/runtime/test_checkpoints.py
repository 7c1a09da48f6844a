"""Checkpoints: whole rounds only, whatever a kill leaves; and no more of them than are kept."""

import json
from pathlib import Path

import numpy as np
import pytest

from emulator.core.errors import ScenarioError
from emulator.core.types.records import MetricRecord
from emulator.runtime.checkpoints import (
    FOLDER,
    CheckpointWriter,
    Records,
    find_missing_devices,
    newest_complete,
    read_checkpoint,
    remove_all_but,
)

DEVICES = 3


def records(device: int, round_index: int) -> Records:
    return Records((MetricRecord(device, round_index, "sort", "loss", 1.0 / (round_index + 1)),))


def writers(run: Path, keep: int = 2) -> list[CheckpointWriter]:
    return [CheckpointWriter(run, i, DEVICES, 1, keep) for i in range(DEVICES)]


def write(writer: CheckpointWriter, device: int, round_index: int) -> None:
    writer.record(round_index, records(device, round_index))
    state = {"values": np.full(4, float(10 * device + round_index)), "round": round_index}
    writer.write(round_index, state, {"cpu_s": 0.5})


def test_a_device_comes_back_as_it_was(tmp_path: Path) -> None:
    for i, writer in enumerate(writers(tmp_path)):
        for r in range(3):
            write(writer, i, r)
    found = read_checkpoint(tmp_path, 1, 2)
    assert found.state["values"].tolist() == [12.0] * 4
    assert found.spent == {"cpu_s": 0.5}
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
        write(second, 1, max(r, 3))
    remove_all_but(tmp_path, DEVICES, 2)
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
    writer.go_on_after(0)
    write(writer, 0, 1)
    assert len(read_checkpoint(tmp_path, 0, 1).records.metrics) == 2
    assert not (tmp_path / FOLDER / "round-0002").exists()


def test_rounds_between_checkpoints_are_recorded_too(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, 0, 1, every=2, keep=2)
    due = []
    for r in range(5):
        writer.record(r, records(0, r))
        if writer.is_due(r, last=r == 4):
            due.append(r)
            writer.write(r, None, {})
    assert due == [1, 3, 4]
    assert len(read_checkpoint(tmp_path, 0, 4).records.metrics) == 5
    lines = (tmp_path / FOLDER / "records" / "device-00.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == list(range(5))
