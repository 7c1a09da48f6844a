"""One run from scenario to output folder: choose the driver, supervise, write. All I/O is here."""

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
from emulator.runtime.drivers.lifecycle import Outcome
from emulator.runtime.drivers.pacing import Pacer
from emulator.runtime.folder_claim import Claim, Say, check_folder, claimed
from emulator.runtime.gpu import peak_gpu_mb, settled, settled_alone
from emulator.runtime.launcher_env import devices_here, environment_world, meeting_address
from emulator.runtime.launchers import launched_crew, run_launched, terms_of
from emulator.runtime.processes import Conclude, Crew, Post, run_forked, whole_crew
from emulator.runtime.progress import Progress
from emulator.runtime.result_codec import Cost, pack, unpack
from emulator.runtime.run_folder import in_turns, run_files
from emulator.runtime.signals import ended_by_sigterm, interruptible, uninterrupted
from emulator.runtime.surroundings import check_descriptors
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.network_interface import check_loopback
from emulator.runtime.transport.peers import Patience
from emulator.runtime.transport.pipe import Json
from emulator.scenario.adapter_size import size_notes
from emulator.scenario.schema import Scenario
from emulator.scenario.sections import Paced, Synchronous
from emulator.scenario.world import World, build_world

DRIVERS = ("many_processes", "one_process")

MOST_NAMED = 6
"""Links that a note names; the rest is counted."""

Wrote = Callable[[Path], None]
"""Called with the folder when all files of a run are in it."""


@dataclass(frozen=True)
class Order:
    """What to run, how, and where to."""

    scenario: Scenario
    driver: str
    out: Path
    force: bool
    devices_per_host: int | None = None
    """Under a launcher: this process is the parent of so many devices, not one itself."""
    air: tuple[BoundChannel, BoundAccess] | None = None
    """The scenario's channel and access where they are bound already: that takes seconds for many devices."""


def run(order: Order, console: Console, wrote: Wrote = lambda folder: None) -> Path | None:
    """Run a scenario and write its folder; returns the folder where this process wrote it.

    Under a launcher (RANK and WORLD_SIZE are set) this process is one device, or the parent of its
    host's, and the one with device 0 writes. The folder is claimed before anything is loaded. Raises
    ScenarioError for wrong input, DeviceFailedError for the death of a device, and KeyboardInterrupt on
    SIGINT and SIGTERM; in all three cases nothing is written. What is there to be written is written
    whatever comes, in another folder where it must be (EmulatorError), and `wrote` is called then.
    """
    started_s = time.monotonic()
    place = environment_world()
    scenario, per_host = order.scenario, order.devices_per_host
    _check_driver(order, place)
    devices = devices_here(place, scenario.devices, per_host)
    launched = place is not None and per_host is None
    _check_surroundings(order, place)
    title = f"{scenario.run_name} ({scenario.devices} devices, {scenario.rounds} rounds)"
    watched = console if place is None or place[0] == 0 else Console(quiet=True)

    notes = Console(file=console.file, quiet=watched is not console)

    def say(line: str) -> None:  # what a result rests on, also where the console is quiet
        notes.print(line, highlight=False, markup=False, soft_wrap=True)

    if place is not None and place[1] > 1:
        others, told = ("devices", watched) if launched else ("hosts", console)
        line = f"{title}: meeting {place[1] - 1} more {others} at {meeting_address().host}"
        told.print(line, highlight=False, markup=False, soft_wrap=True)
    with (
        nullcontext() if launched else interruptible(),
        _folder(order, place, say) as claim,
        ended_by_sigterm(claim.release) if launched and claim else nullcontext(),
        Progress(title, devices, scenario.rounds, watched) as progress,
    ):
        progress.stage("loading")
        world = build_world(scenario, order.air)
        for note in size_notes(scenario, lambda: world.backbone.shapes_dk):
            say(f"note: {note}")
        shares_parent = order.driver == "many_processes" and not launched
        parent_cpu_s = time.process_time() if shares_parent else 0.0
        progress.stage("running")
        blobs: list[bytes] = []

        def conclude() -> None:
            progress.stage("writing")
            with uninterrupted():
                if claim is not None and blobs:
                    files, notes = _files(order, world, blobs, parent_cpu_s, started_s)
                    claim.put(files)
                    wrote(order.out)
                    for note in notes:
                        say(f"note: {note}")

        if order.driver == "one_process":
            _run_in_one_process(world, progress, blobs)
            conclude()
        elif launched:
            _run_launched(world, progress, blobs, conclude)
        else:
            _run_forked(world, progress, blobs, _crew(order, place), conclude)
        return order.out if blobs else None


