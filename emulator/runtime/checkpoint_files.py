"""The files of checkpoints: where they are, and how they are read and written whole.

    checkpoints/scenario.yaml                      the scenario of the run, resolved
    checkpoints/records/device-03.jsonl            metrics and ledger of the device, a line per round
    checkpoints/round-0004/device-03.safetensors   its state after the fifth round (core/state_file.py)
    checkpoints/round-0004/device-03.json          written last: size and hash of the state

Every device writes its own files, wherever its process is; a round is complete when all devices have
written theirs. A file is written beside its place, synchronised with the disk and then renamed, so a
process that is killed leaves whole files only. The records of a round are on the disk before its state.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.core.errors import ScenarioError
from emulator.core.state_file import read_state
from emulator.core.types.records import LinkRecord, MetricRecord
from emulator.core.types.steps import State
from emulator.core.yaml_file import read_mapping

FOLDER = "checkpoints"
"""Of a run's folder."""

SCENARIO = "scenario.yaml"
"""The resolved scenario of the run, in the folder of checkpoints."""

SPENT = ("train_cpu_s", "cpu_s", "wall_s")
"""What was spent of the real machine since the run began [s]."""

_RECORDS = "records"
_ROUND = re.compile(r"round-(\d+)")


@dataclass(frozen=True)
class Records:
    """What a device has recorded, in order."""

    metrics: tuple[MetricRecord, ...] = ()
    links: tuple[LinkRecord, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """One device after a round. spent: of the real machine since the run began, by name."""

    round_index: int
    state: State
    spent: Mapping[str, Any]
    records: Records


def is_resumable(run_folder: Path) -> bool:
    """Whether all devices of the scenario in the folder of checkpoints have checkpoints of one round."""
    try:
        scenario = read_mapping(run_folder / FOLDER / SCENARIO, "a scenario")
    except ScenarioError:
        return False
    devices = scenario.get("devices")
    return isinstance(devices, int) and newest_complete(run_folder, range(devices)) is not None


def newest_complete(
    run_folder: Path, devices: Sequence[int], digest: str | None = None
) -> int | None:
    """The last round after which these devices can go on; None where there is none."""
    newest_first = reversed(list_rounds(run_folder / FOLDER))
    return next(
        (r for r in newest_first if not find_problems(run_folder, devices, r, digest)), None
    )


def list_complete(run_folder: Path, devices: Sequence[int], digest: str) -> list[int]:
    """All rounds after which these devices can go on."""
    rounds = list_rounds(run_folder / FOLDER)
    return [r for r in rounds if not find_problems(run_folder, devices, r, digest)]


def find_newest_problems(run_folder: Path, devices: Sequence[int], digest: str) -> list[str]:
    """Find why devices cannot go on after the last round of which there is anything."""
    rounds = list_rounds(run_folder / FOLDER)
    return find_problems(run_folder, devices, rounds[-1], digest) if rounds else []


def find_problems(
    run_folder: Path, devices: Sequence[int], round_index: int, digest: str | None
) -> list[str]:
    """Find why some devices cannot go on after a round: what is wrong with the first that cannot."""
    folder = round_folder(run_folder / FOLDER, round_index)
    if any(not (folder / f"{device_name(i)}.json").is_file() for i in devices):
        return [f"{folder}: got no checkpoints of some devices, wanted one of each"]
    try:
        for device in devices:
            read_checkpoint(run_folder, device, round_index, digest)
    except ScenarioError as error:
        return list(error.problems)
    return []


def find_missing_devices(run_folder: Path, devices: Sequence[int], round_index: int) -> list[int]:
    """Those of some devices that have no whole checkpoint of a round."""
    folder = round_folder(run_folder / FOLDER, round_index)
    return [i for i in devices if read_intact(folder, i) is None]


def read_checkpoint(
    run_folder: Path, device: int, round_index: int, digest: str | None = None
) -> Checkpoint:
    """One device after a round. digest: of the scenario for which it must have been written; None: any.

    Raises ScenarioError, which names the file, where it is missing, damaged or of another scenario.
    """
    folder = round_folder(run_folder / FOLDER, round_index)
    path = folder / f"{device_name(device)}.safetensors"
    found = read_intact(folder, device)
    if found is None:
        raise ScenarioError([f"{path}: got no whole checkpoint, wanted the one that was written"])
    manifest, data = found
    if (manifest["device"], manifest["round"]) != (device, round_index):
        raise ScenarioError([f"{path}: got another device or round, wanted the one of its name"])
    if digest not in (None, manifest["scenario"]):
        raise ScenarioError(
            [
                f"{path}: got a checkpoint of another scenario than {FOLDER}/{SCENARIO}, wanted the same"
            ]
        )
    try:
        state = read_state(data)
    except ValueError as error:
        raise ScenarioError([f"{path}: got {error}, wanted a checkpoint"]) from None
    records = _records(records_path(run_folder / FOLDER, device), round_index)
    return Checkpoint(round_index, state, manifest["spent"], records)


def _records(path: Path, last: int) -> Records:
    """What was recorded up to a round. Raises ScenarioError where rounds are missing or damaged."""
    metrics: list[MetricRecord] = []
    links: list[LinkRecord] = []
    rounds = []
    try:
        for line in read_lines(path)[: last + 1]:
            row_of = json.loads(line)
            rounds.append(row_of["round"])
            metrics += [MetricRecord(**row) for row in row_of["metrics"]]
            links += [LinkRecord(**row) for row in row_of["ledger"]]
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise ScenarioError([f"{path}: got {error}, wanted the records of a device"]) from None
    if rounds != list(range(last + 1)):
        raise ScenarioError(
            [f"{path}: got records of rounds {rounds}, wanted each of 0 to {last} once"]
        )
    return Records(tuple(metrics), tuple(links))


def read_lines(path: Path) -> list[bytes]:
    """Every whole line, one per round; the last one may have been cut off by a kill."""
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def read_intact(folder: Path, device: int) -> tuple[dict[str, Any], bytes] | None:
    """The manifest and the state's bytes of a device's checkpoint, if both are there as written."""
    try:
        manifest: dict[str, Any] = json.loads((folder / f"{device_name(device)}.json").read_bytes())
        state = (folder / f"{device_name(device)}.safetensors").read_bytes()
        whole = manifest["sha256"] == hashlib.sha256(state).hexdigest()
        spent = [float(manifest["spent"][name]) for name in SPENT]
        there = {"device", "round", "scenario"} <= manifest.keys()
        return (manifest, state) if whole and there and all(map(math.isfinite, spent)) else None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def list_rounds(folder: Path) -> list[int]:
    """The rounds of which there is anything, in order."""
    if not folder.is_dir():
        return []
    found: Sequence[re.Match[str] | None] = [
        _ROUND.fullmatch(entry.name) for entry in folder.iterdir()
    ]
    return sorted(int(match[1]) for match in found if match)


def round_folder(folder: Path, round_index: int) -> Path:
    """The folder of a round, in a folder of checkpoints."""
    return folder / f"round-{round_index:04d}"


def records_path(folder: Path, device: int) -> Path:
    """The file of a device's records, in a folder of checkpoints."""
    return folder / _RECORDS / f"{device_name(device)}.jsonl"


def device_name(device: int) -> str:
    """The name of a device's files, without their ending."""
    return f"device-{device:02d}"


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in its place at once, or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    synchronise(path.parent)


def synchronise(path: Path) -> None:
    """Wait until the disk has what was written to a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
