"""Several runs at a time, each in a worker process that a parent forks after all imports.

A worker runs one scenario with the driver one_process, which writes the same bytes as the other driver.
A run is written completely or not at all.
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
from emulator.runtime.resuming import resume_or_start
from emulator.runtime.run import RunRequest, run_scenario
from emulator.runtime.transport.pipe import Failure, PostedMessage
from emulator.scenario.schema import Scenario


@dataclass(frozen=True)
class EndedRun:
    """An ended run; `cause` is the reason of a failure, empty for a success."""

    folder: Path
    seconds: float
    cause: str


class Workers:
    """Runs at most `jobs` scenarios at a time.

    A context manager as `Children` is; its end also clears the folders of unfinished runs.
    """

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
        """The folders of the runs in progress."""
        return self._children.names

    @property
    def has_room(self) -> bool:
        """Whether another run may start."""
        return len(self.running) < self.jobs

    def start(self, scenario: Scenario, folder: Path) -> None:
        """Start a run; the caller checks `has_room` first."""
        self._started_s[folder] = time.monotonic()
        self._children.fork(folder, lambda _: _run_worker(self._work, scenario, folder))

    def wait_for_ended(self) -> list[EndedRun]:
        """Wait until at least one run has ended; return all that have."""
        ended: list[EndedRun] = []
        while self.running and not ended:
            for folder, posted in self._children.wait():
                if not isinstance(posted, PostedMessage):
                    seconds = time.monotonic() - self._started_s[folder]
                    cause = posted.text if isinstance(posted, Failure) else ""
                    ended.append(EndedRun(folder, seconds, "; ".join(cause.splitlines())))
        return ended


def _run_worker(work: Callable[[Scenario, Path], None], scenario: Scenario, folder: Path) -> None:
    """Run one scenario in a worker. A traceback goes into a file beside the folder; the error names it."""
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
    """Run a scenario without output.

    A run of the same scenario that did not end goes on from its checkpoints; any other is replaced.
    """
    request = resume_or_start(RunRequest(scenario, "one_process", folder, force=True))
    run_scenario(request, Console(quiet=True))


def choose_jobs(memory_mb: float) -> int:
    """Choose the number of runs at a time from the free cores and memory [MB]; at least one."""
    available_mb = psutil.virtual_memory().available / 1e6
    return max(1, min(count_cores(), int(available_mb // memory_mb)))
