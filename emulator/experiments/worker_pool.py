"""Runs side by side: each in a forked worker of a parent that has imported everything once.

A worker leads one run with the one_process driver, which writes the same bytes as any other. A run is
written whole or not at all.
"""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from emulator.core.errors import EmulatorError, LifeFailedError
from emulator.runtime.child_processes import Children
from emulator.runtime.drivers.core_permits import count_cores
from emulator.runtime.folder_claim import clear_remains
from emulator.runtime.run import RunRequest, run_scenario
from emulator.runtime.transport.pipe import Failure, PostedMessage
from emulator.scenario.schema import Scenario


@dataclass(frozen=True)
class EndedRun:
    """A run has ended: well (`cause` is empty), or why not."""

    folder: Path
    seconds: float
    cause: str


class Workers:
    """At most `jobs` runs at a time; a context as `Children` is, in which no half run stays either."""

    def __init__(self, jobs: int, work: Callable[[Scenario, Path], None] | None = None) -> None:
        self.jobs = jobs
        self._work = work or _run_one
        self._children = Children[Path]()
        self._started_s: dict[Path, float] = {}

    def __enter__(self) -> "Workers":
        self._children.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        unfinished = self.running
        self._children.__exit__(*error)
        for folder in unfinished:
            clear_remains(folder)

    @property
    def running(self) -> frozenset[Path]:
        """The folders of the runs that are under way."""
        return self._children.names

    @property
    def has_room(self) -> bool:
        """Whether another run may start."""
        return len(self.running) < self.jobs

    def start(self, scenario: Scenario, folder: Path) -> None:
        """Begin a run; only where there is room."""
        self._started_s[folder] = time.monotonic()
        self._children.fork(folder, lambda _: _run_worker(self._work, scenario, folder))

    def wait_for_ended(self) -> list[EndedRun]:
        """Wait for at least one run to end; those that have."""
        ended: list[EndedRun] = []
        while self.running and not ended:
            for folder, posted in self._children.wait():
                if not isinstance(posted, PostedMessage):
                    seconds = time.monotonic() - self._started_s[folder]
                    cause = posted.text if isinstance(posted, Failure) else ""
                    ended.append(EndedRun(folder, seconds, "; ".join(cause.splitlines())))
        return ended


def _run_worker(work: Callable[[Scenario, Path], None], scenario: Scenario, folder: Path) -> None:
    """All that a worker does. A traceback is for the file beside the run's folder that the error names."""
    notes = folder.with_name(f"{folder.name}.failed.txt")
    try:
        work(scenario, folder)
    except LifeFailedError as error:
        notes.write_text(traceback.format_exc(), encoding="utf-8")
        raise EmulatorError(f"{error} (see {notes.name})") from None
    except EmulatorError:
        raise
    except Exception as error:
        notes.write_text(traceback.format_exc(), encoding="utf-8")
        raise EmulatorError(f"{type(error).__name__}: {error} (see {notes.name})") from None
    notes.unlink(missing_ok=True)


def _run_one(scenario: Scenario, folder: Path) -> None:
    """One run, silent; an unfinished or differing one in its place is replaced."""
    run_scenario(RunRequest(scenario, "one_process", folder, force=True), Console(quiet=True))


def choose_jobs(memory_mb: float) -> int:
    """As many runs at a time as there are cores and memory for; at least one."""
    available_mb = psutil.virtual_memory().available / 1e6
    return max(1, min(count_cores(), int(available_mb // memory_mb)))
