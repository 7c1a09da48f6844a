"""How each driver runs the devices of this process, and what they give as bytes."""

import resource
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import psutil

from emulator.core.records import check_carried
from emulator.core.types.records import LinkRecord, MetricRecord
from emulator.core.types.steps import Commit
from emulator.runtime.checkpoints import CheckpointPlan
from emulator.runtime.curve import CurvePoint, RunCurve, list_marked
from emulator.runtime.device_run import DeviceRun
from emulator.runtime.drivers import many_processes, one_process
from emulator.runtime.drivers.lifecycle import LifeOutcome
from emulator.runtime.drivers.pacing import Pacer
from emulator.runtime.gpu import peak_gpu_mb, place_on_first_gpu, place_on_gpu
from emulator.runtime.interruption import Interruption
from emulator.runtime.launchers import collect_terms, run_launched
from emulator.runtime.processes import Conclude, HostDevices, Post, run_forked
from emulator.runtime.progress import ProgressView
from emulator.runtime.result_codec import Cost, encode_result
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.peers import Timeouts
from emulator.runtime.transport.pipe import Json
from emulator.scenario.schema import Scenario
from emulator.scenario.sections import Paced, Synchronous
from emulator.scenario.world import World


@dataclass
class Execution:
    """The devices of a run. blobs: the encoded results of all devices, once they have ended.

    print_note: prints a note of one line; the same note of several devices is printed once.
    interruption: is told of every finished round.
    """

    world: World
    checkpoints: CheckpointPlan
    progress: ProgressView
    print_note: Callable[[str], None]
    interruption: Interruption
    blobs: list[bytes] = field(default_factory=list)
    _noted: set[str] = field(default_factory=set)

    def run_in_one_process(self) -> None:
        """Run all lives in turn."""
        world = place_on_first_gpu(self.world)
        with self._interruptible(range(world.scenario.devices)):
            runs, outcomes = self._run_lives(world, self.checkpoints)

        def end_at(point: CurvePoint) -> dict[int, list[MetricRecord]]:
            branches, ends = self._run_lives(point.world, point.checkpoints)
            return {device: run.measure_point(ends[device]) for device, run in branches.items()}

        rounds = outcomes[0].result.rounds
        curve = RunCurve.of(world, self.checkpoints, rounds, runs, list_marked)
        self._note(curve.note)
        points = curve.measure(end_at)
        for device, run in runs.items():
            if device:
                cost = Cost(0.0, 0.0, 0.0)
            else:
                cpu_s = time.process_time() + run.cpu_s
                cost = Cost(cpu_s, _peak_rss_mb(), own_memory_mb(), None, peak_gpu_mb(), run.wall_s)
            whole = run.complete(outcomes[device], points.get(device, ()))
            self.blobs.append(encode_result(whole, cost))

    def _run_lives(
        self, world: World, checkpoints: CheckpointPlan
    ) -> tuple[dict[int, DeviceRun], dict[int, LifeOutcome]]:
        """Run the lives of all devices in this process."""
        runs = {
            device: DeviceRun(world, device, checkpoints, self._note)
            for device in range(world.scenario.devices)
        }

        def on_commit(device: int, commit: Commit, links: tuple[LinkRecord, ...]) -> None:
            runs[device].on_commit(commit, links)
            self._show(device, summarise_commit(commit, links))
            self.interruption.finish_round(device, commit.round_index + 1)

        outcomes = one_process.run_lives(
            {device: run.life for device, run in runs.items()},
            {device: run.shim for device, run in runs.items()},
            on_commit,
            runs[0].shim.next_exchange,
        )
        return runs, outcomes

    def run_forked(self, host_devices: HostDevices, conclude: Conclude) -> None:
        """Run one child per device of this machine; device 0 gathers all results."""
        import torch._dynamo  # noqa: F401  # every optimiser imports it: once here, not in each child

        def on_message(device: int, header: Mapping[str, Json], blob: bytes) -> None:
            if blob:
                self.blobs.append(blob)
            else:
                self._on_header(device, header)

        def child(transport: Transport, post: Post) -> None:
            for blob in _run_device(self.world, self.checkpoints, transport, post):
                post(self.world.scenario.rounds, {}, blob)

        timeouts = choose_timeouts(self.world.scenario)
        with self._interruptible(host_devices.ids):
            run_forked(host_devices, child, on_message, timeouts, conclude)

    def run_launched(self, conclude: Conclude) -> None:
        """Run one device of a launcher in this process; device 0 gathers all results."""

        def child(transport: Transport, post: Post) -> None:
            self.blobs.extend(_run_device(self.world, self.checkpoints, transport, post))

        def on_message(device: int, header: Mapping[str, Json], blob: bytes) -> None:
            self._on_header(device, header)

        scenario = self.world.scenario
        terms = collect_terms(scenario, None, self.checkpoints.resumed_after)
        run_launched(child, on_message, choose_timeouts(scenario), terms, conclude)

    def _interruptible(self, devices: Iterable[int]) -> AbstractContextManager[None]:
        """Inside the context an interruption waits for the end of a round with a checkpoint, if there are any."""
        plan = self.checkpoints
        return self.interruption.wait_for_rounds(devices, plan.is_due if plan.every else None)

    def _on_header(self, device: int, header: Mapping[str, Json]) -> None:
        if "note" in header:
            self._note(str(header["note"]))
        else:
            self._show(device, header)
            self.interruption.finish_round(device, int(str(header["rounds_done"])))

    def _note(self, note: str) -> None:
        if note and note not in self._noted:
            self._noted.add(note)
            self.print_note(f"note: {note}")

    def _show(self, device: int, header: Mapping[str, Any]) -> None:
        loss = float("nan") if header["loss"] is None else float(header["loss"])
        self.progress.update(
            device,
            int(header["rounds_done"]),
            loss,
            float(header["now_s"]),
            int(header["air_bytes"]),
        )


