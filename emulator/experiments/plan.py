"""The runs that an experiment needs: their scenarios, their folders, and their order.

A run's folder is named after its method, scenario and seed, so experiments share runs.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from pydantic import BaseModel

from emulator.core.errors import ScenarioError, did_you_mean
from emulator.core.records import read_ledger
from emulator.core.run_files import read_topology
from emulator.core.yaml_file import Raw, read_mapping
from emulator.experiments.load import find_suite_scenario, read_experiment, read_suites
from emulator.experiments.schema import (
    Axis,
    Experiment,
    Overrides,
    PlannedRow,
    Point,
    Suite,
    SuiteUse,
    merge_overrides,
)
from emulator.learning.tasks.hub import Hub
from emulator.learning.tasks.jsonl import JsonLines
from emulator.learning.tasks.reading import read_all
from emulator.scenario.load import parse_override, read_scenario
from emulator.scenario.schema import Scenario

Key = tuple[str, float | None, int]
"""Row label, place on the axis and seed of a run."""

RATE = "method.learning_rate"

PLACEHOLDER_GRAPH: Raw = {"topology": {"kind": "complete"}}
"""The graph with which a row is checked before its own graph is known."""


@dataclass(frozen=True)
class Selection:
    """The part of an experiment that the user selects; empty or None: as in the experiment file."""

    suite: str
    seeds: int | None
    rows: tuple[str, ...]
    overrides: Overrides


@dataclass(frozen=True)
class PlannedRun:
    """One run: its row, place and seed, and the overrides of the suite's scenario that make it.

    after: the run whose clusters and message size fix this one's graph.
    """

    row: PlannedRow
    x: float | None
    seed: int
    base: Path
    overrides: Raw
    after: Key | None

    @property
    def key(self) -> Key:
        """The key of this run in its experiment."""
        return (self.row.label, self.x, self.seed)

    @property
    def title(self) -> str:
        """The run's name in messages."""
        place = "" if self.x is None else f" at {self.x:g}"
        return f"{self.row.label}{place}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """The runs of one experiment on one suite.

    all_runs: in order. selected_runs: those that the user selected; the others are drawn only where they
    exist already. common: overrides of the experiment for all rows on this suite. overrides: the user's.
    """

    name: str
    suite: str
    memory_mb: float
    experiment: Experiment
    rows: tuple[PlannedRow, ...]
    axis: Axis | None
    all_runs: tuple[PlannedRun, ...]
    selected_runs: tuple[PlannedRun, ...]
    common: Overrides
    overrides: Overrides


def plan_runs(name: str, experiment: Experiment, selection: Selection) -> Plan:
    """Plan all runs of an experiment, and check each as far as possible before any starts.

    Raises ScenarioError with every problem: an unknown suite or row, or a wrong scenario.
    """
    suite_name, suite, use = _find_suite(name, experiment, selection.suite)
    axis = use.axis or experiment.axis
    rows, chosen = _select_rows(experiment, use, selection.rows)
    seeds = range(1, (selection.seeds or use.seeds) + 1)
    points: Sequence[Point | None] = axis.points if axis else (None,)
    all_runs = tuple(
        PlannedRun(
            row=row,
            x=point.x if point else None,
            seed=seed,
            base=find_suite_scenario(suite),
            overrides=_merge_run_overrides(suite, use, row, point, selection, seed),
            after=(experiment.reference, point.x if point else None, seed)
            if row.needs_reference and experiment.reference is not None
            else None,
        )
        for point in points
        for seed in range(1, max(seeds[-1], use.seeds) + 1)
        for row in rows
    )
    wanted = tuple(run for run in all_runs if run.row.label in chosen and run.seed in seeds)
    _check(name, wanted)
    return Plan(
        name,
        suite_name,
        suite.memory_mb,
        experiment,
        rows,
        axis,
        all_runs,
        wanted,
        use.overrides,
        selection.overrides,
    )


def _check(name: str, runs: Sequence[PlannedRun]) -> None:
    """Check every run's scenario and each data folder once. A problem of all rows becomes one line."""
    rows_with: dict[str, dict[str, None]] = {}
    read: list[JsonLines] = []
    for run in runs:
        try:
            _check_seed(run)
            tasks = resolve(run, PLACEHOLDER_GRAPH if run.after else {}).tasks
            if isinstance(tasks, Hub) and tasks.folder is not None:
                tasks = tasks.in_folder(tasks.folder)
            if isinstance(tasks, JsonLines) and tasks not in read:
                read.append(tasks)
                read_all(tasks, product(tasks.names, ("train", "test")), run.seed)
        except ScenarioError as error:
            for problem in error.problems:
                rows_with.setdefault(problem, {})[run.row.label] = None
    all_labels = {run.row.label for run in runs}
    lines: list[str] = []
    for problem, labels in rows_with.items():
        whose = [""] if labels.keys() == all_labels else [f"{label}: " for label in labels]
        lines += [f"{name}: {label}{problem}" for label in whose]
    if lines:
        raise ScenarioError(lines)


