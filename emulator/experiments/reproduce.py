"""`emulator reproduce`: run the missing runs of an experiment, then draw its tables and figures.

Nothing is run twice: a complete folder with the same scenario is used as it is. A failed run is reported
in one line and the others go on; the table lists the missing runs.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.core.places import check_drawings_folder, check_place, writing
from emulator.core.yaml_file import Raw
from emulator.experiments.charts import draw
from emulator.experiments.load import list_experiments, read_experiment
from emulator.experiments.plan import (
    RATE,
    Key,
    Plan,
    PlannedRun,
    Selection,
    derive_graph_overrides,
    find_runs,
    is_complete,
    name_run_folder,
    parse_overrides,
    plan_runs,
    resolve,
    supports_suite,
)
from emulator.experiments.runs import RunLine, collect_by_seed, format_csv, read_run
from emulator.experiments.schema import MOST_SEEDS
from emulator.experiments.statistics import estimate
from emulator.experiments.tables import Drawn, build_document, check_columns
from emulator.experiments.worker_pool import Workers, choose_jobs
from emulator.scenario.schema import Scenario

PrintLine = Callable[[str], None]
"""Prints one line for the user."""


@dataclass
class PlanProgress:
    """The state of a plan's runs: folders of complete runs, causes of failures, durations [s]."""

    folders: dict[Key, Path] = field(default_factory=dict)
    causes: dict[Key, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def known(self) -> int:
        """The number of runs that are complete or have failed."""
        return len(self.folders) + len(self.causes)


@dataclass(frozen=True)
class PlannedWork:
    """The plans of all requested experiments, all of them checked."""

    plans: tuple[Plan, ...]


def plan_experiments(
    name: str,
    suite: str,
    seeds: int | None,
    rows: tuple[str, ...],
    overrides: Sequence[str],
) -> PlannedWork:
    """Plan one experiment, or with `all` every experiment of the package on the suite except `tune`.

    Raises ScenarioError with every problem before anything runs.
    """
    if seeds is not None and seeds > MOST_SEEDS:
        raise ScenarioError([f"--seeds: got {seeds}, wanted at most {MOST_SEEDS}"])
    selection = Selection(suite, seeds, rows, parse_overrides(overrides))
    names = (
        [n for n in list_experiments() if n != "tune" and supports_suite(n, suite)]
        if name == "all"
        else [name]
    )
    plans = []
    for each in names:
        experiment = read_experiment(each)
        check_columns(experiment, each)
        plans.append(plan_runs(Path(each).stem, experiment, selection))
    return PlannedWork(tuple(plans))


def list_runs(planned: PlannedWork, out: Path | None) -> list[str]:
    """List one line per run, with existing ones marked, and the number of missing runs as the last line.

    Raises ScenarioError for a folder that cannot be written, as `reproduce_experiments` does.
    """
    _check_folders(planned, out)
    lines, missing = [], 0
    for each in planned.plans:
        store, _ = _choose_folders(each, out, several=len(planned.plans) > 1)
        there = find_runs(each.selected_runs, store)
        missing += len(each.selected_runs) - len(there)
        lines += [
            f"{each.name}: {wanted.title}{' (there)' if wanted.key in there else ''}"
            for wanted in each.selected_runs
        ]
    return [*lines, f"{missing} of {len(lines)} to run, into {store}"]


def reproduce_experiments(
    planned: PlannedWork, out: Path | None, jobs: int | None, print_line: PrintLine
) -> None:
    """Run the missing runs, and draw each experiment as soon as its runs have ended.

    out: folder of the drawings, with the runs in its `runs`; by default runs/reproduce/SUITE/NAME, where
    all experiments of a suite share runs/reproduce/SUITE/runs.
    Raises ScenarioError before anything runs where a folder cannot be written, EmulatorError at the end
    when runs have failed, and KeyboardInterrupt at once; finished runs are kept.
    """
    _check_folders(planned, out)
    failed = 0
    for each in planned.plans:
        store, drawings = _choose_folders(each, out, several=len(planned.plans) > 1)
        at_a_time = min(jobs or choose_jobs(each.memory_mb), len(each.selected_runs))
        print_line(
            f"{each.name} on {each.suite}: {len(each.selected_runs)} runs, {at_a_time} at a time"
        )
        with Workers(at_a_time) as workers:
            progress = PlanRunner(each, store, workers, print_line).run_all()
        there = len(progress.folders) - len(progress.seconds)
        progress.folders |= find_runs(each.all_runs, store, progress.folders)
        drawn = "nothing drawn"
        if progress.folders:
            with writing(drawings):
                write_drawings(each, progress, drawings)
            drawn = str(drawings / "table.md")
        failed += len(progress.causes)
        print_line(
            f"{each.name}: {len(progress.seconds)} runs new, {there} were there, "
            f"{len(progress.causes)} failed: {drawn}"
        )
    if failed:
        total = sum(len(each.selected_runs) for each in planned.plans)
        raise EmulatorError(
            f"{failed} of {total} runs failed; tables and figures are drawn from others if there are "
            "any, and the same command tries those again"
        )


def _choose_folders(each: Plan, out: Path | None, *, several: bool) -> tuple[Path, Path]:
    """Choose the folders of an experiment's runs, and of its tables and figures."""
    shared = Path("runs") / "reproduce" / each.suite
    if out is None and each.overrides:  # do not replace the tables without overrides
        text = json.dumps(each.overrides, sort_keys=True).encode()
        digest = hashlib.blake2b(text, digest_size=3).hexdigest()
        return shared / "runs", shared / f"{each.name}-changed-{digest}"
    if out is None:
        return shared / "runs", shared / each.name
    return out / "runs", out / each.name if several else out


def _check_folders(planned: PlannedWork, out: Path | None) -> None:
    """Raise ScenarioError where runs or drawings cannot be written, or would replace other files."""
    for each in planned.plans:
        store, drawings = _choose_folders(each, out, several=len(planned.plans) > 1)
        check_place(drawings)
        check_place(store)
        if out is not None:
            check_drawings_folder(drawings)


# ── running ──────────────────────────────────────────────────────────────────────────────────────


class PlanRunner:
    """Runs one plan: it uses existing runs and starts the others, reference runs first."""

    def __init__(self, each: Plan, store: Path, workers: Workers, print_line: PrintLine) -> None:
        self._plan = each
        self._store = store
        self._workers = workers
        self._print_line = print_line
        self._scenarios: dict[Key, Scenario] = {}
        self._started: dict[Path, PlannedRun] = {}
        self.progress = PlanProgress()

    def run_all(self) -> PlanProgress:
        """Return the progress when every run is complete or has failed."""
        with writing(self._store):
            self._store.mkdir(parents=True, exist_ok=True)
        waiting = list(self._plan.selected_runs)
        while waiting or self._workers.running:
            still = [wanted for wanted in waiting if not self._advance(wanted)]
            others_may_follow, waiting = len(still) < len(waiting), still
            if self._workers.running and not others_may_follow:
                self._collect_ended()
        return self.progress

    def _advance(self, wanted: PlannedRun) -> bool:
        """Use an existing run, start it, or give it up; return False while it has to wait."""
        progress, after = self.progress, wanted.after
        if after in progress.causes:
            progress.causes[wanted.key] = "the run it takes its graph from failed"
            return True
        if after is not None and after not in progress.folders:
            return False
        scenario = self._scenario(wanted)
        if scenario is None:
            return True
        folder = name_run_folder(self._store, scenario)
        if folder in self._workers.running:
            return False
        if is_complete(folder, scenario):
            progress.folders[wanted.key] = folder
            return True
        if folder in self._started:  # an equal scenario of another row has failed
            progress.causes[wanted.key] = progress.causes[self._started[folder].key]
            return True
        if not self._workers.has_room:
            return False
        self._started[folder] = wanted
        self._workers.start(scenario, folder)
        return True

    def _scenario(self, wanted: PlannedRun) -> Scenario | None:
        """Resolve the run's scenario with its graph; on an error record the cause and return None."""
        if wanted.key not in self._scenarios:
            try:
                graph: Raw = {}
                if wanted.after is not None:
                    graph = derive_graph_overrides(wanted, self.progress.folders[wanted.after])
                self._scenarios[wanted.key] = resolve(wanted, graph)
            except EmulatorError as error:
                self._give_up(wanted, "; ".join(str(error).splitlines()))
        return self._scenarios.get(wanted.key)

    def _collect_ended(self) -> None:
        """Wait until a run ends, and report the ended runs."""
        for ended in self._workers.wait_for_ended():
            wanted = self._started[ended.folder]
            if ended.cause:
                self._give_up(wanted, ended.cause)
                continue
            self.progress.seconds.append(ended.seconds)
            self.progress.folders[wanted.key] = ended.folder
            total = len(self._plan.selected_runs)
            self._print_line(
                format_progress(wanted, ended.folder, self.progress, total, self._workers.jobs)
            )

    def _give_up(self, wanted: PlannedRun, cause: str) -> None:
        self.progress.causes[wanted.key] = cause
        self._print_line(f"failed: {wanted.title}: {cause}")


def format_progress(
    wanted: PlannedRun, folder: Path, progress: PlanProgress, total: int, jobs: int
) -> str:
    """Format a line such as `[3/50] lora, seed 2: 17.5 % in 61 s; about 12 min left`."""
    line = read_run(wanted.row.label, wanted.x, folder)
    left_s = estimate(progress.seconds).mean * (total - progress.known) / jobs
    left = f"about {left_s / 60:.0f} min left" if left_s >= 60 else "less than a minute left"
    accuracy = line.values["accuracy"]
    got = "-" if accuracy is None else f"{100 * accuracy:.1f} %"
    ending = left if total > progress.known else "the last one"
    return f"[{progress.known}/{total}] {wanted.title}: {got} in {progress.seconds[-1]:.0f} s; {ending}"


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────


def write_drawings(each: Plan, progress: PlanProgress, folder: Path) -> None:
    """Write results.csv, table.md, the figures with their data, and the learning rates of `tune`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        read_run(run.row.label, run.x, progress.folders[run.key])
        for run in each.all_runs
        if run.key in progress.folders
    ]
    here = {line.row for line in lines} | {run.row.label for run in each.selected_runs}
    drawn = Drawn(
        name=each.name,
        suite=each.suite,
        experiment=each.experiment,
        rows=[row for row in each.rows if row.label in here],
        lines=lines,
        common=each.common,
        overrides=each.overrides,
        learning_rates=_list_rates(each.all_runs),
        missing=[
            f"{wanted.title}: {progress.causes[wanted.key]}"
            for wanted in each.selected_runs
            if wanted.key in progress.causes
        ],
        axis_label=each.axis.label if each.axis else "",
    )
    (folder / "table.md").write_text(build_document(drawn), encoding="utf-8")
    (folder / "results.csv").write_text(format_csv(lines), encoding="utf-8")
    for chart in each.experiment.charts:
        draw(chart, drawn).write(folder)
    if each.experiment.chooses_rates:
        rates = find_best_places(lines)
        text = "".join(f"{row}: {rate!r}\n" for row, rate in rates.items())
        (folder / "learning_rates.yaml").write_text(text, encoding="utf-8")


def _list_rates(runs: Sequence[PlannedRun]) -> dict[str, float]:
    """List the learning rate that an experiment or its suite sets for each row, if it is only one."""
    given: dict[str, set[float]] = {}
    for run in runs:
        given.setdefault(run.row.label, set()).add(run.overrides.get(RATE, math.nan))
    return {row: rates.pop() for row, rates in given.items() if len(rates) == 1}


def find_best_places(lines: Sequence[RunLine]) -> dict[str, float]:
    """Find the point of the axis with the highest mean accuracy of each row; the lowest of equals."""
    best: dict[str, tuple[float, float]] = {}
    for row in dict.fromkeys(line.row for line in lines):
        for x in sorted({line.x for line in lines if line.row == row and line.x is not None}):
            values = collect_by_seed(lines, row, "accuracy", x)
            mean = estimate(list(values.values())).mean if values else -1.0
            if row not in best or mean > best[row][1]:
                best[row] = (x, mean)
    return {row: x for row, (x, _) in best.items()}