def _run_device(
    world: World, checkpoints: CheckpointPlan, transport: Transport, post: Post
) -> list[bytes]:
    """Run this process's device to its end; device 0 returns all encoded results, others none."""
    device, world = transport.device, place_on_gpu(world, transport.notes)
    if world.scenario.backend == "nccl":
        transport.use_gpu_transfers()

    def print_note(note: str) -> None:
        post(0, {"note": note}, b"")

    run = DeviceRun(world, device, checkpoints, print_note)

    def on_commit(_device: int, commit: Commit, links: tuple[LinkRecord, ...]) -> None:
        run.on_commit(commit, links)
        post(commit.round_index, summarise_commit(commit, links), b"")

    clock, pacer = world.scenario.clock, None
    if isinstance(clock, Paced):
        transport.barrier()
        pacer = Pacer(clock.time_scale, started_from_s=run.started_from_s)
    first = run.shim.next_exchange
    outcome = many_processes.run_life(run.life, run.shim, transport, on_commit, first, pacer)
    check_carried(device, outcome.link_records, transport.data_bytes_to())

    def end_at(point: CurvePoint) -> dict[int, list[MetricRecord]]:
        transport.start_again()
        branch = DeviceRun(point.world, device, point.checkpoints, print_note)
        first = branch.shim.next_exchange
        end = many_processes.run_life(branch.life, branch.shim, transport, on_commit, first)
        return {device: branch.measure_point(end)}

    def find_marked(marks: Mapping[int, bool]) -> list[int]:
        return transport.notes.find_marked(marks, transport.barrier)

    curve = RunCurve.of(world, checkpoints, outcome.result.rounds, [device], find_marked)
    print_note(curve.note)
    points = curve.measure(end_at).get(device, [])
    transport.finish_exchanges()
    cost = Cost(
        time.process_time() + run.cpu_s,
        _peak_rss_mb(),
        own_memory_mb(),
        pacer.summarise_lag() if pacer else None,
        peak_gpu_mb(),
        run.wall_s,
    )
    return transport.gather(encode_result(run.complete(outcome, points), cost))


def choose_timeouts(scenario: Scenario) -> Timeouts:
    """Choose how long devices wait for each other.

    Devices that do not wait, or that run in wall time, may send nothing to another for many rounds.
    """
    together = isinstance(scenario.schedule, Synchronous) and not isinstance(scenario.clock, Paced)
    silent_rounds = 1 if together else scenario.rounds
    return Timeouts(stall_timeout_s=scenario.stall_timeout_s * silent_rounds)


def summarise_commit(commit: Commit, links: tuple[LinkRecord, ...]) -> dict[str, Json]:
    """What the progress view shows of a commit."""
    loss = [record.value for record in commit.records if record.metric == "train_loss"]
    return {
        "rounds_done": commit.round_index + 1,
        "loss": loss[-1] if loss else None,
        "now_s": commit.now_s,
        "air_bytes": sum(link.air_bytes for link in links),
    }


def _peak_rss_mb() -> float:
    """Peak resident memory of this process [MB], with shared pages."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # psutil has no peak on Linux
    return peak * (1 if psutil.MACOS else 1024) / 1e6


def own_memory_mb() -> float:
    """Memory that only this process holds [MB]; 0 where the system does not report it."""
    return float(getattr(psutil.Process().memory_full_info(), "uss", 0)) / 1e6
