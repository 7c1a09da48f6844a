"""`emulator reproduce`: run what an experiment lacks, then draw its tables and figures.

Nothing is run twice: a run whose folder holds the same scenario is taken as it is. A failing run is
told in one line and the others go on; what is drawn says what is missing.
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
from emulator.experiments.load import experiment_names, read_experiment
from emulator.experiments.plan import (
    RATE,
    Key,
    Plan,
    Wanted,
    Wish,
    found,
    graph_overrides,
    is_whole,
    knows,
    parse_overrides,
    plan,
    resolve,
    run_folder,
)
from emulator.experiments.runs import RunLine, by_seed, lines_csv, read_run
from emulator.experiments.schema import MOST_SEEDS
from emulator.experiments.statistics import estimate
from emulator.experiments.tables import Drawn, check_columns, document
from emulator.experiments.worker_pool import Workers, default_jobs
from emulator.scenario.schema import Scenario

Say = Callable[[str], None]
"""Takes one line for the user."""


@dataclass
class Progress:
    """What has become of a plan's runs."""

    folders: dict[Key, Path] = field(default_factory=dict)
    causes: dict[Key, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def known(self) -> int:
        """Runs of which the end is known."""
        return len(self.folders) + len(self.causes)


@dataclass(frozen=True)
class Todo:
    """What was asked for, all of it checked."""

    plans: tuple[Plan, ...]


def asked(
    name: str,
    suite: str,
    seeds: int | None,
    rows: tuple[str, ...],
    overrides: Sequence[str],
) -> Todo:
    """The plans behind NAME: one experiment's, or with `all` those of every one of the package that
    knows the suite, but `tune`. Raises ScenarioError with every problem before anything is run.
    """
    if seeds is not None and seeds > MOST_SEEDS:
        raise ScenarioError([f"--seeds: got {seeds}, wanted at most {MOST_SEEDS}"])
    wish = Wish(suite, seeds, rows, parse_overrides(overrides))
    names = (
        [n for n in experiment_names() if n != "tune" and knows(n, suite)]
        if name == "all"
        else [name]
    )
    plans = []
    for each in names:
        experiment = read_experiment(each)
        check_columns(experiment, each)
        plans.append(plan(Path(each).stem, experiment, wish))
    return Todo(tuple(plans))


def outlook(todo: Todo, out: Path | None) -> list[str]:
    """One line per run, with those that are there marked, and at last how many are lacking.

    Raises ScenarioError for a folder that cannot be written to, as `reproduce` does.
    """
    _check_folders(todo, out)
    told, lacking = [], 0
    for each in todo.plans:
        store, _ = _folders(each, out, several=len(todo.plans) > 1)
        there = found(each.wanted, store)
        lacking += len(each.wanted) - len(there)
        told += [
            f"{each.name}: {wanted.title}{' (there)' if wanted.key in there else ''}"
            for wanted in each.wanted
        ]
    return [*told, f"{lacking} of {len(told)} to run, into {store}"]


def reproduce(todo: Todo, out: Path | None, jobs: int | None, say: Say) -> None:
    """Run what is lacking and draw each experiment as soon as its runs are there.

    out: the drawings' folder, the runs in `runs` inside it; by default runs/reproduce/SUITE/NAME, and
    all experiments of a suite share runs/reproduce/SUITE/runs.
    Raises ScenarioError before anything runs where that cannot be written; EmulatorError at the end
    when runs have failed; lets KeyboardInterrupt through at once, with every finished run kept.
    """
    _check_folders(todo, out)
    failed = 0
    for each in todo.plans:
        store, drawings = _folders(each, out, several=len(todo.plans) > 1)
        at_a_time = min(jobs or default_jobs(each.memory_mb), len(each.wanted))
        say(f"{each.name} on {each.suite}: {len(each.wanted)} runs, {at_a_time} at a time")
        with Workers(at_a_time) as workers:
            progress = Walk(each, store, workers, say).to_its_end()
        there = len(progress.folders) - len(progress.seconds)
        progress.folders |= found(each.everything, store, progress.folders)
        drawn = "nothing drawn"
        if progress.folders:
            with writing(drawings):
                write_drawings(each, progress, drawings)
            drawn = str(drawings / "table.md")
        failed += len(progress.causes)
        say(
            f"{each.name}: {len(progress.seconds)} runs new, {there} were there, "
            f"{len(progress.causes)} failed: {drawn}"
        )
    if failed:
        total = sum(len(each.wanted) for each in todo.plans)
        raise EmulatorError(
            f"{failed} of {total} runs failed; tables and figures are drawn from others if there are "
            "any, and the same command tries those again"
        )


def _folders(each: Plan, out: Path | None, *, several: bool) -> tuple[Path, Path]:
    """Where the runs of an experiment lie, and where its tables and figures go."""
    shared = Path("runs") / "reproduce" / each.suite
    if out is None and each.overrides:  # beside the experiment's own tables, not in their place
        told = json.dumps(each.overrides, sort_keys=True).encode()
        digest = hashlib.blake2b(told, digest_size=3).hexdigest()
        return shared / "runs", shared / f"{each.name}-changed-{digest}"
    if out is None:
        return shared / "runs", shared / each.name
    return out / "runs", out / each.name if several else out


def _check_folders(todo: Todo, out: Path | None) -> None:
    """Raise ScenarioError where runs, tables or figures cannot be written, or not without harm."""
    for each in todo.plans:
        store, drawings = _folders(each, out, several=len(todo.plans) > 1)
        check_place(drawings)
        check_place(store)
        if out is not None:
            check_drawings_folder(drawings)


# ── running ──────────────────────────────────────────────────────────────────────────────────────


class Walk:
    """One plan being carried out: runs that are there are taken, the others run, references first."""

    def __init__(self, each: Plan, store: Path, workers: Workers, say: Say) -> None:
        self._plan = each
        self._store = store
        self._workers = workers
        self._say = say
        self._scenarios: dict[Key, Scenario] = {}
        self._started: dict[Path, Wanted] = {}
        self.progress = Progress()

    def to_its_end(self) -> Progress:
        """Returns when every run is there or has failed."""
        with writing(self._store):
            self._store.mkdir(parents=True, exist_ok=True)
        waiting = list(self._plan.wanted)
        while waiting or self._workers.running:
            still = [wanted for wanted in waiting if not self._settle(wanted)]
            others_may_follow, waiting = len(still) < len(waiting), still
            if self._workers.running and not others_may_follow:
                self._take_ended()
        return self.progress

    def _settle(self, wanted: Wanted) -> bool:
        """Take, start or give up a waiting run; False where it has to wait on."""
        progress, after = self.progress, wanted.after
        if after in progress.causes:
            progress.causes[wanted.key] = "the run it takes its graph from failed"
            return True
        if after is not None and after not in progress.folders:
            return False
        scenario = self._scenario(wanted)
        if scenario is None:
            return True
        folder = run_folder(self._store, scenario)
        if folder in self._workers.running:
            return False
        if is_whole(folder, scenario):
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

    def _scenario(self, wanted: Wanted) -> Scenario | None:
        """The run's scenario, its graph included; None, and the cause noted, where it has none."""
        if wanted.key not in self._scenarios:
            try:
                graph: Raw = {}
                if wanted.after is not None:
                    graph = graph_overrides(wanted, self.progress.folders[wanted.after])
                self._scenarios[wanted.key] = resolve(wanted, graph)
            except EmulatorError as error:
                self._give_up(wanted, "; ".join(str(error).splitlines()))
        return self._scenarios.get(wanted.key)

    def _take_ended(self) -> None:
        """Wait for a run to end and tell of it."""
        for ended in self._workers.next_ended():
            wanted = self._started[ended.folder]
            if ended.cause:
                self._give_up(wanted, ended.cause)
                continue
            self.progress.seconds.append(ended.seconds)
            self.progress.folders[wanted.key] = ended.folder
            total = len(self._plan.wanted)
            self._say(progress_line(wanted, ended.folder, self.progress, total, self._workers.jobs))

    def _give_up(self, wanted: Wanted, cause: str) -> None:
        self.progress.causes[wanted.key] = cause
        self._say(f"failed: {wanted.title}: {cause}")


def progress_line(wanted: Wanted, folder: Path, progress: Progress, total: int, jobs: int) -> str:
    """`[3/50] lora, seed 2: 17.5 % in 61 s; about 12 min left`."""
    line = read_run(wanted.row.label, wanted.x, folder)
    left_s = estimate(progress.seconds).mean * (total - progress.known) / jobs
    left = f"about {left_s / 60:.0f} min left" if left_s >= 60 else "less than a minute left"
    accuracy = line.values["accuracy"]
    got = "-" if accuracy is None else f"{100 * accuracy:.1f} %"
    ending = left if total > progress.known else "the last one"
    return f"[{progress.known}/{total}] {wanted.title}: {got} in {progress.seconds[-1]:.0f} s; {ending}"


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────


def write_drawings(each: Plan, progress: Progress, folder: Path) -> None:
    """results.csv, table.md, the figures with their data, and what `tune` has chosen."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        read_run(run.row.label, run.x, progress.folders[run.key])
        for run in each.everything
        if run.key in progress.folders
    ]
    here = {line.row for line in lines} | {run.row.label for run in each.wanted}
    drawn = Drawn(
        name=each.name,
        suite=each.suite,
        experiment=each.experiment,
        rows=[row for row in each.rows if row.label in here],
        lines=lines,
        common=each.common,
        overrides=each.overrides,
        learning_rates=_rates(each.everything),
        missing=[
            f"{wanted.title}: {progress.causes[wanted.key]}"
            for wanted in each.wanted
            if wanted.key in progress.causes
        ],
        axis_label=each.axis.label if each.axis else "",
    )
    (folder / "table.md").write_text(document(drawn), encoding="utf-8")
    (folder / "results.csv").write_text(lines_csv(lines), encoding="utf-8")
    for chart in each.experiment.charts:
        draw(chart, drawn).write(folder)
    if each.experiment.chooses_rates:
        rates = best_places(lines)
        text = "".join(f"{row}: {rate!r}\n" for row, rate in rates.items())
        (folder / "learning_rates.yaml").write_text(text, encoding="utf-8")


def _rates(runs: Sequence[Wanted]) -> dict[str, float]:
    """The learning rate that an experiment or its suite gives a row; without rows that have several."""
    given: dict[str, set[float]] = {}
    for run in runs:
        given.setdefault(run.row.label, set()).add(run.overrides.get(RATE, math.nan))
    return {row: rates.pop() for row, rates in given.items() if len(rates) == 1}


def best_places(lines: Sequence[RunLine]) -> dict[str, float]:
    """The place on the axis where each row's mean accuracy is highest; of equals the lowest."""
    best: dict[str, tuple[float, float]] = {}
    for row in dict.fromkeys(line.row for line in lines):
        for x in sorted({line.x for line in lines if line.row == row and line.x is not None}):
            values = by_seed(lines, row, "accuracy", x)
            mean = estimate(list(values.values())).mean if values else -1.0
            if row not in best or mean > best[row][1]:
                best[row] = (x, mean)
    return {row: x for row, (x, _) in best.items()}
