"""One device of a run in this process: its life and its shim, from the start or from a checkpoint."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from emulator.core.state_file import refuse_unfit
from emulator.core.types.records import LinkRecord, MetricRecord
from emulator.core.types.steps import Commit, State
from emulator.device import live
from emulator.network.shim import Shim
from emulator.runtime.checkpoint_files import Checkpoint, Records
from emulator.runtime.checkpoints import CheckpointPlan
from emulator.runtime.curve import measure_point
from emulator.runtime.drivers.lifecycle import LifeOutcome
from emulator.scenario.world import World


class DeviceRun:
    """Makes a life and its shim for a driver, and keeps and writes what the device commits."""

    def __init__(
        self, world: World, device: int, plan: CheckpointPlan, print_note: Callable[[str], None]
    ) -> None:
        """print_note: prints a note of one line. Raises ScenarioError for a damaged checkpoint."""
        scenario = world.scenario
        self.device = device
        self.shim = Shim(device, scenario.wire, world.access, world.channel, world.network)
        self._has_curve = scenario.evaluation.curve_every > 0
        self._print_note = print_note
        self._started_s = time.monotonic()
        self._earlier: Checkpoint | None = plan.read(device)
        self._writer = plan.writer(device)
        self._metrics: list[MetricRecord] = []
        self._links: tuple[LinkRecord, ...] = ()
        self.started_from_s = 0.0
        restored: State = None
        if self._earlier is not None:
            restored = self._restore(self._earlier)
        self.life = live(world, device, restored)
        if (writer := self._writer) is not None:
            self._write(plan.write_scenario)
            self._write(writer.begin)

    @property
    def cpu_s(self) -> float:
        """CPU time of the device before it was resumed [s]."""
        return float(self._earlier.spent["cpu_s"]) if self._earlier else 0.0

    @property
    def wall_s(self) -> float:
        """Wall time of the run before it was resumed [s]."""
        return float(self._earlier.spent["wall_s"]) if self._earlier else 0.0

    def on_commit(self, commit: Commit, links: tuple[LinkRecord, ...]) -> None:
        """Keep what was recorded in a round, and write it and the state where a checkpoint is due."""
        self._metrics.extend(commit.records)
        if self._writer is None:
            return
        if commit.capture is None:
            self._writer = None
            self._print_note(
                "checkpoints: none are written, as the part of the method on a device has no state()"
            )
            return
        writer, records, capture = self._writer, Records(commit.records, links), commit.capture

        def write() -> None:
            writer.record(commit.round_index, records)
            if writer.is_due(commit.round_index, last=commit.last):
                writer.write(commit.round_index, *self._capture(capture))

        self._write(write)

    def complete(self, outcome: LifeOutcome, points: Sequence[MetricRecord]) -> LifeOutcome:
        """Add what was recorded before this life, and the curve: its points before the last one, and that."""
        whole = self._add_earlier(outcome)
        if not self._has_curve:
            return whole
        records = (*whole.result.records, *points, *self.measure_point(outcome))
        return replace(whole, result=replace(whole.result, records=records))

    def measure_point(self, outcome: LifeOutcome) -> list[MetricRecord]:
        """The point of the curve at which this life has ended."""
        return measure_point(outcome.result.records, self._add_earlier(outcome))

    def _add_earlier(self, outcome: LifeOutcome) -> LifeOutcome:
        records = (*self._metrics, *outcome.result.records)
        result = replace(outcome.result, records=records)
        return LifeOutcome(result, (*self._links, *outcome.link_records))

    def _restore(self, earlier: Checkpoint) -> State:
        """Take up the records and the shim of a checkpoint; return the state of the device."""
        self._metrics = list(earlier.records.metrics)
        self._links = earlier.records.links
        with refuse_unfit(self.device):
            self.shim.restore(earlier.state["shim"])
            restored = earlier.state["device"]
            restored["progress"]["train_cpu_s"] = earlier.spent["train_cpu_s"]
            self.started_from_s = restored["progress"]["now_s"]
        return restored

    def _capture(self, capture: Callable[[], State]) -> tuple[State, dict[str, Any]]:
        """The state after a round, and what was spent of the real machine, which is no part of it."""
        captured = capture()
        spent = {
            "train_cpu_s": captured["progress"].pop("train_cpu_s"),
            "cpu_s": self.cpu_s + time.process_time(),
            "wall_s": self.wall_s + time.monotonic() - self._started_s,
        }
        return {"device": captured, "shim": self.shim.state()}, spent

    def _write(self, write: Callable[[], None]) -> None:
        """Write; without room or permission the run goes on without checkpoints, with a note."""
        try:
            write()
        except OSError as error:
            self._writer = None
            why = error.strerror or str(error)
            self._print_note(
                f"checkpoints: cannot be written ({why}); the run goes on without them"
            )
