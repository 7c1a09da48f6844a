"""One run from scenario to output folder: choose the driver, supervise it, write the files."""

import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from emulator.core.errors import ScenarioError
from emulator.core.places import check_place
from emulator.core.protocols.access import BoundAccess
from emulator.core.protocols.channel import BoundChannel
from emulator.core.records import check_carried, pacing_account
from emulator.core.types.records import LinkRecord, MetricRecord
from emulator.core.types.steps import Commit
from emulator.device import live
from emulator.network.shim import Shim
from emulator.runtime.drivers import many_processes, one_process
from emulator.runtime.drivers.lifecycle import LifeOutcome
from emulator.runtime.drivers.pacing import Pacer
from emulator.runtime.folder_claim import Claim, PrintLine, check_folder, claim_folder
from emulator.runtime.gpu import peak_gpu_mb, place_on_first_gpu, place_on_gpu
from emulator.runtime.launcher_env import (
    find_local_devices,
    read_launcher_world,
    read_rendezvous_address,
)
from emulator.runtime.launchers import assign_launched_devices, collect_terms, run_launched
from emulator.runtime.processes import Conclude, HostDevices, Post, assign_all_devices, run_forked
from emulator.runtime.progress import ProgressView
from emulator.runtime.result_codec import Cost, decode_result, encode_result
from emulator.runtime.run_folder import build_run_files, find_shared_slots
from emulator.runtime.signals import accept_interrupts, end_on_sigterm, ignore_interrupts
from emulator.runtime.surroundings import check_descriptors
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.network_interface import check_loopback
from emulator.runtime.transport.peers import Timeouts
from emulator.runtime.transport.pipe import Json
from emulator.scenario.adapter_size import size_notes
from emulator.scenario.schema import Scenario
from emulator.scenario.sections import Paced, Synchronous
from emulator.scenario.world import World, build_world

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
    air: tuple[BoundChannel, BoundAccess] | None = None
    """The bound channel and access, if the caller has them; binding takes seconds for many devices."""


