"""Checkpoints of a run: what each device needs to go on after a round, in the run's folder.

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
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.core.errors import ScenarioError
from emulator.core.records import to_json
from emulator.core.state_file import read_state, write_state
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


@dataclass(frozen=True)
class CheckpointPlan:
    """Where and how often the devices of a run write checkpoints, and from which they start.

    every: rounds from one checkpoint to the next; 0: none. keep: complete rounds that are kept.
    scenario_text, digest: the resolved scenario and `compute_digest` of it. resumed_after: the round
    after which the run goes on; None: it starts from the beginning. source: the run from whose checkpoints
    it goes on, and the digest of that run's scenario; None: the run itself. kept_every: the checkpoints
    after every so many-th round are kept, whatever `keep` says; 0: none.
    """

    run_folder: Path
    devices: int
    every: int
    keep: int
    scenario_text: str
    digest: str
    resumed_after: int | None = None
    source: tuple[Path, str] | None = None
    kept_every: int = 0

    def read(self, device: int) -> Checkpoint | None:
        """What a device goes on from. Raises ScenarioError where it is missing or damaged."""
        if self.resumed_after is None:
            return None
        folder, digest = self.source or (self.run_folder, self.digest)
        return read_checkpoint(folder, device, self.resumed_after, digest)

    def writer(self, device: int) -> "CheckpointWriter | None":
        """The writer of a device, if there is one."""
        if not self.every:
            return None
        return CheckpointWriter(self, device)

    def is_due(self, round_index: int) -> bool:
        """Whether a checkpoint follows a round that is not the last."""
        return (round_index + 1) % self.every == 0 or self.is_kept(round_index)

    def is_kept(self, round_index: int) -> bool:
        """Whether the checkpoints of a round are kept, however old they are."""
        return self.kept_every > 0 and (round_index + 1) % self.kept_every == 0

    def is_old(self, round_index: int, complete: Sequence[int]) -> bool:
        """Whether the checkpoints of a round are not kept. complete: rounds that all devices have, sorted."""
        newer = len(complete) >= self.keep and round_index < complete[-self.keep]
        return newer and not self.is_kept(round_index)

    def begin(self) -> None:
        """Make the folder of checkpoints; called by the process that holds the run's folder.

        It removes the checkpoints of an earlier run, unless this one goes on from them. Raises OSError.
        """
        folder = self.run_folder / FOLDER
        if self.resumed_after is None or self.source is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for left in folder.rglob("*.partial"):  # a killed process was writing them
            left.unlink(missing_ok=True)
        self.write_scenario()

    def write_scenario(self) -> None:
        """Write the scenario into the folder of checkpoints, which may be on a disk of this host only.

        A process that does not hold the run's folder calls this once it has met the one that does:
        before that the folder may be another run's. Raises OSError.
        """
        path, data = self.run_folder / FOLDER / SCENARIO, self.scenario_text.encode()
        if self.every and not (path.is_file() and path.read_bytes() == data):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, data)


class CheckpointWriter:
    """The checkpoints of one device of a run."""

    def __init__(self, plan: CheckpointPlan, device: int) -> None:
        self._plan = plan
        self._folder = plan.run_folder / FOLDER
        self._device = device

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
        return last or self._plan.is_due(round_index)

    def write(self, round_index: int, state: State, spent: Mapping[str, Any]) -> None:
        """Write the state after a round; remove those that are not kept. Raises OSError."""
        _synchronise(_records_path(self._folder, self._device))
        self._write_state(round_index, write_state(state), spent)
        self._remove_old()

    def _write_state(self, round_index: int, data: bytes, spent: Mapping[str, Any]) -> None:
        folder = _round_folder(self._folder, round_index)
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {
            "device": self._device,
            "round": round_index,
            "scenario": self._plan.digest,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "spent": spent,
        }
        _write(folder / f"{_name(self._device)}.safetensors", data)
        _write(folder / f"{_name(self._device)}.json", json.dumps(manifest).encode())

    def begin(self) -> None:
        """Prepare the device's files: they then hold the rounds after which the run goes on, no others.

        Raises OSError.
        """
        done = -1 if self._plan.resumed_after is None else self._plan.resumed_after
        if self._plan.source is not None:
            self._copy(self._plan.source[0] / FOLDER, done)
        path = _records_path(self._folder, self._device)
        if path.exists():
            _write(path, b"".join(_lines(path)[: done + 1]))
        for later in (r for r in _rounds(self._folder) if r > done):
            self._remove(later)

    def _copy(self, source: Path, last: int) -> None:
        """Copy the device's records and checkpoints from another run: of a last round, and those kept."""
        path = _records_path(self._folder, self._device)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, _records_path(source, self._device).read_bytes())
        for round_index in range(last + 1):
            found = _read_whole(_round_folder(source, round_index), self._device)
            if found is not None and (round_index == last or self._plan.is_kept(round_index)):
                manifest, data = found
                self._write_state(round_index, data, manifest["spent"])

    def _remove_old(self) -> None:
        """Remove the device's own files of rounds before the last complete ones."""
        complete = [r for r in _rounds(self._folder) if self._is_complete(r)]
        for round_index in _rounds(self._folder):
            if self._plan.is_old(round_index, complete):
                self._remove(round_index)

    def _is_complete(self, round_index: int) -> bool:
        folder = _round_folder(self._folder, round_index)
        return all((folder / f"{_name(i)}.json").exists() for i in range(self._plan.devices))

    def _remove(self, round_index: int) -> None:
        folder = _round_folder(self._folder, round_index)
        for own in folder.glob(f"{_name(self._device)}.*"):  # also what a killed process left
            own.unlink(missing_ok=True)
        with suppress(OSError):  # files of other devices are in it
            folder.rmdir()


