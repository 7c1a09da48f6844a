"""Conflicts between sections of a scenario, which no single section can detect.

A method, topology or access scheme declares its limits as attributes of its class, and so can a user's
own class. The checks here use only these attributes, never the class itself. The attributes, with the
value for a class that lacks them:

- method: `waits_for_all` (False), `loss_conflict(policy)` (none), `own_router` (none)
- topology: `unfit(devices)` (nothing)
- access: `shares_time` (False)
- channel: `needs_band` (False); for a channel with the components of `wireless` the kind of its rate
- tasks: `paraphrases` (None: the suite makes its own)
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from emulator.core.names import find_wrong_names
from emulator.network.channel.consistency import find_band_problems
from emulator.network.channel.model import Wireless

if TYPE_CHECKING:
    from emulator.scenario.schema import Scenario

GRAPHS_OF = {
    "clusters": ("clusters", "complete", "tasks"),
    "tasks": ("tasks",),
    "none": ("none",),
}
"""Graphs for a method that averages inside clusters, inside tasks, or not at all."""


def find_conflicts(scenario: "Scenario") -> list[str]:
    """Find all conflicts, one line each: where, got, wanted."""
    return [line for check in CHECKS for line in check(scenario)]


def _tasks(scenario: "Scenario") -> list[str]:
    names, unseen = scenario.tasks.names, scenario.evaluation.unseen_tasks
    problems = [f"tasks.names: {problem}" for problem in find_wrong_names(names)]
    if len(set(names)) < len(names):
        problems.append(f"tasks.names: got {list(names)}, wanted every task once")
    if scenario.devices < len(names):
        problems.append(
            f"devices: got {scenario.devices}, wanted at least one for each of {len(names)} tasks"
        )
    if set(unseen) & set(names) or len(set(unseen)) < len(unseen):
        problems.append(
            f"evaluation.unseen_tasks: got {list(unseen)}, wanted tasks that no device learns, each once"
        )
    if scenario.backbone.kind == "sentence_encoder" and _kind(scenario.tasks) == "synthetic":
        problems.append(
            "tasks.kind: got synthetic under a sentence encoder, wanted choice tasks (jsonl, hub)"
        )
    return problems


def _paraphrases(scenario: "Scenario") -> list[str]:
    """Conflicts of `evaluation` with a task suite whose paraphrases are templates in the scenario."""
    names = scenario.tasks.names
    templates = getattr(scenario.tasks, "paraphrases", None)
    if templates is None:
        return []
    problems = []
    unknown = sorted(set(templates) - set(names))
    if unknown:
        problems.append(f"tasks.paraphrases: got {unknown}, wanted some of {list(names)}")
    if scenario.evaluation.paraphrases != "none" and not templates:
        problems.append(
            f"evaluation.paraphrases: got {scenario.evaluation.paraphrases} without "
            "tasks.paraphrases, wanted other words for at least one task"
        )
    return problems


def _topology(scenario: "Scenario") -> list[str]:
    kind, method = _kind(scenario.topology), scenario.method
    problems = []
    wanted = GRAPHS_OF.get(method.topology_by_default)
    if wanted and kind not in ("by_method", *wanted):
        problems.append(
            f"topology.kind: got {kind} for {method.kind}, wanted "
            f"{', '.join(['by_method', *wanted[:-1]])} or {wanted[-1]}"
        )
    unfit: Callable[[int], Iterable[str]] | None = getattr(scenario.graph, "unfit", None)
    return problems + (list(unfit(scenario.devices)) if unfit else [])


def _schedule(scenario: "Scenario") -> list[str]:
    """Settings that need all devices at the same point of a run conflict with asynchronous rounds."""
    if scenario.schedule.kind == "synchronous":
        return []
    method = scenario.method
    together = {
        "stop": scenario.stop is not None,
        "clock.kind: paced": scenario.clock.kind == "paced",
        f"checkpoint_every: {scenario.checkpoint_every}": bool(scenario.checkpoint_every),
        "local.flop_per_s": bool(scenario.local.flop_per_s),
        f"method.kind: {method.kind}": bool(getattr(method, "waits_for_all", False)),
        **{
            f"method.{key}": getattr(method, key, None) is not None
            for key in ("recluster_every", "exchange_every")
        },
    }
    return [
        f"schedule.kind: got asynchronous with {key}, wanted one of the two"
        for key, there in together.items()
        if there
    ]


def _losses(scenario: "Scenario") -> list[str]:
    """Some policies for lost coordinates conflict with the merge of some methods."""
    policy = scenario.wire.lost_coordinates
    conflict: Callable[[str], str] | None = getattr(scenario.method, "loss_conflict", None)
    why = conflict(policy) if conflict else ""
    return [f"wire.lost_coordinates: got {policy} {why}"] if why else []


def _channel(scenario: "Scenario") -> list[str]:
    """Conflicts between channel and access scheme."""
    channel, access, problems = scenario.channel, scenario.access, []
    if getattr(channel, "needs_band", False) and _kind(access) == "ideal":
        problems.append(
            "access.kind: got ideal, but rate or losses depend on the noise of the band, wanted a "
            "finite band, e.g. {kind: ofdma, bandwidth_hz: 25.0e+3}"
        )
    if not isinstance(channel, Wireless):
        return problems
    if channel.rate.kind == "trace" and getattr(access, "shares_time", False):
        problems.append(
            f"access.kind: got {_kind(access)} with channel.rate.kind trace, wanted ideal or ofdma (the "
            "trace itself determines when a link can transmit)"
        )
    return problems + find_band_problems(channel, access.bandwidth_hz)


def find_branch_conflict(scenario: "Scenario", rounds: int) -> str:
    """Why a run that ends after fewer rounds than planned differs from one that is planned for them.

    Empty if it does not.
    """
    if scenario.schedule.kind == "asynchronous":
        return "under schedule.kind asynchronous a device has received what faster ones sent in later rounds"
    differs: Callable[[int], str] | None = getattr(scenario.method, "find_end_difference", None)
    return differs(rounds) if differs else ""


def _curve(scenario: "Scenario") -> list[str]:
    """A point of a curve is a branch, and a branch needs checkpoints."""
    every = scenario.evaluation.curve_every
    if not every:
        return []
    where = f"evaluation.curve_every: got {every}"
    if not scenario.rounds_per_checkpoint:
        return [f"{where} with checkpoint_every 0, wanted checkpoints: each point starts from one"]
    conflicts = (find_branch_conflict(scenario, r) for r in range(every, scenario.rounds, every))
    return [f"{where}, but {why}" for why in conflicts if why][:1]


def _backend(scenario: "Scenario") -> list[str]:
    """NCCL needs GPUs, synchronous rounds and the virtual clock."""
    against = {
        "accelerator: cpu": scenario.accelerator == "cpu",
        "schedule.kind: asynchronous": scenario.schedule.kind == "asynchronous",
        "clock.kind: paced": scenario.clock.kind == "paced",
    }
    return [
        f"backend: got nccl with {key}, wanted gloo, or another {key.split(':')[0]}"
        for key, there in against.items()
        if there and scenario.backend == "nccl"
    ]


def _kind(section: Any) -> str:
    """The kind of a section in YAML."""
    return str(section.kind)


CHECKS: Sequence[Callable[["Scenario"], list[str]]] = (
    _tasks, _paraphrases, _topology, _schedule, _losses, _channel, _backend, _curve,
)  # fmt: skip
