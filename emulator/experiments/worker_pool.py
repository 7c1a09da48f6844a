"""Runs side by side: each in a forked worker of a parent that has imported everything once.

A worker leads one run with the one_process driver, which writes the same bytes as any other. It
ignores SIGINT and dies with its parent; a run is written whole or not at all.
"""

import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

from emulator.core.errors import EmulatorError, LifeFailedError
from emulator.runtime.folder_claim import clear_remains
from emulator.runtime.processes import die_with_parent
from emulator.runtime.run import Order, run
from emulator.runtime.signals import heeded
from emulator.scenario.schema import Scenario

_PATIENCE_S = 3.0


@dataclass(frozen=True)
class Ended:
    """A run has ended: well (`cause` is empty), or why not."""

    folder: Path
    seconds: float
    cause: str


@dataclass(frozen=True)
class _Worker:
    process: ForkProcess
    verdict: Connection
    folder: Path
    started_s: float


class Workers:
    """At most `jobs` runs at a time.

    As a context, to be entered in the main thread: no run outlives it, and SIGINT, SIGTERM and SIGHUP raise
    KeyboardInterrupt inside it.
    """

    def __init__(self, jobs: int, work: Callable[[Scenario, Path], None] | None = None) -> None:
        self.jobs = jobs
        self._work = work or _run_whole
        self._context = multiprocessing.get_context("fork")
        self._busy: dict[Path, _Worker] = {}
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Workers":
        for number in heeded():  # a shell's background job would ignore SIGINT
            self._before[number] = signal.signal(number, signal.default_int_handler)
        gc.collect()
        gc.freeze()  # keeps the collectors of the workers off what they share
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._busy.values():
            worker.process.terminate()
        for worker in self._busy.values():
            worker.process.join(_PATIENCE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.verdict.close()
            clear_remains(worker.folder)
        self._busy.clear()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        gc.unfreeze()

    @property
    def running(self) -> frozenset[Path]:
        """The folders of the runs that are under way."""
        return frozenset(self._busy)

    @property
    def has_room(self) -> bool:
        """Whether another run may start."""
        return len(self._busy) < self.jobs

    def start(self, scenario: Scenario, folder: Path) -> None:
        """Begin a run; only where there is room."""
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_lead, args=(self._work, scenario, folder, there, os.getpid())
        )
        process.start()
        there.close()
        self._busy[folder] = _Worker(process, here, folder, time.monotonic())

    def next_ended(self) -> list[Ended]:
        """Wait for at least one run to end; those that have."""
        sentinels = {worker.process.sentinel: worker for worker in self._busy.values()}
        ready = wait(list(sentinels))
        return [self._bury(sentinels[item]) for item in ready if isinstance(item, int)]

    def _bury(self, worker: _Worker) -> Ended:
        worker.process.join()
        try:
            told = worker.verdict.recv_bytes().decode()
        except EOFError:  # it had nothing to complain about
            told = ""
        worker.verdict.close()
        code = worker.process.exitcode or 0
        del self._busy[worker.folder]
        if code < 0:
            told = f"its process was killed by {signal.Signals(-code).name}"
        elif code and not told:
            told = f"its process ended with exit code {code}"
        return Ended(worker.folder, time.monotonic() - worker.started_s, told)


def _lead(
    work: Callable[[Scenario, Path], None],
    scenario: Scenario,
    folder: Path,
    verdict: Connection,
    parent_pid: int,
) -> None:
    """The worker's whole existence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal sends both to the parent as well
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent(parent_pid)
    notes = folder.with_name(f"{folder.name}.failed.txt")
    try:
        work(scenario, folder)
        notes.unlink(missing_ok=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except LifeFailedError as error:
        notes.write_text(traceback.format_exc(), encoding="utf-8")
        verdict.send_bytes(f"{error} (see {notes.name})".encode())
    except EmulatorError as error:
        verdict.send_bytes("; ".join(str(error).splitlines()).encode())
    except Exception as error:  # a bug in one run must not end the others
        notes.write_text(traceback.format_exc(), encoding="utf-8")
        verdict.send_bytes(f"{type(error).__name__}: {error} (see {notes.name})".encode())


def _run_whole(scenario: Scenario, folder: Path) -> None:
    """One run, silent; an unfinished or differing one in its place is replaced."""
    run(Order(scenario, "one_process", folder, force=True), Console(quiet=True))


def default_jobs(memory_mb: float) -> int:
    """As many runs at a time as there are cores and memory for; at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    free_mb = _available_mb()
    fitting = int(free_mb // memory_mb) if free_mb else cores or 1
    return max(1, min(cores or 1, fitting))


def _available_mb() -> float:
    """Memory that may be had; 0 where the system does not tell."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return 0.0
    lines = info.read_text(encoding="ascii").splitlines()
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) / 1e3 if found else 0.0