def remove_old(plan: CheckpointPlan) -> None:
    """Remove the rounds that a run does not keep, and the folder if nothing can go on from it.

    Called when all devices have ended.
    """
    folder = plan.run_folder / FOLDER
    if not _rounds(folder):
        shutil.rmtree(folder, ignore_errors=True)
    whole = range(plan.devices)
    complete = [r for r in _rounds(folder) if not find_missing_devices(plan.run_folder, whole, r)]
    for round_index in _rounds(folder):
        if plan.is_old(round_index, complete):
            shutil.rmtree(_round_folder(folder, round_index), ignore_errors=True)


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
    newest_first = reversed(_rounds(run_folder / FOLDER))
    return next(
        (r for r in newest_first if not find_problems(run_folder, devices, r, digest)), None
    )


def list_complete(run_folder: Path, devices: Sequence[int], digest: str) -> list[int]:
    """All rounds after which these devices can go on."""
    rounds = _rounds(run_folder / FOLDER)
    return [r for r in rounds if not find_problems(run_folder, devices, r, digest)]


def find_newest_problems(run_folder: Path, devices: Sequence[int], digest: str) -> list[str]:
    """Find why devices cannot go on after the last round of which there is anything."""
    rounds = _rounds(run_folder / FOLDER)
    return find_problems(run_folder, devices, rounds[-1], digest) if rounds else []


def find_problems(
    run_folder: Path, devices: Sequence[int], round_index: int, digest: str | None
) -> list[str]:
    """Find why some devices cannot go on after a round: what is wrong with the first that cannot."""
    folder = _round_folder(run_folder / FOLDER, round_index)
    if any(not (folder / f"{_name(i)}.json").is_file() for i in devices):
        return [f"{folder}: got no checkpoints of some devices, wanted one of each"]
    try:
        for device in devices:
            read_checkpoint(run_folder, device, round_index, digest)
    except ScenarioError as error:
        return list(error.problems)
    return []


def find_missing_devices(run_folder: Path, devices: Sequence[int], round_index: int) -> list[int]:
    """Those of some devices that have no whole checkpoint of a round."""
    folder = _round_folder(run_folder / FOLDER, round_index)
    return [i for i in devices if _read_whole(folder, i) is None]


def read_checkpoint(
    run_folder: Path, device: int, round_index: int, digest: str | None = None
) -> Checkpoint:
    """One device after a round. digest: of the scenario for which it must have been written; None: any.

    Raises ScenarioError, which names the file, where it is missing, damaged or of another scenario.
    """
    folder = _round_folder(run_folder / FOLDER, round_index)
    path = folder / f"{_name(device)}.safetensors"
    found = _read_whole(folder, device)
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
    records = _records(_records_path(run_folder / FOLDER, device), round_index)
    return Checkpoint(round_index, state, manifest["spent"], records)


def _records(path: Path, last: int) -> Records:
    """What was recorded up to a round. Raises ScenarioError where rounds are missing or damaged."""
    metrics: list[MetricRecord] = []
    links: list[LinkRecord] = []
    rounds = []
    try:
        for line in _lines(path)[: last + 1]:
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


def _lines(path: Path) -> list[bytes]:
    """Every whole line, one per round; the last one may have been cut off by a kill."""
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _read_whole(folder: Path, device: int) -> tuple[dict[str, Any], bytes] | None:
    """The manifest and the state's bytes of a device's checkpoint, if both are there as written."""
    try:
        manifest: dict[str, Any] = json.loads((folder / f"{_name(device)}.json").read_bytes())
        state = (folder / f"{_name(device)}.safetensors").read_bytes()
        whole = manifest["sha256"] == hashlib.sha256(state).hexdigest()
        spent = [float(manifest["spent"][name]) for name in SPENT]
        there = {"device", "round", "scenario"} <= manifest.keys()
        return (manifest, state) if whole and there and all(map(math.isfinite, spent)) else None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
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
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    _synchronise(path.parent)


def _synchronise(path: Path) -> None:
    """Wait until the disk has what was written to a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
