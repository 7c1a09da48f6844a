"""Checkpoints of a run: what each device needs to go on after a round, in the run's folder.

    checkpoints/scenario.yaml                      the scenario of the run, resolved
    checkpoints/records/device-03.jsonl            metrics and ledger of the device, a line per round
    checkpoints/round-0004/device-03.safetensors   its state after round 4 (core/state_file.py)
    checkpoints/round-0004/device-03.json          written last: size and hash of the state

Every device writes its own files, wherever its process is; a round is complete when all devices have
written theirs. A file is written beside its place, synchronised with the disk and then renamed, so a
process that is killed leaves whole files only. The records of a round are on the disk before its state.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.core.errors import ScenarioError
from emulator.core.records import to_json
from emulator.core.state_file import read_state, write_state
from emulator.core.types.records import LinkRecord, MetricRecord
from emulator.core.types.steps import State

FOLDER = "checkpoints"
"""Of a run's folder."""

SCENARIO = "scenario.yaml"
"""The resolved scenario of the run, in the folder of checkpoints."""

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


@dataclass(frozen=True)
class CheckpointPlan:
    """Where and how often the devices of a run write checkpoints, and from which they start.

    every: rounds from one checkpoint to the next; 0: none. keep: complete rounds that are kept.
    resumed_after: the round after which the run goes on; None: it starts from the beginning. trains_on:
    whether it goes on for more rounds than it was planned for.
    """

    run_folder: Path
    devices: int
    every: int
    keep: int
    resumed_after: int | None = None
    trains_on: bool = False

    def read(self, device: int) -> Checkpoint | None:
        """What a device goes on from. Raises ScenarioError where it is missing or damaged."""
        if self.resumed_after is None:
            return None
        return read_checkpoint(self.run_folder, device, self.resumed_after)

    def writer(self, device: int) -> "CheckpointWriter | None":
        """The writer of a device, if there is one."""
        if not self.every:
            return None
        return CheckpointWriter(self.run_folder, device, self.devices, self.every, self.keep)

    def begin(self, scenario_text: str, *, holds_folder: bool) -> None:
        """Make the folder of checkpoints.

        holds_folder: whether this process holds the run's folder; it then removes the checkpoints of an
        earlier run, unless this one goes on from them. Raises OSError.
        """
        folder = self.run_folder / FOLDER
        if holds_folder and self.resumed_after is None:
            shutil.rmtree(folder, ignore_errors=True)
        if self.every:
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / SCENARIO, scenario_text.encode())


class CheckpointWriter:
    """The checkpoints of one device of a run."""

    def __init__(self, run_folder: Path, device: int, devices: int, every: int, keep: int) -> None:
        """every: rounds from one checkpoint to the next. keep: complete rounds that are kept."""
        self._folder = run_folder / FOLDER
        self._device = device
        self._devices = devices
        self._every = every
        self._keep = keep

    def record(self, round_index: int, records: Records) -> None:
        """Append what was recorded in a round. Raises OSError."""
        path = _records_path(self._folder, self._device)
        path.parent.mkdir(parents=True, exist_ok=True)
        line = {
            "round": round_index,
            "metrics": [to_json(record) for record in records.metrics],
            "ledger": [to_json(record) for record in records.links],
        }
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def is_due(self, round_index: int, *, last: bool) -> bool:
        """Whether a checkpoint follows a round: every so many-th one, and the last."""
        return last or (round_index + 1) % self._every == 0

    def write(self, round_index: int, state: State, spent: Mapping[str, Any]) -> None:
        """Write the state after a round; remove those that are not kept. Raises OSError."""
        _synchronise(_records_path(self._folder, self._device))
        folder = _round_folder(self._folder, round_index)
        folder.mkdir(parents=True, exist_ok=True)
        data = write_state(state)
        manifest = {
            "device": self._device,
            "round": round_index,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "spent": spent,
        }
        _write(folder / f"{_name(self._device)}.safetensors", data)
        _write(folder / f"{_name(self._device)}.json", json.dumps(manifest).encode())
        self._remove_old()

    def go_on_after(self, round_index: int) -> None:
        """Remove what the device wrote of later rounds. Raises OSError."""
        path = _records_path(self._folder, self._device)
        if path.exists():
            lines = [line for round_, line in _lines(path) if round_ <= round_index]
            _write(path, "".join(f"{line}\n" for line in lines).encode())
        for later in (r for r in _rounds(self._folder) if r > round_index):
            self._remove(later)

    def _remove_old(self) -> None:
        """Remove the device's own files of rounds before the last complete ones."""
        complete = [r for r in _rounds(self._folder) if self._is_complete(r)]
        for round_index in _rounds(self._folder):
            if len(complete) >= self._keep and round_index < complete[-self._keep]:
                self._remove(round_index)

    def _is_complete(self, round_index: int) -> bool:
        folder = _round_folder(self._folder, round_index)
        return all((folder / f"{_name(i)}.json").exists() for i in range(self._devices))

    def _remove(self, round_index: int) -> None:
        folder = _round_folder(self._folder, round_index)
        for ending in ("json", "safetensors"):
            (folder / f"{_name(self._device)}.{ending}").unlink(missing_ok=True)
        with suppress(OSError):  # files of other devices are in it
            folder.rmdir()