def _check_seed(run: PlannedRun) -> None:
    if (got := run.overrides["seed"]) != run.seed:
        raise ScenarioError([f"seed: got {got!r}, wanted none (--seeds N runs seeds 1 ... N)"])


def resolve(run: PlannedRun, graph: Raw) -> Scenario:
    """Resolve the complete scenario of a run. graph: the overrides that set its graph."""
    overrides = merge_overrides(run.overrides, graph)
    ordered = sorted(overrides.items(), key=lambda item: not item[0].endswith("kind"))
    return read_scenario(
        run.base, [f"{key}={json.dumps(value)}" for key, value in ordered]
    ).scenario


def derive_graph_overrides(run: PlannedRun, reference: Path) -> Raw:
    """Derive the topology of a row from the folder of its reference run.

    A random graph gets as many edges as the clusters have, but at least the number of devices less one,
    without which it cannot be connected.
    """
    written = read_topology(reference)
    edges = sorted({tuple(sorted((link.sender, link.receiver))) for link in written.links})
    if run.row.graph == "clusters":
        return {"topology": {"kind": "edges", "edges": [list(edge) for edge in edges]}}
    fewest = len(written.positions_m) - 1
    topology: Raw = {"kind": "random_feasible", "num_edges": max(len(edges), fewest)}
    message_bytes = _message_bytes(reference)
    return {"topology": topology | ({"message_bytes": message_bytes} if message_bytes else {})}


def name_run_folder(store: Path, scenario: Scenario) -> Path:
    """Name the folder of a scenario's run: equal for equal scenarios, different for different ones.

    The name depends on the values that differ from their defaults, so a new key whose default changes
    nothing does not rename old runs. It also depends on the content of the user's files: plug-ins, task
    files, tables of a channel. (Of a backbone only the name counts.)
    """
    text = json.dumps(_non_default_values(scenario), sort_keys=True)
    text += "".join(_digest_file(path) for path in sorted(_find_own_files(scenario)))
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    method = scenario.method.kind.rsplit(":", 1)[-1]
    return store / f"{method}-{digest}-{scenario.seed}"


def is_complete(folder: Path, scenario: Scenario) -> bool:
    """Whether the folder holds a finished run of exactly this scenario."""
    if not (folder / "summary.json").is_file():
        return False
    try:
        return read_scenario(folder / "scenario.yaml").scenario == scenario
    except ScenarioError:
        return False


def _non_default_values(section: BaseModel) -> Raw:
    """Return the values of a section that differ from their defaults, and always its kind."""
    values: Raw = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        by_default = not field.is_required() and value == field.get_default(
            call_default_factory=True
        )
        if name != "kind" and by_default:
            continue
        if isinstance(value, BaseModel):
            values[name] = _non_default_values(value)
        else:
            values[name] = section.model_dump(mode="json", include={name})[name]
    return values


def _find_own_files(section: BaseModel) -> set[Path]:
    """Find the user's files that a section names: the module of a plug-in, and data."""
    files = set()
    if ":" in str(getattr(section, "kind", "")):
        files.add(Path(inspect.getfile(type(section))))
    if isinstance(section, JsonLines | Hub) and section.folder is not None:
        files |= {
            file for name in section.names for file in (section.folder / name).glob("*.jsonl")
        }
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            files |= _find_own_files(value)
        elif name == "path" and isinstance(value, str | Path):
            files.add(Path(value))
    return {file for file in files if file.is_file()}


def _digest_file(path: Path) -> str:
    """Return a digest of a file's content; the file is read again only when it has changed."""
    state = path.stat()
    return _digest_version(path, state.st_mtime_ns, state.st_size)


@cache
def _digest_version(path: Path, _changed_ns: int, _size: int) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()


def find_runs(
    runs: Sequence[PlannedRun], store: Path, known: Mapping[Key, Path] | None = None
) -> dict[Key, Path]:
    """Find the folders of the runs that exist; a run without its reference run counts as missing."""
    folders = dict(known or {})
    for run in sorted(runs, key=lambda run: run.after is not None):  # references first
        if run.key in folders or (run.after is not None and run.after not in folders):
            continue
        try:
            graph = derive_graph_overrides(run, folders[run.after]) if run.after else {}
            scenario = resolve(run, graph)
        except ScenarioError:
            continue
        if is_complete(folder := name_run_folder(store, scenario), scenario):
            folders[run.key] = folder
    return folders


def parse_overrides(texts: Sequence[str]) -> Overrides:
    """Parse `key.path=value` texts of the command line."""
    overrides: Overrides = {}
    for text in texts:
        keys, value = parse_override(text)
        overrides = merge_overrides(overrides, {".".join(keys): value})
    return overrides


