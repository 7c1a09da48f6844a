"""Child processes that are forked from this one, post to it over a pipe each, and end with it.

Runs fork their devices and experiments their runs. A child ignores SIGINT and SIGHUP, which a terminal
sends to all of them: it obeys its parent alone, and the system ends it when its parent ends (Linux).
"""

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Generic, NoReturn, Self, TypeVar

from emulator.runtime.signals import SIGNALS, ignore_interrupts, list_handled_signals, set_handlers
from emulator.runtime.transport.pipe import Done, Failure, Outlet, PostedMessage, parse_posting

FORK = multiprocessing.get_context("fork")

Main = Callable[[Outlet], None]
"""All that a child does. It ends well when this returns, and fails with what this raises."""

Name = TypeVar("Name", bound=Hashable)

_PR_SET_PDEATHSIG = 1
_TERMINATE_S = 3.0
"""How long a child may take to end once it is told to."""


@dataclass
class _Child:
    process: ForkProcess
    connection: Connection
    verdict: Done | Failure | None = None


class Children(Generic[Name]):
    """The living children of this process, by name.

    As a context, to be entered in the main thread: no child outlives it, and SIGINT, SIGTERM and SIGHUP
    raise KeyboardInterrupt inside it.
    """

    def __init__(self) -> None:
        self._running: dict[Name, _Child] = {}
        self._handlers = ExitStack()

    def __enter__(self) -> Self:
        # SIGINT as well: a shell's background job would ignore it
        interrupts = set_handlers(dict.fromkeys(list_handled_signals(), signal.default_int_handler))
        self._handlers.enter_context(interrupts)
        return self

    def __exit__(self, *error: object) -> None:
        with self._handlers:
            with ignore_interrupts():
                self._terminate_all()
            gc.unfreeze()

    @property
    def names(self) -> frozenset[Name]:
        """The children that have not ended."""
        return frozenset(self._running)

    def fork(self, name: Name, main: Main) -> None:
        """Start a child.

        The heap so far stays shared in memory: no garbage collector touches it any more, and nothing of
        the parent's that owns a thread is taken down in a child, where that thread does not exist.
        """
        here, there = FORK.Pipe(duplex=False)
        inherited = (here, *(child.connection for child in self._running.values()))
        process = FORK.Process(target=_run_child, args=(main, Outlet(there), inherited))
        gc.freeze()
        with _hold_back_signals():
            process.start()
            self._running[name] = _Child(process, here)
        there.close()

    def wait(
        self, timeout_s: float | None = None
    ) -> list[tuple[Name, PostedMessage | Done | Failure]]:
        """What children post from now on; Done or Failure for one that has ended, which is reaped.

        Waits until something happens, at most `timeout_s`; that may be nothing that is returned.
        """
        names = {child.connection: name for name, child in self._running.items()}
        ready = wait(list(names), timeout_s)
        taken = [(names[each], self._receive(names[each])) for each in ready if each in names]
        return [(name, posted) for name, posted in taken if posted is not None]

    def _receive(self, name: Name) -> PostedMessage | Done | Failure | None:
        child = self._running[name]
        try:
            posting = child.connection.recv_bytes()
        except (EOFError, OSError):  # OSError: it died while it posted
            return self._reap(name)
        posted = parse_posting(posting)
        if isinstance(posted, PostedMessage):
            return posted
        child.verdict = posted
        return None

    def _reap(self, name: Name) -> Done | Failure:
        """How a child that posts no more has ended."""
        child = self._running[name]
        child.process.join()
        code = child.process.exitcode or 0
        del self._running[name]
        child.connection.close()
        child.process.close()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return child.verdict or Failure("failed", f"its process ended unexpectedly ({how})")

    def _terminate_all(self) -> None:
        for child in self._running.values():
            child.process.terminate()
        deadline_s = time.monotonic() + _TERMINATE_S
        for child in self._running.values():
            child.process.join(max(0.0, deadline_s - time.monotonic()))
            if child.process.exitcode is None:
                child.process.kill()
                child.process.join()
            child.connection.close()
            child.process.close()
        self._running.clear()


def _run_child(main: Main, outlet: Outlet, inherited: tuple[Connection, ...]) -> NoReturn:
    """The whole of a child."""
    try:
        _detach_from_parent(inherited)
        main(outlet)
        outlet.post_done()
        _exit(0)
    except KeyboardInterrupt:
        _exit(130)
    except BaseException as error:
        with suppress(OSError):
            outlet.post_failure(Failure.of(error))
        _exit(1)


def _detach_from_parent(inherited: tuple[Connection, ...]) -> None:
    """Give up what is the parent's: descriptors, signal handling, life after its death."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for connection in inherited:
        connection.close()
    parent = multiprocessing.parent_process()
    if sys.platform == "linux" and parent is not None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:  # it ended before
            _exit(1)


def _exit(code: int) -> NoReturn:
    """End this process without taking down what the parent built."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextmanager
def _hold_back_signals() -> Iterator[None]:
    """Deliver SIGNALS later: to a child when it can handle them, to the parent when it knows the child."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
