"""How an interrupted run goes on from its checkpoints, a finished one for more rounds, and a branch of one."""

from dataclasses import dataclass, replace
from pathlib import Path

from emulator.core.errors import ScenarioError
from emulator.runtime.checkpoint_files import (
    FOLDER,
    SCENARIO,
    find_newest_problems,
    list_complete,
    newest_complete,
    read_checkpoint,
)
from emulator.runtime.launcher_env import find_local_devices, read_launcher_world
from emulator.runtime.run import RunRequest, check_driver_name
from emulator.scenario.compatibility import find_branch_conflict
from emulator.scenario.load import dump_scenario, read_scenario
from emulator.scenario.schema import Scenario
from emulator.scenario.terms import compute_digest


@dataclass(frozen=True)
class Resumption:
    """What the user asks for.

    rounds: how many rounds there are to be, the past ones included; None: as planned. from_round: go on
    after so many rounds; None: after as many as possible. finish: end the run there. out: the folder of a
    branch, which leaves `run` as it is; None: go on in `run`. force: replace an earlier run in `out`.
    """

    run: Path
    driver: str
    rounds: int | None = None
    from_round: int | None = None
    finish: bool = False
    out: Path | None = None
    force: bool = False
    devices_per_host: int | None = None


def plan_resumption(asked: Resumption) -> tuple[RunRequest, list[str]]:
    """What goes on in a run's folder or in that of a branch, and notes on its result.

    Raises ScenarioError where there is nothing to go on from, or nothing left to do.
    """
    run, folder = asked.run, asked.run / FOLDER
    check_driver_name(asked.driver)
    _check_options(asked)
    if not run.is_dir():
        raise ScenarioError([f"{run}: no such folder"])
    if not (folder / SCENARIO).is_file():
        raise ScenarioError([f"{run}: got no {FOLDER}/{SCENARIO}, wanted a run with checkpoints"])
    planned = read_scenario(folder / SCENARIO, []).scenario
    place = read_launcher_world()
    here = find_local_devices(place, planned.devices, asked.devices_per_host)
    last = _choose_round(asked, planned, here)
    if asked.finish:
        scenario = _end_after(planned, last + 1, folder / SCENARIO)
    else:
        scenario = _plan_rounds(asked, planned, last)
        if scenario.rounds > last + 1 and _has_stopped(run, here[0], last):
            raise ScenarioError(
                [
                    f"--rounds: got {scenario.rounds}, but a limit of stop ended {run} after round {last + 1}, "
                    "wanted a new run with another limit"
                ]
            )
    request = RunRequest(
        scenario,
        asked.driver,
        asked.out or run,
        force=asked.force or asked.out is None,
        devices_per_host=asked.devices_per_host,
        resumed_after=last,
        source=(run.resolve(), compute_digest(planned)) if asked.out else None,
    )
    return request, describe_other_rounds(planned, scenario, last + 1)


def _check_options(asked: Resumption) -> None:
    """Raise ScenarioError for options that exclude or need each other."""
    branches = {"--from-round": asked.from_round is not None, "--finish": asked.finish}
    named = " and ".join(option for option, is_given in branches.items() if is_given)
    if named and asked.out is None:
        raise ScenarioError(
            [
                f"--out: got nothing with {named}, wanted the folder of the branch ({asked.run} stays)"
            ]
        )
    if asked.finish and asked.rounds is not None:
        raise ScenarioError([f"--rounds: got {asked.rounds} with --finish, wanted one of the two"])
    if asked.out is not None and asked.out.resolve() == asked.run.resolve():
        raise ScenarioError([f"--out: got {asked.out}, the run itself, wanted another folder"])


def _choose_round(asked: Resumption, planned: Scenario, here: range) -> int:
    """The round after which the devices of this process go on."""
    run, digest = asked.run, compute_digest(planned)
    if asked.from_round is None:
        last = newest_complete(run, here, digest)
        if last is None:
            raise ScenarioError(
                [
                    f"{run}: got no round of which all devices have a whole checkpoint, wanted one "
                    "(emulator run --force begins it again)",
                    *find_newest_problems(run, here, digest),
                ]
            )
        return last
    kept = [r + 1 for r in list_complete(run, here, digest)]
    if asked.from_round not in kept:
        raise ScenarioError(
            [
                f"--from-round: got {asked.from_round}, wanted one of {', '.join(map(str, kept)) or 'none'}: "
                f"after these rounds {run} has whole checkpoints (checkpoint_keep)"
            ]
        )
    return asked.from_round - 1


def _plan_rounds(asked: Resumption, planned: Scenario, last: int) -> Scenario:
    """The scenario of a run that goes on for all of its rounds, or for more."""
    run, rounds = asked.run, asked.rounds
    if rounds is not None and rounds <= last + 1:
        raise ScenarioError([f"--rounds: got {rounds}, wanted more than the {last + 1} of {run}"])
    has_ended = (run / "summary.json").is_file() and _same_scenario(run, run / FOLDER)
    if asked.out is None and rounds is None and has_ended:
        raise ScenarioError(
            [f"{run}: got a run that has ended, wanted one that was interrupted, or --rounds"]
        )
    if asked.out is None and rounds is not None and not has_ended and rounds < planned.rounds:
        raise ScenarioError(
            [
                f"--rounds: got {rounds}, wanted at least the {planned.rounds} for which {run} was begun"
            ]
        )
    if rounds is None:
        return planned
    return read_scenario(run / FOLDER / SCENARIO, [f"rounds={rounds}"]).scenario


def _end_after(planned: Scenario, rounds: int, file: Path) -> Scenario:
    """The scenario of a run that was planned for more rounds and ends after some of them.

    What its setup derived from the number of rounds is written out. Raises ScenarioError.
    """
    if planned.rounds != rounds and (why := find_branch_conflict(planned, rounds)):
        raise ScenarioError([f"--finish: got {rounds} of {planned.rounds} rounds, but {why}"])
    scenario = read_scenario(file, [f"rounds={rounds}"]).scenario
    plan = getattr(scenario.method, "plan", None)
    if plan is None:
        return scenario
    return scenario.model_copy(update={"method": plan(planned.rounds * planned.local.steps)})


def describe_other_rounds(planned: Scenario, scenario: Scenario, done: int) -> list[str]:
    """A note if a run may differ from one that was planned for its number of rounds from the start.

    planned: the scenario that it was begun with. done: rounds after which it goes on.
    """
    if scenario.rounds == planned.rounds:
        return []
    method = scenario.method
    reasons = [*getattr(method, "planned_by_rounds", ())]
    if done == planned.rounds:
        reasons += (
            [method.find_end_difference(done)] if hasattr(method, "find_end_difference") else []
        )
    named = ", ".join(reason for reason in reasons if reason)
    return [
        f"{method.kind} was planned for {planned.rounds} rounds ({named}); the run may end otherwise than "
        f"one that is planned for {scenario.rounds}"
    ] * bool(named)


def resume_or_start(request: RunRequest) -> RunRequest:
    """The same run from its checkpoints, where its folder holds some of the same scenario."""
    path, scenario = request.out / FOLDER / SCENARIO, request.scenario
    if not path.is_file() or path.read_bytes() != dump_scenario(scenario).encode():
        return request
    here = find_local_devices(read_launcher_world(), scenario.devices, request.devices_per_host)
    last = newest_complete(request.out, here, compute_digest(scenario))
    return replace(request, resumed_after=last, force=request.force or last is not None)


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
