"""One run from scenario to output folder: choose the driver, supervise it, write the files."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from emulator.core.errors import ScenarioError
from emulator.core.places import check_place
from emulator.core.protocols.access import BoundAccess
from emulator.core.protocols.channel import BoundChannel
from emulator.core.records import pacing_account
from emulator.runtime.checkpoints import CheckpointPlan, remove_old
from emulator.runtime.execution import Execution
from emulator.runtime.folder_claim import Claim, PrintLine, check_folder, claim_folder
from emulator.runtime.interruption import Interruption
from emulator.runtime.launcher_env import (
    find_local_devices,
    read_launcher_world,
    read_rendezvous_address,
)
from emulator.runtime.launchers import assign_launched_devices, collect_terms
from emulator.runtime.processes import HostDevices, assign_all_devices
from emulator.runtime.progress import ProgressView
from emulator.runtime.result_codec import decode_result
from emulator.runtime.run_folder import build_run_files, find_shared_slots
from emulator.runtime.signals import accept_interrupts, end_on_sigterm, ignore_interrupts
from emulator.runtime.surroundings import check_descriptors
from emulator.runtime.transport.network_interface import check_loopback
from emulator.scenario.adapter_size import note_size
from emulator.scenario.load import dump_scenario
from emulator.scenario.schema import Scenario
from emulator.scenario.sections import Paced
from emulator.scenario.terms import compute_digest
from emulator.scenario.world import build_world

DRIVERS = ("many_processes", "one_process")

MOST_NAMED = 6
"""The most links that a note names; it gives the number of the others."""

OnWritten = Callable[[Path], None]
"""Called with the folder once all files of a run are in it."""


@dataclass(frozen=True)
class RunRequest:
    """A scenario to run, the driver for it, and the output folder."""

    scenario: Scenario
    driver: str
    out: Path
    force: bool
    devices_per_host: int | None = None
    """Under a launcher: the number of devices that this process forks; None: it is one device itself."""
    resumed_after: int | None = None
    """The round after which the run goes on from its checkpoints; None: it starts from the beginning."""
    source: tuple[Path, str] | None = None
    """The run from whose checkpoints it goes on, and the digest of its scenario; None: from its own."""
    air: tuple[BoundChannel, BoundAccess] | None = None
    """The bound channel and access, if the caller has them; binding takes seconds for many devices."""


def run_scenario(
    request: RunRequest,
    console: Console,
    on_written: OnWritten = lambda folder: None,
    interruption: Interruption | None = None,
) -> Path | None:
    """Run a scenario and write its folder; return the folder if this process wrote it, else None.

    Under a launcher (RANK and WORLD_SIZE are set) this process is one device, or the parent of its
    host's devices; the process with device 0 writes. The folder is claimed before anything is loaded.
    Raises ScenarioError for wrong input, DeviceFailedError when a device fails, and KeyboardInterrupt on
    SIGINT and SIGTERM (at once, or as `interruption` has it); in these cases nothing but checkpoints is
    written. Once results exist they are
    always written, and `on_written` is called; if the folder cannot take them, another one does and
    EmulatorError is raised.
    """
    started_s = time.monotonic()
    place = read_launcher_world()
    scenario, per_host = request.scenario, request.devices_per_host
    _check_driver(request, place)
    devices = find_local_devices(place, scenario.devices, per_host)
    launched = place is not None and per_host is None
    _check_surroundings(request, place)
    title = f"{scenario.run_name} ({scenario.devices} devices, {scenario.rounds} rounds)"
    watched = console if place is None or place[0] == 0 else Console(quiet=True)

    notes = Console(file=console.file, quiet=watched is not console)

    def print_line(line: str) -> None:  # notes on the result are printed even with --quiet
        notes.print(line, highlight=False, markup=False, soft_wrap=True)

    if place is not None and place[1] > 1:
        others, screen = ("devices", watched) if launched else ("hosts", console)
        line = f"{title}: connecting to {place[1] - 1} more {others} at {read_rendezvous_address().host}"
        screen.print(line, highlight=False, markup=False, soft_wrap=True)

    def accept() -> AbstractContextManager[None]:
        return interruption.accept(print_line) if interruption else accept_interrupts()

    with (
        nullcontext() if launched else accept(),
        _claim_output(request, place, print_line) as claim,
        end_on_sigterm(claim.release) if launched and claim else nullcontext(),
        ProgressView(title, devices, scenario.rounds, watched) as progress,
    ):
        progress.stage("loading")
        world = build_world(scenario, request.air)
        for note in note_size(scenario, lambda: world.backbone.shapes_dk):
            print_line(f"note: {note}")
        shares_parent = request.driver == "many_processes" and not launched
        parent_cpu_s = time.process_time() if shares_parent else 0.0
        progress.stage("running")
        checkpoints = plan_checkpoints(request)
        execution = Execution(
            world, checkpoints, progress, print_line, interruption or Interruption()
        )
        if claim is not None:
            with suppress(OSError):  # the devices note what they cannot write
                execution.checkpoints.begin()

        def conclude() -> None:
            progress.stage("writing")
            with ignore_interrupts():
                if claim is not None and execution.blobs:
                    files, notes = _build_files(request, execution, parent_cpu_s, started_s)
                    claim.put(files)
                    on_written(request.out)
                    remove_old(execution.checkpoints)
                    for note in notes:
                        print_line(f"note: {note}")

        if request.driver == "one_process":
            execution.run_in_one_process()
            conclude()
        elif launched:
            execution.run_launched(conclude)
        else:
            execution.run_forked(_assign_devices(request, place), conclude)
        return request.out if execution.blobs else None


def plan_checkpoints(request: RunRequest) -> CheckpointPlan:
    """Plan the checkpoints of a run: its own folder, and what the scenario states."""
    scenario = request.scenario
    return CheckpointPlan(
        request.out.resolve(),
        scenario.devices,
        scenario.rounds_per_checkpoint,
        scenario.checkpoint_keep,
        dump_scenario(scenario),
        compute_digest(scenario),
        request.resumed_after,
        request.source,
        scenario.evaluation.curve_every,
    )


def check_run(request: RunRequest) -> list[str]:
    """Check and load what `run_scenario` would, and write nothing; return notes.

    An output folder that a run would refuse is a note. Raises ScenarioError as `run_scenario` does.
    """
    _check_driver(request, read_launcher_world())
    check_place(request.out)
    world = build_world(request.scenario, request.air)
    notes = note_size(request.scenario, lambda: world.backbone.shapes_dk)
    try:
        check_folder(request.out, force=request.force)
    except ScenarioError as error:
        notes += [f"a run would be refused: {problem}" for problem in error.problems]
    return notes


def check_driver_name(driver: str) -> None:
    """Raise ScenarioError for an unknown driver."""
    if driver not in DRIVERS:
        raise ScenarioError([f"--driver: got {driver!r}, wanted one of {', '.join(DRIVERS)}"])


def _check_driver(request: RunRequest, place: tuple[int, int] | None) -> None:
    """Raise ScenarioError for an unknown driver, or one that the launcher or the clock excludes."""
    check_driver_name(request.driver)
    if request.driver == "one_process":
        if place is not None:
            raise ScenarioError(
                ["--driver: got one_process under a launcher, wanted many_processes"]
            )
        if isinstance(request.scenario.clock, Paced):
            raise ScenarioError(
                ["--driver: got one_process under clock.kind paced, wanted many_processes"]
            )


def _check_surroundings(request: RunRequest, place: tuple[int, int] | None) -> None:
    """Check limits of the system that a run would meet only later. Raises ScenarioError."""
    forks = request.driver == "many_processes" and (
        place is None or request.devices_per_host is not None
    )
    check_descriptors(request.scenario.devices if request.driver == "many_processes" else 0)
    if place is not None:
        read_rendezvous_address()
    elif forks:
        check_loopback()
    if forks and multiprocessing.current_process().daemon:
        raise ScenarioError(
            [
                "--driver: got many_processes in a daemonic process of multiprocessing, which starts no "
                "others, wanted one_process, or a process that is not daemonic (as of "
                "concurrent.futures)"
            ]
        )


def _claim_output(
    request: RunRequest, place: tuple[int, int] | None, print_line: PrintLine
) -> AbstractContextManager[Claim | None]:
    """Claim the output folder; a process that does not write gets None."""
    if place is None or place[0] == 0:
        return claim_folder(request.out, force=request.force, print_line=print_line)
    return nullcontext()


def _assign_devices(request: RunRequest, place: tuple[int, int] | None) -> HostDevices:
    """Assign to this process the devices that it forks."""
    scenario, per_host = request.scenario, request.devices_per_host
    if place is None or per_host is None:
        return assign_all_devices(scenario.devices)
    terms = collect_terms(scenario, per_host, request.resumed_after)
    return assign_launched_devices(scenario.devices, per_host, terms)


def _build_files(
    request: RunRequest, execution: Execution, parent_cpu_s: float, started_s: float
) -> tuple[dict[str, bytes], list[str]]:
    """Build the files of a run from the results of all devices, and notes on assumptions of the result.

    parent_cpu_s: CPU time before the fork, which the children share.
    """
    world, scenario = execution.world, execution.world.scenario
    unpacked = sorted(
        (decode_result(blob) for blob in execution.blobs), key=lambda pair: pair[0].result.device
    )
    costs = [cost for _, cost in unpacked]
    machine: dict[str, Any] = {
        "wall_s": costs[0].earlier_wall_s + time.monotonic() - started_s,
        "cpu_s": sum(cost.cpu_s for cost in costs) + parent_cpu_s,
        "train_cpu_s": sum(outcome.result.train_cpu_s for outcome, _ in unpacked),
        "peak_rss_mb": max(cost.peak_rss_mb for cost in costs),
        "own_memory_mb": max(cost.own_memory_mb for cost in costs),
    }
    if (peak_mb := max(cost.peak_gpu_mb for cost in costs)) > 0:
        machine["peak_gpu_mb"] = peak_mb
    if isinstance(scenario.clock, Paced):
        rounds_s = max(outcome.result.emulated_s for outcome, _ in unpacked)
        rounds = unpacked[0][0].result.rounds
        round_s = rounds_s * scenario.clock.time_scale / rounds
        machine["pacing"] = pacing_account([cost.pacing or {} for cost in costs], round_s)
    outcomes = [outcome for outcome, _ in unpacked]
    files = build_run_files(world, outcomes, request.driver, machine)
    return files, describe_shared_slots(find_shared_slots(world, outcomes))


def describe_shared_slots(links: Sequence[tuple[int, int]]) -> list[str]:
    """Describe links (sender, receiver) within one slot in one note; none without such links."""
    named = ", ".join(f"{i} -> {j}" for i, j in links[:MOST_NAMED])
    more = f" and {len(links) - MOST_NAMED} more" if len(links) > MOST_NAMED else ""
    note = (
        f"access.reuse: links {named}{more} join devices that share a slot (they were out of range at the "
        "start) and were served as if the two took turns (in_turns in topology.json)"
    )
    return [note] if links else []
