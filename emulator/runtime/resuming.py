"""How an interrupted run goes on from its checkpoints, and a finished one for more rounds."""

from dataclasses import replace
from pathlib import Path

from emulator.core.errors import ScenarioError
from emulator.runtime.checkpoints import (
    FOLDER,
    SCENARIO,
    find_newest_problems,
    newest_complete,
    read_checkpoint,
)
from emulator.runtime.launcher_env import find_local_devices, read_launcher_world
from emulator.runtime.run import RunRequest, check_driver_name
from emulator.scenario.load import dump_scenario, read_scenario
from emulator.scenario.terms import compute_digest


def plan_resumption(
    run: Path, driver: str, rounds: int | None, devices_per_host: int | None = None
) -> RunRequest:
    """What goes on in a run's folder, after the last round of which all devices have checkpoints.

    rounds: how many rounds there are to be, the past ones included; None: as planned. Raises
    ScenarioError where there is nothing to go on from or nothing left to do.
    """
    folder = run / FOLDER
    check_driver_name(driver)
    if not (folder / SCENARIO).is_file():
        raise ScenarioError([f"{run}: got no {FOLDER}/{SCENARIO}, wanted a run with checkpoints"])
    planned = read_scenario(folder / SCENARIO, []).scenario
    place = read_launcher_world()
    here = find_local_devices(place, planned.devices, devices_per_host)
    digest = compute_digest(planned)
    last = newest_complete(run, here, digest)
    if last is None:
        raise ScenarioError(
            [
                f"{run}: got no round of which all devices have a whole checkpoint, wanted one (emulator "
                "run --force begins it again)",
                *find_newest_problems(run, here, digest),
            ]
        )
    if rounds is not None and rounds <= last + 1:
        raise ScenarioError([f"--rounds: got {rounds}, wanted more than the {last + 1} of {run}"])
    has_ended = (run / "summary.json").is_file() and _same_scenario(run, folder)
    if rounds is None and has_ended:
        raise ScenarioError(
            [f"{run}: got a run that has ended, wanted one that was interrupted, or --rounds"]
        )
    if rounds is not None and not has_ended and rounds < planned.rounds:
        raise ScenarioError(
            [
                f"--rounds: got {rounds}, wanted at least the {planned.rounds} for which {run} was begun"
            ]
        )
    if rounds is not None and _has_stopped(run, here[0], last):
        raise ScenarioError(
            [
                f"--rounds: got {rounds}, but a limit of stop ended {run} after round {last + 1}, wanted "
                "a new run with another limit"
            ]
        )
    scenario = planned
    if rounds is not None:
        scenario = read_scenario(folder / SCENARIO, [f"rounds={rounds}"]).scenario
    return RunRequest(
        scenario,
        driver,
        run,
        force=True,
        devices_per_host=devices_per_host,
        resumed_after=last,
    )


def describe_more_rounds(request: RunRequest, rounds: int | None) -> list[str]:
    """A note if a run that trains on differs from one that was planned for all of its rounds."""
    method = request.scenario.method
    planned = getattr(method, "planned_by_rounds", ())
    if rounds is None or request.resumed_after is None or not planned:
        return []
    done = request.resumed_after + 1
    return [
        f"--rounds: {method.kind} was planned for fewer rounds ({', '.join(planned)}); {done} rounds and "
        f"{rounds - done} more may end otherwise than a run of {rounds}"
    ]


def resume_or_start(request: RunRequest) -> RunRequest:
    """The same run from its checkpoints, where its folder holds some of the same scenario."""
    path, scenario = request.out / FOLDER / SCENARIO, request.scenario
    if not path.is_file() or path.read_bytes() != dump_scenario(scenario).encode():
        return request
    last = newest_complete(request.out, range(scenario.devices), compute_digest(scenario))
    return replace(request, resumed_after=last)


def describe_resumption(request: RunRequest) -> str:
    """How a run that did not end can go on; empty where it has no whole checkpoint."""
    scenario = request.scenario
    last = newest_complete(request.out, range(scenario.devices), compute_digest(scenario))
    if last is None:
        return ""
    return f"`emulator resume {request.out}` goes on after {last + 1} of {scenario.rounds} rounds"


def _has_stopped(run: Path, device: int, last: int) -> bool:
    """Whether a limit of `stop` made the last round the last one."""
    state = read_checkpoint(run, device, last).state
    try:
        return bool(state["device"]["progress"]["stopped"])
    except (LookupError, TypeError):  # the device refuses such a state
        return False


def _same_scenario(run: Path, folder: Path) -> bool:
    """Whether the results in a run's folder are those of its checkpoints."""
    results = run / SCENARIO
    return results.is_file() and results.read_bytes() == (folder / SCENARIO).read_bytes()
