"""Which checkpoints a run writes and keeps, and how one device writes its own; `checkpoint_files` reads them."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.core.records import to_json
from emulator.core.state_file import write_state
from emulator.core.types.steps import State
from emulator.runtime.checkpoint_files import (
    FOLDER,
    SCENARIO,
    Checkpoint,
    Records,
    device_name,
    find_missing_devices,
    list_rounds,
    read_checkpoint,
    read_intact,
    read_lines,
    records_path,
    round_folder,
    synchronise,
    write_whole,
)


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
            write_whole(path, data)


class CheckpointWriter:
    """The checkpoints of one device of a run."""

    def __init__(self, plan: CheckpointPlan, device: int) -> None:
        self._plan = plan
        self._folder = plan.run_folder / FOLDER
        self._device = device

    def record(self, round_index: int, records: Records) -> None:
        """Append what was recorded in a round. Raises OSError."""
        path = records_path(self._folder, self._device)
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
        synchronise(records_path(self._folder, self._device))
        self._write_state(round_index, write_state(state), spent)
        self._remove_old()

    def _write_state(self, round_index: int, data: bytes, spent: Mapping[str, Any]) -> None:
        folder = round_folder(self._folder, round_index)
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {
            "device": self._device,
            "round": round_index,
            "scenario": self._plan.digest,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "spent": spent,
        }
        write_whole(folder / f"{device_name(self._device)}.safetensors", data)
        write_whole(folder / f"{device_name(self._device)}.json", json.dumps(manifest).encode())

    def begin(self) -> None:
        """Prepare the device's files: they then hold the rounds after which the run goes on, no others.

        Raises OSError.
        """
        done = -1 if self._plan.resumed_after is None else self._plan.resumed_after
        if self._plan.source is not None:
            self._copy(self._plan.source[0] / FOLDER, done)
        path = records_path(self._folder, self._device)
        if path.exists():
            write_whole(path, b"".join(read_lines(path)[: done + 1]))
        for later in (r for r in list_rounds(self._folder) if r > done):
            self._remove(later)

    def _copy(self, source: Path, last: int) -> None:
        """Copy the device's records and checkpoints from another run: of a last round, and those kept."""
        path = records_path(self._folder, self._device)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, records_path(source, self._device).read_bytes())
        for round_index in range(last + 1):
            found = read_intact(round_folder(source, round_index), self._device)
            if found is not None and (round_index == last or self._plan.is_kept(round_index)):
                manifest, data = found
                self._write_state(round_index, data, manifest["spent"])

    def _remove_old(self) -> None:
        """Remove the device's own files of rounds before the last complete ones."""
        complete = [r for r in list_rounds(self._folder) if self._is_complete(r)]
        for round_index in list_rounds(self._folder):
            if self._plan.is_old(round_index, complete):
                self._remove(round_index)

    def _is_complete(self, round_index: int) -> bool:
        folder = round_folder(self._folder, round_index)
        return all((folder / f"{device_name(i)}.json").exists() for i in range(self._plan.devices))

    def _remove(self, round_index: int) -> None:
        folder = round_folder(self._folder, round_index)
        for own in folder.glob(f"{device_name(self._device)}.*"):  # also what a killed process left
            own.unlink(missing_ok=True)
        with suppress(OSError):  # files of other devices are in it
            folder.rmdir()


def remove_old(plan: CheckpointPlan) -> None:
    """Remove the rounds that a run does not keep, and the folder if nothing can go on from it.

    Called when all devices have ended.
    """
    folder = plan.run_folder / FOLDER
    if not list_rounds(folder):
        shutil.rmtree(folder, ignore_errors=True)
    whole = range(plan.devices)
    complete = [
        r for r in list_rounds(folder) if not find_missing_devices(plan.run_folder, whole, r)
    ]
    for round_index in list_rounds(folder):
        if plan.is_old(round_index, complete):
            shutil.rmtree(round_folder(folder, round_index), ignore_errors=True)