def supports_suite(name: str, suite: str) -> bool:
    """Return whether an experiment of the package can run on a suite."""
    known = read_suites().get(suite)
    family = (known.family if known else None) or suite
    return family in read_experiment(name).suites


def _find_suite(name: str, experiment: Experiment, requested: str) -> tuple[str, Suite, SuiteUse]:
    """Find the suite, and the part of the experiment for it. Raises ScenarioError."""
    suites = read_suites()
    if unknown := sorted(experiment.suites.keys() - suites.keys()):
        known = ", ".join(suites)
        raise ScenarioError([f"{name}: suites: got {x!r}, wanted some of {known}" for x in unknown])
    if requested not in suites:
        hint = did_you_mean(requested, suites)
        known = ", ".join(suites)
        raise ScenarioError([f"--suite: got {requested!r}, wanted one of {known}{hint}"])
    suite = suites[requested]
    family = suite.family or requested
    if family not in experiment.suites:
        known = ", ".join(experiment.suites)
        raise ScenarioError([f"--suite: got {requested!r} for {name}, wanted one of {known}"])
    return requested, suite, experiment.suites[family]


def _select_rows(
    experiment: Experiment, use: SuiteUse, requested: Sequence[str]
) -> tuple[tuple[PlannedRow, ...], set[str]]:
    """Select the rows to draw and the labels to run, with the reference row where one needs it."""
    rows = experiment.planned_rows()
    known = [row.label for row in rows]
    for label in requested:
        if label not in known:
            raise ScenarioError([f"--rows: got {label!r}, wanted some of {', '.join(known)}"])
    usual = [label for label in use.rows or known if label not in use.without]
    chosen = set(requested or usual)
    on_another = any(row.needs_reference for row in rows if row.label in chosen)
    if on_another and experiment.reference is not None:
        chosen.add(experiment.reference)
    drawn = chosen.union(usual)
    return tuple(row for row in rows if row.label in drawn), chosen


def _merge_run_overrides(
    suite: Suite,
    use: SuiteUse,
    row: PlannedRow,
    point: Point | None,
    selection: Selection,
    seed: int,
) -> Raw:
    """Merge the overrides of a run: suite, experiment, row, point, then those of the command line."""
    place = point.overrides if point else {}
    back = {key for key, value in row.fixed.items() if value is None and key in place}
    place, fixed = ({k: v for k, v in x.items() if k not in back} for x in (place, row.fixed))
    overrides = merge_overrides(suite.overrides, use.overrides, row.overrides, place, fixed)
    kind = _find_method_kind(suite, overrides)
    rates = suite.learning_rates
    rate = rates.get(row.label.split(" on ")[0], rates.get(kind))
    if rate is not None and RATE not in overrides:
        overrides[RATE] = rate
    if row.graph == "mesh":
        overrides = merge_overrides(overrides, {"topology": {"kind": "complete"}})
    return _select_task_entries(
        merge_overrides({"seed": seed}, overrides, selection.overrides), suite
    )


def _find_method_kind(suite: Suite, overrides: Raw) -> str:
    """Find the kind of a row's method: its own, or that of the suite's scenario."""
    if "method.kind" in overrides:
        return str(overrides["method.kind"])
    scenario = read_mapping(find_suite_scenario(suite), "a scenario")
    section = overrides.get("method") or scenario.get("method")
    return str(section.get("kind")) if isinstance(section, dict) else ""


def _select_task_entries(overrides: Raw, suite: Suite) -> Raw:
    """Replace `tasks.names` by the suite's task entries of these names, where it has entries (hub)."""
    names = overrides.get("tasks.names")
    if not isinstance(names, list):
        return overrides
    entries = read_mapping(find_suite_scenario(suite), "a scenario").get("tasks", {}).get("tasks")
    if entries is None:
        return overrides
    entry_of = {entry["name"]: entry for entry in entries}
    if unknown := [name for name in names if name not in entry_of]:
        known = ", ".join(entry_of)
        raise ScenarioError([f"tasks.names: got {x!r}, wanted some of {known}" for x in unknown])
    rest = {key: value for key, value in overrides.items() if key != "tasks.names"}
    return merge_overrides(rest, {"tasks.tasks": [entry_of[name] for name in names]})


def _message_bytes(reference: Path) -> int:
    """Mean air bytes of a burst in the rounds of the reference run, without retransmissions.

    0 where no device transmitted in the rounds.
    """
    sizes = [
        r.header_bytes + r.checksum_bytes + r.mask_bytes + r.payload_bytes
        for r in read_ledger(reference / "ledger.parquet")
        if r.traffic == "in_cluster"
    ]
    return round(sum(sizes) / len(sizes)) if sizes else 0
