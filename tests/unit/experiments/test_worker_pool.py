"""Runs side by side, with a made-up run in place of a real one."""

import os
import signal
import time

import psutil
import pytest
from processes import LIMIT_S

from emulator.core.errors import EmulatorError, LifeFailedError
from emulator.experiments.worker_pool import Workers, choose_jobs
from emulator.runtime.folder_claim import RUNNING, claim_folder
from emulator.scenario.schema import Scenario

SCENARIO = Scenario(name="w")


def all_ended(workers, count):
    ended = {}
    while len(ended) < count:
        for one in workers.wait_for_ended():
            ended[one.folder.name] = one.cause
    return ended


def work(scenario, folder):
    """What a run does, by the name of its folder."""
    if folder.name == "wrong":
        raise EmulatorError("first line\nsecond line")
    if folder.name == "bug":
        raise ZeroDivisionError("oh")
    if folder.name == "own":
        raise LifeFailedError("device 1 failed") from KeyError("mine")
    if folder.name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if folder.name == "endless":
        with claim_folder(folder, force=True, print_line=print):
            time.sleep(2 * LIMIT_S)
    folder.mkdir()


def test_each_end_is_returned(tmp_path):
    with Workers(5, work) as workers:
        for name in ("good", "wrong", "bug", "own", "killed"):
            assert workers.has_room
            workers.start(SCENARIO, tmp_path / name)
        assert not workers.has_room
        ended = all_ended(workers, 5)
        assert workers.running == frozenset()
    assert ended == {
        "good": "",
        "wrong": "first line; second line",
        "bug": "ZeroDivisionError: oh (see bug.failed.txt)",
        "own": "device 1 failed (see own.failed.txt)",
        "killed": "its process ended unexpectedly (killed by SIGKILL)",
    }
    assert (tmp_path / "good").is_dir()
    assert "ZeroDivisionError" in (tmp_path / "bug.failed.txt").read_text()
    assert "KeyError: 'mine'" in (tmp_path / "own.failed.txt").read_text()


def test_no_worker_outlives_the_context_and_no_partial_run_stays(tmp_path):
    def interrupted():
        others = set(psutil.Process().children())  # of earlier tests in this process
        with Workers(2, work) as workers:
            workers.start(SCENARIO, tmp_path / "endless")
            while not (tmp_path / "endless" / RUNNING).exists():
                time.sleep(0.01)
            (child,) = set(psutil.Process().children()) - others
            child.send_signal(signal.SIGINT)  # ignored: it obeys its parent alone
            raise KeyboardInterrupt

    started_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - started_s < LIMIT_S
    assert list(tmp_path.iterdir()) == []


def test_jobs_fit_memory_and_cores():
    assert choose_jobs(1e9) == 1
    assert 1 <= choose_jobs(1e-3) <= (os.cpu_count() or 1)