def rehearse(order: Order) -> list[str]:
    """Check and load what `run` would, and write nothing; returns notes.

    A folder that only other files keep a run from is a note. Raises ScenarioError as `run` does.
    """
    _check_driver(order, environment_world())
    check_place(order.out)
    world = build_world(order.scenario, order.air)
    notes = size_notes(order.scenario, lambda: world.backbone.shapes_dk)
    try:
        check_folder(order.out, force=order.force)
    except ScenarioError as error:
        notes += [f"a run would be refused: {problem}" for problem in error.problems]
    return notes


def _check_driver(order: Order, place: tuple[int, int] | None) -> None:
    """Raise ScenarioError for a driver that does not exist or does not fit."""
    if order.driver not in DRIVERS:
        raise ScenarioError([f"--driver: got {order.driver!r}, wanted one of {', '.join(DRIVERS)}"])
    if order.driver == "one_process":
        if place is not None:
            raise ScenarioError(
                ["--driver: got one_process under a launcher, wanted many_processes"]
            )
        if isinstance(order.scenario.clock, Paced):
            raise ScenarioError(
                ["--driver: got one_process under clock.kind paced, wanted many_processes"]
            )


def _check_surroundings(order: Order, place: tuple[int, int] | None) -> None:
    """What would only fail while it runs. Raises ScenarioError."""
    forks = order.driver == "many_processes" and (
        place is None or order.devices_per_host is not None
    )
    check_descriptors(order.scenario.devices if order.driver == "many_processes" else 0)
    if place is not None:
        meeting_address()
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


def _folder(
    order: Order, place: tuple[int, int] | None, say: Say
) -> AbstractContextManager[Claim | None]:
    """The claim on the output folder; none for a process that does not write."""
    if place is None or place[0] == 0:
        return claimed(order.out, force=order.force, say=say)
    return nullcontext()


def _crew(order: Order, place: tuple[int, int] | None) -> Crew:
    """The devices that this process forks."""
    scenario, per_host = order.scenario, order.devices_per_host
    if place is None or per_host is None:
        return whole_crew(scenario.devices)
    return launched_crew(scenario.devices, per_host, terms_of(scenario, per_host))


def _patience(scenario: Scenario) -> Patience:
    """Who does not wait, or plays in wall time, may be silent towards others for many rounds."""
    together = isinstance(scenario.schedule, Synchronous) and not isinstance(scenario.clock, Paced)
    silent_rounds = 1 if together else scenario.rounds
    return Patience(stall_timeout_s=scenario.stall_timeout_s * silent_rounds)


def _files(
    order: Order, world: World, blobs: Sequence[bytes], parent_cpu_s: float, started_s: float
) -> tuple[dict[str, bytes], list[str]]:
    """The files of a run from what all devices left behind, and notes on what its results rest on.

    parent_cpu_s: of what children share.
    """
    scenario = world.scenario
    unpacked = sorted((unpack(blob) for blob in blobs), key=lambda pair: pair[0].result.device)
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
    files = run_files(world, outcomes, order.driver, machine)
    return files, shared_slots(in_turns(world, outcomes))


def shared_slots(links: Sequence[tuple[int, int]]) -> list[str]:
    """A note on links within one slot; nothing where there are none."""
    named = ", ".join(f"{i} -> {j}" for i, j in links[:MOST_NAMED])
    more = f" and {len(links) - MOST_NAMED} more" if len(links) > MOST_NAMED else ""
    told = (
        f"access.reuse: links {named}{more} join devices that share a slot (they were out of range at the "
        "start) and were served as if the two took turns (in_turns in topology.json)"
    )
    return [told] if links else []


# ── drivers ──────────────────────────────────────────────────────────────────────────────────────