def remove_all_but(run_folder: Path, devices: int, keep: int) -> None:
    """Remove the rounds before the last complete ones; called when all devices have ended."""
    folder = run_folder / FOLDER
    whole = range(devices)
    complete = [r for r in _rounds(folder) if not find_missing_devices(run_folder, whole, r)]
    for round_index in _rounds(folder):
        if len(complete) >= keep and round_index < complete[-keep]:
            shutil.rmtree(_round_folder(folder, round_index), ignore_errors=True)


def has_rounds(run_folder: Path) -> bool:
    """Whether there is a checkpoint of any round."""
    return bool(_rounds(run_folder / FOLDER))


def newest_complete(run_folder: Path, devices: Sequence[int]) -> int | None:
    """The last round of which these devices have whole checkpoints; None where there is none."""
    for round_index in reversed(_rounds(run_folder / FOLDER)):
        if not find_missing_devices(run_folder, devices, round_index):
            return round_index
    return None


def find_missing_devices(run_folder: Path, devices: Sequence[int], round_index: int) -> list[int]:
    """Those of some devices that have no whole checkpoint of a round."""
    folder = _round_folder(run_folder / FOLDER, round_index)
    return [i for i in devices if not _is_whole(folder, i)]


def read_checkpoint(run_folder: Path, device: int, round_index: int) -> Checkpoint:
    """One device after a round.

    Raises ScenarioError, which names the file, where it is missing or damaged.
    """
    folder = _round_folder(run_folder / FOLDER, round_index)
    path = folder / f"{_name(device)}.safetensors"
    manifest = _manifest(folder, device)
    if manifest is None:
        raise ScenarioError([f"{path}: got no whole checkpoint, wanted the one that was written"])
    try:
        state = read_state(path.read_bytes())
    except ValueError as error:
        raise ScenarioError([f"{path}: got {error}, wanted a checkpoint"]) from None
    records = _records(_records_path(run_folder / FOLDER, device), round_index)
    return Checkpoint(round_index, state, manifest["spent"], records)


def _records(path: Path, last: int) -> Records:
    """What was recorded up to a round. Raises ScenarioError where rounds are missing or damaged."""
    metrics: list[MetricRecord] = []
    links: list[LinkRecord] = []
    rounds = []
    try:
        for round_index, line in _lines(path):
            if round_index <= last:
                told = json.loads(line)
                rounds.append(round_index)
                metrics += [MetricRecord(**row) for row in told["metrics"]]
                links += [LinkRecord(**row) for row in told["ledger"]]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ScenarioError([f"{path}: got {error}, wanted the records of a device"]) from None
    if rounds != list(range(last + 1)):
        raise ScenarioError(
            [f"{path}: got records of rounds {rounds}, wanted each of 0 to {last} once"]
        )
    return Records(tuple(metrics), tuple(links))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Round and text of every whole line; the last one may have been cut off by a kill."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield int(json.loads(line)["round"]), line.rstrip("\n")


def _is_whole(folder: Path, device: int) -> bool:
    return _manifest(folder, device) is not None


def _manifest(folder: Path, device: int) -> dict[str, Any] | None:
    """The manifest of a device's checkpoint, if the state is there as it was written."""
    try:
        manifest: dict[str, Any] = json.loads((folder / f"{_name(device)}.json").read_bytes())
        state = (folder / f"{_name(device)}.safetensors").read_bytes()
        whole = manifest["sha256"] == hashlib.sha256(state).hexdigest()
        return manifest if whole and isinstance(manifest["spent"], dict) else None
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _rounds(folder: Path) -> list[int]:
    """The rounds of which there is anything, in order."""
    if not folder.is_dir():
        return []
    found: Sequence[re.Match[str] | None] = [
        _ROUND.fullmatch(entry.name) for entry in folder.iterdir()
    ]
    return sorted(int(match[1]) for match in found if match)


def _round_folder(folder: Path, round_index: int) -> Path:
    return folder / f"round-{round_index:04d}"


def _records_path(folder: Path, device: int) -> Path:
    return folder / _RECORDS / f"{_name(device)}.jsonl"


def _name(device: int) -> str:
    return f"device-{device:02d}"


def _write(path: Path, data: bytes) -> None:
    """Put a file in its place at once, or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    _synchronise(path.parent)


def _synchronise(path: Path) -> None:
    """Wait until the disk has what was written to a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
