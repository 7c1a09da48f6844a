"""The curve of a run: what it would have come to, had it ended after fewer rounds (`evaluation.curve_every`).

A point is a branch from the checkpoints of its round: the devices restore them, exchange what they
exchange at the end of a run, and answer all questions. Only the metrics `curve/...` of a point are kept.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from emulator.core.types.records import MetricRecord
from emulator.runtime.checkpoint_files import find_missing_devices
from emulator.runtime.checkpoints import CheckpointPlan
from emulator.runtime.drivers.lifecycle import LifeOutcome
from emulator.scenario.world import World

PREFIX = "curve/"
"""Of the names of all metrics of a curve."""


@dataclass(frozen=True, eq=False)
class CurvePoint:
    """The run as it would be with fewer rounds: its world, and the checkpoints from which it ends."""

    world: World
    checkpoints: CheckpointPlan


EndAt = Callable[[CurvePoint], Mapping[int, list[MetricRecord]]]
"""Ends the run at a point with the devices of this process; returns the metrics of each."""

FindMissing = Callable[[Mapping[int, bool]], list[int]]
"""Returns the numbers that are marked on some device of the run; all devices call it with the same keys."""


@dataclass(frozen=True, eq=False)
class RunCurve:
    """The points of a run before its end. note: a note on those that cannot be measured, or empty."""

    points: tuple[CurvePoint, ...]
    note: str

    @classmethod
    def of(
        cls,
        world: World,
        checkpoints: CheckpointPlan,
        rounds: int,
        devices: Iterable[int],
        find_missing: FindMissing,
    ) -> "RunCurve":
        """The points of a run of so many rounds. devices: those of this process.

        A point needs the checkpoints of all devices, which may be missing where a disk was full.
        """
        every, folder = world.scenario.evaluation.curve_every, checkpoints.run_folder
        wanted = range(every, rounds, every) if every else range(0)
        if not wanted:
            return cls((), "")
        here = [*devices]
        missing = find_missing({k: bool(find_missing_devices(folder, here, k - 1)) for k in wanted})
        named = ", ".join(map(str, missing))
        return cls(
            tuple(plan_point(world, checkpoints, k) for k in wanted if k not in missing),
            f"evaluation.curve_every: no point at rounds {named}: checkpoints are missing"
            if missing
            else "",
        )

    def measure(self, end_at: EndAt) -> dict[int, list[MetricRecord]]:
        """The metrics of all points, by device."""
        measured: dict[int, list[MetricRecord]] = {}
        for point in self.points:
            for device, metrics in end_at(point).items():
                measured.setdefault(device, []).extend(metrics)
        return measured


def list_marked(marks: Mapping[int, bool]) -> list[int]:
    """List the numbers that are marked: `FindMissing` where one process has all devices."""
    return [number for number, is_marked in marks.items() if is_marked]


def plan_point(world: World, checkpoints: CheckpointPlan, rounds: int) -> CurvePoint:
    """Plan the end of a run after fewer rounds; it writes no checkpoints of its own."""
    shorter = world.scenario.model_copy(update={"rounds": rounds})
    source = (checkpoints.run_folder, checkpoints.digest)
    return CurvePoint(
        replace(world, scenario=shorter),
        replace(checkpoints, every=0, resumed_after=rounds - 1, source=source),
    )


def measure_point(measured: Sequence[MetricRecord], whole: LifeOutcome) -> list[MetricRecord]:
    """The metrics of one device at a point.

    measured: what the device measured after the last round. whole: its result with the records of all
    rounds. The costs are sums since the start: bytes and energy of the device's own messages over all hops,
    and its own computing.
    """
    result, links = whole.result, whole.link_records
    last = result.rounds - 1
    answers = [replace(m, metric=PREFIX + m.metric) for m in measured if m.round_index == last]
    costs = {
        "emulated_s": result.emulated_s,
        "sent_bytes": float(sum(link.air_bytes + link.ack_bytes for link in links)),
        "transmit_energy_j": sum(link.energy_j + link.ack_energy_j for link in links),
        "compute_energy_j": result.compute_energy_j,
    }
    return answers + [
        MetricRecord(result.device, last, "", PREFIX + name, value) for name, value in costs.items()
    ]