def _run_in_one_process(world: World, progress: Progress, blobs: list[bytes]) -> None:
    """All lives in turn; what they leave behind goes to `blobs`."""
    world = settled_alone(world)
    devices = range(world.scenario.devices)
    metrics: dict[int, list[MetricRecord]] = {device: [] for device in devices}

    def on_commit(device: int, commit: Commit, links: tuple[LinkRecord, ...]) -> None:
        metrics[device].extend(commit.records)
        _show(progress, device, _progress_of(commit, links))

    outcomes = one_process.run(
        {device: live(world, device) for device in devices},
        {device: _air(world, device) for device in devices},
        on_commit,
    )
    whole = Cost(time.process_time(), _peak_rss_mb(), own_memory_mb(), [], None, peak_gpu_mb())
    nothing = Cost(0.0, 0.0, 0.0, [])
    blobs += [
        pack(_with_metrics(outcomes[device], metrics[device]), nothing if device else whole)
        for device in devices
    ]


def _run_forked(
    world: World, progress: Progress, blobs: list[bytes], crew: Crew, conclude: Conclude
) -> None:
    """One child per device of this machine; what device 0 gathered and posted goes to `blobs`."""
    import torch._dynamo  # noqa: F401  # every optimiser imports it: once here, not in each child

    def on_message(device: int, header: Mapping[str, Json], blob: bytes) -> None:
        if blob:
            blobs.append(blob)
        else:
            _show(progress, device, header)

    def child(transport: Transport, post: Post) -> None:
        for blob in _live_here(world, transport, post):
            post(world.scenario.rounds, {}, blob)

    run_forked(crew, child, on_message, _patience(world.scenario), conclude)


def _run_launched(world: World, progress: Progress, blobs: list[bytes], conclude: Conclude) -> None:
    """This process is one device of a launcher's; device 0 has what all left behind in `blobs`."""

    def child(transport: Transport, post: Post) -> None:
        blobs.extend(_live_here(world, transport, post))

    def on_message(device: int, header: Mapping[str, Json], blob: bytes) -> None:
        _show(progress, device, header)

    scenario = world.scenario
    run_launched(child, on_message, _patience(scenario), terms_of(scenario, None), conclude)


def _live_here(world: World, transport: Transport, post: Post) -> list[bytes]:
    """Lead this process's device to its end; device 0 returns the results of all, others nothing."""
    metrics: list[MetricRecord] = []
    device, world = transport.device, settled(world, transport.notes)
    if world.scenario.backend == "nccl":
        transport.carry_between_gpus()

    def on_commit(_device: int, commit: Commit, links: tuple[LinkRecord, ...]) -> None:
        metrics.extend(commit.records)
        post(commit.round_index, _progress_of(commit, links), b"")

    clock, pacer = world.scenario.clock, None
    if isinstance(clock, Paced):
        transport.barrier()
        pacer = Pacer(clock.time_scale)
    life, air = live(world, device), _air(world, device)
    walked = many_processes.run(life, air, transport, on_commit, pacer=pacer)
    cost = Cost(
        time.process_time(),
        _peak_rss_mb(),
        own_memory_mb(),
        transport.data_bytes_to(),
        pacer.lag() if pacer else None,
        peak_gpu_mb(),
    )
    return transport.gather(pack(_with_metrics(walked, metrics), cost))


def _air(world: World, device: int) -> Shim:
    return Shim(device, world.scenario.wire, world.access, world.channel, world.network)


def _with_metrics(outcome: Outcome, committed: list[MetricRecord]) -> Outcome:
    """The outcome with the measurements of all rounds, not only those since the last commit."""
    records = (*committed, *outcome.result.records)
    return replace(outcome, result=replace(outcome.result, records=records))


def _progress_of(commit: Commit, links: tuple[LinkRecord, ...]) -> dict[str, Json]:
    loss = [record.value for record in commit.records if record.metric == "train_loss"]
    return {
        "rounds_done": commit.round_index + 1,
        "loss": loss[-1] if loss else None,
        "now_s": commit.now_s,
        "air_bytes": sum(link.air_bytes for link in links),
    }


def _show(progress: Progress, device: int, header: Mapping[str, Any]) -> None:
    loss = float("nan") if header["loss"] is None else float(header["loss"])
    progress.update(
        device, int(header["rounds_done"]), loss, float(header["now_s"]), int(header["air_bytes"])
    )


def _peak_rss_mb() -> float:
    """Peak resident memory of this process, shared pages included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # psutil knows none of Linux
    return peak * (1 if psutil.MACOS else 1024) / 1e6


def own_memory_mb() -> float:
    """Memory that only this process holds; 0 where the system does not tell."""
    return float(getattr(psutil.Process().memory_full_info(), "uss", 0)) / 1e6