def run_scenario(
    request: RunRequest, console: Console, on_written: OnWritten = lambda folder: None
) -> Path | None:
    """Run a scenario and write its folder; return the folder if this process wrote it, else None.

    Under a launcher (RANK and WORLD_SIZE are set) this process is one device, or the parent of its
    host's devices; the process with device 0 writes. The folder is claimed before anything is loaded.
    Raises ScenarioError for wrong input, DeviceFailedError when a device fails, and KeyboardInterrupt on
    SIGINT and SIGTERM; in these cases nothing is written. Once results exist they are always written, and
    `on_written` is called; if the folder cannot take them, another one does and EmulatorError is raised.
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
    with (
        nullcontext() if launched else accept_interrupts(),
        _claim_output(request, place, print_line) as claim,
        end_on_sigterm(claim.release) if launched and claim else nullcontext(),
        ProgressView(title, devices, scenario.rounds, watched) as progress,
    ):
        progress.stage("loading")
        world = build_world(scenario, request.air)
        for note in size_notes(scenario, lambda: world.backbone.shapes_dk):
            print_line(f"note: {note}")
        shares_parent = request.driver == "many_processes" and not launched
        parent_cpu_s = time.process_time() if shares_parent else 0.0
        progress.stage("running")
        blobs: list[bytes] = []

        def conclude() -> None:
            progress.stage("writing")
            with ignore_interrupts():
                if claim is not None and blobs:
                    files, notes = _build_files(request, world, blobs, parent_cpu_s, started_s)
                    claim.put(files)
                    on_written(request.out)
                    for note in notes:
                        print_line(f"note: {note}")

        if request.driver == "one_process":
            _run_in_one_process(world, progress, blobs)
            conclude()
        elif launched:
            _run_launched(world, progress, blobs, conclude)
        else:
            _run_forked(world, progress, blobs, _assign_devices(request, place), conclude)
        return request.out if blobs else None


def check_run(request: RunRequest) -> list[str]:
    """Check and load what `run_scenario` would, and write nothing; return notes.

    An output folder that a run would refuse is a note. Raises ScenarioError as `run_scenario` does.
    """
    _check_driver(request, read_launcher_world())
    check_place(request.out)
    world = build_world(request.scenario, request.air)
    notes = size_notes(request.scenario, lambda: world.backbone.shapes_dk)
    try:
        check_folder(request.out, force=request.force)
    except ScenarioError as error:
        notes += [f"a run would be refused: {problem}" for problem in error.problems]
    return notes


def _check_driver(request: RunRequest, place: tuple[int, int] | None) -> None:
    """Raise ScenarioError for an unknown driver, or one that the launcher or the clock excludes."""
    if request.driver not in DRIVERS:
        raise ScenarioError(
            [f"--driver: got {request.driver!r}, wanted one of {', '.join(DRIVERS)}"]
        )
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
    return assign_launched_devices(scenario.devices, per_host, collect_terms(scenario, per_host))


def _choose_timeouts(scenario: Scenario) -> Timeouts:
    """Choose how long devices wait for each other.

    Devices that do not wait, or that run in wall time, may send nothing to another for many rounds.
    """
    together = isinstance(scenario.schedule, Synchronous) and not isinstance(scenario.clock, Paced)
    silent_rounds = 1 if together else scenario.rounds
    return Timeouts(stall_timeout_s=scenario.stall_timeout_s * silent_rounds)


def _build_files(
    request: RunRequest, world: World, blobs: Sequence[bytes], parent_cpu_s: float, started_s: float
) -> tuple[dict[str, bytes], list[str]]:
    """Build the files of a run from the results of all devices, and notes on assumptions of the result.

    blobs: by `encode_result`. parent_cpu_s: CPU time before the fork, which the children share.
    """
    scenario = world.scenario
    unpacked = sorted(
        (decode_result(blob) for blob in blobs), key=lambda pair: pair[0].result.device
    )
    costs = [cost for _, cost in unpacked]
    for outcome, cost in unpacked:
        check_carried(outcome.result.device, outcome.link_records, cost.data_bytes_to)
    machine: dict[str, Any] = {
        "wall_s": time.monotonic() - started_s,
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


# ── drivers ──────────────────────────────────────────────────────────────────────────────────────


def _run_in_one_process(world: World, progress: ProgressView, blobs: list[bytes]) -> None:
    """Run all lives in turn; append their encoded results to `blobs`."""
    world = place_on_first_gpu(world)
    devices = range(world.scenario.devices)
    metrics: dict[int, list[MetricRecord]] = {device: [] for device in devices}

    def on_commit(device: int, commit: Commit, links: tuple[LinkRecord, ...]) -> None:
        metrics[device].extend(commit.records)
        _show_progress(progress, device, _summarise_commit(commit, links))

    outcomes = one_process.run_lives(
        {device: live(world, device) for device in devices},
        {device: _build_shim(world, device) for device in devices},
        on_commit,
    )
    whole = Cost(time.process_time(), _peak_rss_mb(), own_memory_mb(), [], None, peak_gpu_mb())
    nothing = Cost(0.0, 0.0, 0.0, [])
    blobs += [
        encode_result(
            _with_metrics(outcomes[device], metrics[device]), nothing if device else whole
        )
        for device in devices
    ]


def _run_forked(
    world: World,
    progress: ProgressView,
    blobs: list[bytes],
    host_devices: HostDevices,
    conclude: Conclude,
) -> None:
    """Run one child per device of this machine; append what device 0 has gathered to `blobs`."""
    import torch._dynamo  # noqa: F401  # every optimiser imports it: once here, not in each child

    def on_message(device: int, header: Mapping[str, Json], blob: bytes) -> None:
        if blob:
            blobs.append(blob)
        else:
            _show_progress(progress, device, header)

    def child(transport: Transport, post: Post) -> None:
        for blob in _run_device(world, transport, post):
            post(world.scenario.rounds, {}, blob)

    run_forked(host_devices, child, on_message, _choose_timeouts(world.scenario), conclude)


def _run_launched(
    world: World, progress: ProgressView, blobs: list[bytes], conclude: Conclude
) -> None:
    """Run one device of a launcher in this process; device 0 appends all results to `blobs`."""

    def child(transport: Transport, post: Post) -> None:
        blobs.extend(_run_device(world, transport, post))

    def on_message(device: int, header: Mapping[str, Json], blob: bytes) -> None:
        _show_progress(progress, device, header)

    scenario = world.scenario
    run_launched(
        child, on_message, _choose_timeouts(scenario), collect_terms(scenario, None), conclude
    )


def _run_device(world: World, transport: Transport, post: Post) -> list[bytes]:
    """Run this process's device to its end; device 0 returns all encoded results, others none."""
    metrics: list[MetricRecord] = []
    device, world = transport.device, place_on_gpu(world, transport.notes)
    if world.scenario.backend == "nccl":
        transport.use_gpu_transfers()

    def on_commit(_device: int, commit: Commit, links: tuple[LinkRecord, ...]) -> None:
        metrics.extend(commit.records)
        post(commit.round_index, _summarise_commit(commit, links), b"")

    clock, pacer = world.scenario.clock, None
    if isinstance(clock, Paced):
        transport.barrier()
        pacer = Pacer(clock.time_scale)
    life, air = live(world, device), _build_shim(world, device)
    outcome = many_processes.run_life(life, air, transport, on_commit, pacer=pacer)
    cost = Cost(
        time.process_time(),
        _peak_rss_mb(),
        own_memory_mb(),
        transport.data_bytes_to(),
        pacer.summarise_lag() if pacer else None,
        peak_gpu_mb(),
    )
    return transport.gather(encode_result(_with_metrics(outcome, metrics), cost))


def _build_shim(world: World, device: int) -> Shim:
    return Shim(device, world.scenario.wire, world.access, world.channel, world.network)


def _with_metrics(outcome: LifeOutcome, committed: list[MetricRecord]) -> LifeOutcome:
    """Return the outcome with the measurements of all rounds, not only those since the last commit."""
    records = (*committed, *outcome.result.records)
    return replace(outcome, result=replace(outcome.result, records=records))


def _summarise_commit(commit: Commit, links: tuple[LinkRecord, ...]) -> dict[str, Json]:
    loss = [record.value for record in commit.records if record.metric == "train_loss"]
    return {
        "rounds_done": commit.round_index + 1,
        "loss": loss[-1] if loss else None,
        "now_s": commit.now_s,
        "air_bytes": sum(link.air_bytes for link in links),
    }


def _show_progress(progress: ProgressView, device: int, header: Mapping[str, Any]) -> None:
    loss = float("nan") if header["loss"] is None else float(header["loss"])
    progress.update(
        device, int(header["rounds_done"]), loss, float(header["now_s"]), int(header["air_bytes"])
    )


def _peak_rss_mb() -> float:
    """Peak resident memory of this process [MB], with shared pages."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # psutil has no peak on Linux
    return peak * (1 if psutil.MACOS else 1024) / 1e6


def own_memory_mb() -> float:
    """Memory that only this process holds [MB]; 0 where the system does not report it."""
    return float(getattr(psutil.Process().memory_full_info(), "uss", 0)) / 1e6
