"""Child processes: they are forked from this process, post to it over one pipe each, and end with it.

A run forks its devices, and an experiment forks its runs. A terminal sends SIGINT and SIGHUP to parent
and children, so the children ignore both; the parent ends them. On Linux the system ends a child when
its parent ends.
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
"""The function that a child runs. The child succeeds when it returns, and fails with what it raises."""

Name = TypeVar("Name", bound=Hashable)

_PR_SET_PDEATHSIG = 1
_TERMINATE_S = 3.0
"""How long a child may take to end after SIGTERM [s]; SIGKILL follows."""


@dataclass
class _Child:
    process: ForkProcess
    connection: Connection
    verdict: Done | Failure | None = None


class Children(Generic[Name]):
    """The running children of this process, by name.

    A context manager, to be entered in the main thread. Inside it SIGINT, SIGTERM and SIGHUP raise
    KeyboardInterrupt, unless the caller handles them; at its end it terminates all children.
    """

    def __init__(self) -> None:
        self._running: dict[Name, _Child] = {}
        self._handlers = ExitStack()

    def __enter__(self) -> Self:
        # SIGINT as well: a shell's background job would ignore it
        unhandled = [n for n in list_handled_signals() if not callable(signal.getsignal(n))]
        interrupts = set_handlers(dict.fromkeys(unhandled, signal.default_int_handler))
        self._handlers.enter_context(interrupts)
        return self

    def __exit__(self, *error: object) -> None:
        with self._handlers:
            with ignore_interrupts():
                self._terminate_all()
            gc.unfreeze()

    @property
    def names(self) -> frozenset[Name]:
        """The names of the children that have not ended."""
        return frozenset(self._running)

    def fork(self, name: Name, main: Main) -> None:
        """Start a child.

        The garbage collector leaves all present objects alone from now on. So their pages stay shared,
        and no child finalises a parent's object that owns a thread, which does not exist in the child.
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
        """Return what children post; for a child that has ended, reap it and return Done or Failure.

        The call waits until some child posts or ends, at most `timeout_s`. The list may be empty.
        """
        names = {child.connection: name for name, child in self._running.items()}
        ready = wait(list(names), timeout_s)
        taken = [(names[each], self._receive(names[each])) for each in ready if each in names]
        return [(name, posted) for name, posted in taken if posted is not None]

    def _receive(self, name: Name) -> PostedMessage | Done | Failure | None:
        child = self._running[name]
        try:
            posting = child.connection.recv_bytes()
        except (EOFError, OSError):  # OSError: the child ended while it posted
            return self._reap(name)
        posted = parse_posting(posting)
        if isinstance(posted, PostedMessage):
            return posted
        child.verdict = posted
        return None

    def _reap(self, name: Name) -> Done | Failure:
        """Return how a child that posts no more has ended, and forget it."""
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
    """Run `main` in a child and end the process; the parent gets Done or Failure."""
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
    """Close the parent's descriptors, reset its signal handlers, and end with the parent."""
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
    """End this process without finalising the objects of the parent."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextmanager
def _hold_back_signals() -> Iterator[None]:
    """Block SIGNALS: a child gets them once it can handle them, the parent once it has stored the child."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
