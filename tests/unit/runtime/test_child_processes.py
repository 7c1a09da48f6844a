"""Forked children: what they post, how they end, and that they end with their parent."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from processes import LIMIT_S

from emulator.core.errors import ScenarioError
from emulator.runtime.child_processes import Children
from emulator.runtime.run import RunRequest, run_scenario
from emulator.runtime.transport.pipe import Done, Failure, PostedMessage
from emulator.scenario.schema import Scenario

A_MOMENT_S = 0.01


def taken(children):
    """All that all children post, by name, until none is left."""
    posted = {name: [] for name in children.names}
    while children.names:
        for name, each in children.wait():
            posted[name].append(each)
    return posted


def fail(_):
    raise ScenarioError(["one", "two"])


def die_while_posting(outlet):
    """More than the pipe holds; only what is posted whole counts."""
    outlet.post_message(0, {}, b"whole")
    os.write(outlet._connection.fileno(), (1000).to_bytes(4, "big") + b"half")
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_ever(outlet):
    outlet.post_message(0, {"ignores": [signal.getsignal(n).name for n in (2, 1)]}, b"")
    time.sleep(2 * LIMIT_S)


def test_each_end_is_returned_after_what_was_posted():
    with Children[str]() as children:
        children.fork("good", lambda outlet: outlet.post_message(3, {"a": 1}, b"\n" * 200_000))
        children.fork("wrong", fail)
        children.fork("killed", die_while_posting)
        children.fork("interrupted", lambda _: signal.default_int_handler(2, None))
        posted = taken(children)
    assert posted["good"] == [PostedMessage(3, {"a": 1}, b"\n" * 200_000), Done()]
    (failure,) = posted["wrong"]
    assert (failure.kind, failure.text, failure.peer) == ("scenario", "one\ntwo", None)
    killed = Failure("failed", "its process ended unexpectedly (killed by SIGKILL)")
    assert posted["killed"] == [PostedMessage(0, {}, b"whole"), killed]
    assert posted["interrupted"][0].text == "its process ended unexpectedly (exit code 130)"


def interrupted(family):
    """Three children, and a signal that ends the wait for them."""
    with Children[int]() as children:
        for each in range(3):
            children.fork(each, wait_for_ever)
        ((_, posted), *_) = children.wait()
        assert posted.header == {"ignores": ["SIG_IGN", "SIG_IGN"]}
        family.extend(psutil.Process().children(recursive=True))
        os.kill(os.getpid(), signal.SIGTERM)
        children.wait(LIMIT_S)


def test_a_signal_ends_all_and_leaves_nothing_open():
    gc.collect()  # of earlier tests nothing is closed in between
    before = psutil.Process().num_fds()
    handler = signal.getsignal(signal.SIGTERM)
    family = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(family)
    assert [child.is_running() for child in family] == [False] * 3  # and no tracker among them
    assert psutil.Process().num_fds() <= before
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_wait_for_silent_children_ends():
    with Children[int]() as children:
        children.fork(0, lambda _: time.sleep(LIMIT_S))
        assert children.wait(A_MOMENT_S) == []


ORPHANS = """
import os, time
from emulator.runtime.child_processes import Children
with Children() as children:
    children.fork(0, lambda _: time.sleep(600))
    children.fork(1, lambda outlet: outlet.post_message(0, {"pid": os.getpid()}, b""))
    (_, posted), *_ = children.wait()
    print(os.getpid(), flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_children_end_with_a_parent_that_is_killed():
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", ORPHANS]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as parent:
        parent.stdout.readline()
        orphans = psutil.Process(parent.pid).children()
        parent.kill()
    assert orphans
    _, living = psutil.wait_procs(orphans, timeout=LIMIT_S)
    assert not [child for child in living if child.status() != psutil.STATUS_ZOMBIE]


def test_a_daemonic_process_that_may_not_fork_is_reported(monkeypatch, tmp_path):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    order = RunRequest(Scenario(name="a"), "many_processes", tmp_path / "out", force=False)
    with pytest.raises(ScenarioError, match=r"^--driver: got many_processes in a daemonic"):
        run_scenario(order, None)
