"""One child process per device of this machine, forked from one warmed parent and watched by it.

The parent imports and loads what all devices share, starts no threads and touches no accelerator,
then forks: its direct children are exactly its devices. It serves the store (of several parents one
does), reads what they post over one pipe each, and ends them all when one fails or somebody interrupts.
Children ignore SIGINT and die with their parent. Where they are more than the cores, no more than these
compute at a time.
"""

import ctypes
import gc
import multiprocessing
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.synchronize import Semaphore
from typing import NoReturn

import torch

from emulator.core.errors import DeviceFailedError
from emulator.runtime.drivers.core_permits import cores_here, released
from emulator.runtime.signals import SIGNALS, handled, heeded
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.network_interface import LOOPBACK, use_interface_towards
from emulator.runtime.transport.peers import Address, Patience
from emulator.runtime.transport.pipe import NO_ROUND, Done, Failure, Inlet, Json, Message, Outlet
from emulator.runtime.transport.shutdown import Together, leave_together
from emulator.runtime.transport.store import StoreHost

OnMessage = Callable[[int, Mapping[str, Json], bytes], None]
"""Called with a device, the header it posted and the bytes it posted with it."""

Post = Callable[[int, Mapping[str, Json], bytes], None]
"""How a device posts: the round it is in, a header that JSON can write, and bytes."""

ChildMain = Callable[[Transport, Post], None]
"""A device's whole run in its own process."""

Conclude = Callable[[], None]
"""What is left to do, by one process, when all devices have come to their end."""

_FORK = multiprocessing.get_context("fork")
_PR_SET_PDEATHSIG = 1
_BLAME_S = 2.0
"""How long to wait for the failure itself when a device only reports that it lost another."""
_TERMINATE_S = 3.0


@dataclass(frozen=True)
class Usage:
    """What a device's process used; memory that it shares with its parent is included."""

    cpu_s: float
    peak_rss_mb: float


@dataclass(frozen=True)
class Crew:
    """The devices of one machine, and where they meet those of others."""

    ids: range
    devices: int
    """On all machines."""
    address: Address
    """Of the store."""
    listener: socket.socket | None
    """The store's, where this machine is to serve it."""
    terms: Mapping[str, str] | None = None
    """What all machines must have been told alike."""
    place: tuple[int, int] = (0, 1)
    """Which of how many machines it is."""


def nothing() -> None:
    """Nothing is left to do."""


def whole_crew(devices: int) -> Crew:
    """All devices on this machine."""
    listener = socket.create_server((LOOPBACK, 0), backlog=devices)
    return Crew(range(devices), devices, Address(*listener.getsockname()), listener)


def run_forked(
    crew: Crew,
    child_main: ChildMain,
    on_message: OnMessage,
    patience: Patience,
    conclude: Conclude = nothing,
) -> dict[int, Usage]:
    """Run `child_main` in one forked child per device; return when all have ended well.

    Of several machines the first calls `conclude` then, and all return after that. To be called in the
    main thread. Whatever happens, no child outlives this call.
    Raises DeviceFailedError in one line (device, last round, cause; the child's traceback is a note)
    when a child fails or dies, ProtocolError and ScenarioError as the child raised them,
    KeyboardInterrupt on SIGINT, SIGTERM or SIGHUP, and what `conclude` and `leave_together` raise.
    """
    fleet = _Fleet(on_message)
    with ExitStack() as until_all_leave:
        usage = _supervised(crew, fleet, child_main, patience, until_all_leave)
        rank, machines = crew.place
        if machines == 1:
            conclude()
        else:
            group = Together(rank, machines, crew.address, patience.stall_timeout_s)
            leave_together(group, conclude)
        return usage


def _supervised(
    crew: Crew,
    fleet: "_Fleet",
    child_main: ChildMain,
    patience: Patience,
    until_all_leave: ExitStack,
) -> dict[int, Usage]:
    """Fork the children and see them to their end; the store, if it is served here, stays open."""
    cores = _FORK.Semaphore(cores_here()) if len(crew.ids) > cores_here() else None
    with _interrupts() as interrupt_fd:
        parents_fds = (interrupt_fd, *([crew.listener.fileno()] if crew.listener else []))
        try:
            with _held_back(), _frozen_heap():
                for device in crew.ids:
                    birth = _Birth(device, crew, patience, cores, os.getpid())
                    fleet.fork(birth, child_main, parents_fds)
            if crew.listener is None:
                return fleet.supervise(interrupt_fd)
            host = until_all_leave.enter_context(
                StoreHost(crew.listener, crew.address, crew.devices)
            )
            usage = fleet.supervise(interrupt_fd)
            host.await_farewell()
            return usage
        finally:
            fleet.end()
            if crew.listener is not None:
                crew.listener.close()


@dataclass(frozen=True)
class _Birth:
    """What a child is told."""

    device: int
    crew: Crew
    patience: Patience
    cores: Semaphore | None
    parent_pid: int


@dataclass
class _Child:
    """What the parent knows of a child."""

    device: int
    pid: int
    pipe_fd: int
    inlet: Inlet = field(default_factory=Inlet)
    round_index: int = NO_ROUND
    verdict: Done | Failure | None = None


class _Fleet:
    """The children of one run."""

    def __init__(self, on_message: OnMessage) -> None:
        self._on_message = on_message
        self._living: dict[int, _Child] = {}
        self._failed: list[tuple[_Child, Failure]] = []
        self._usage: dict[int, Usage] = {}

    def fork(self, birth: _Birth, child_main: ChildMain, parent_fds: tuple[int, ...]) -> None:
        """Start one child."""
        sys.stdout.flush()
        sys.stderr.flush()
        read_fd, write_fd = os.pipe()
        pid = os.fork()
        if pid == 0:
            inherited = (read_fd, *parent_fds, *(child.pipe_fd for child in self._living.values()))
            _live(birth, child_main, Outlet(write_fd), inherited)
        os.close(write_fd)
        self._living[birth.device] = _Child(birth.device, pid, read_fd)

    def supervise(self, interrupt_fd: int) -> dict[int, Usage]:
        """Read what children post until all have ended well; raise at the first failure."""
        blame_until_s = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(interrupt_fd, selectors.EVENT_READ)
            for child in self._living.values():
                selector.register(child.pipe_fd, selectors.EVENT_READ, child)
            while self._living:
                patience_s = max(0.0, blame_until_s - time.monotonic()) if self._failed else None
                for key, _ in selector.select(patience_s):
                    if key.fd == interrupt_fd:
                        raise KeyboardInterrupt
                    if not self._read(key.data):
                        selector.unregister(key.fd)
                        self._bury(key.data)
                if self._failed and not blame_until_s:
                    blame_until_s = time.monotonic() + _BLAME_S
                self._judge(last_word=blame_until_s < time.monotonic() or not self._living)
        return dict(sorted(self._usage.items()))

    def end(self) -> None:
        """End and reap every child that still lives."""
        for child in self._living.values():
            os.kill(child.pid, signal.SIGTERM)
        deadline_s = time.monotonic() + _TERMINATE_S
        for child in self._living.values():
            while os.waitpid(child.pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline_s:
                    os.kill(child.pid, signal.SIGKILL)
                time.sleep(0.002)
            os.close(child.pipe_fd)
        self._living.clear()

    def _read(self, child: _Child) -> bool:
        """Take what a child posted; False when it will post no more."""
        chunk = os.read(child.pipe_fd, 1 << 20)
        for posted in child.inlet.feed(chunk):
            if isinstance(posted, Message):
                child.round_index = posted.round_index
                self._on_message(child.device, posted.header, posted.blob)
            else:
                self._settle(child, posted)
        return bool(chunk)

    def _settle(self, child: _Child, verdict: Done | Failure) -> None:
        child.verdict = verdict
        if isinstance(verdict, Failure):
            self._failed.append((child, verdict))

    def _bury(self, child: _Child) -> None:
        """Reap a child that has ended and take down how."""
        _, status, used = os.wait4(child.pid, 0)
        os.close(child.pipe_fd)
        del self._living[child.device]
        per_mb = 1e6 if sys.platform == "darwin" else 1e3
        self._usage[child.device] = Usage(used.ru_utime + used.ru_stime, used.ru_maxrss / per_mb)
        code = os.waitstatus_to_exitcode(status)
        if child.verdict is None:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            self._settle(child, Failure("failed", f"its process ended unexpectedly ({how})"))

    def _judge(self, last_word: bool) -> None:
        """Raise the failure that began it all; one that blames another device only as the last word."""
        for child, failure in self._failed:
            if failure.peer is None:
                raise failure.to_error(child.device, child.round_index)
        if self._failed and last_word:
            child, failure = self._failed[0]
            raise failure.to_error(child.device, child.round_index)


def _live(
    birth: _Birth, child_main: ChildMain, outlet: Outlet, inherited_fds: tuple[int, ...]
) -> NoReturn:
    """The child's whole existence."""
    try:
        crew = birth.crew
        _come_of_age(birth.parent_pid, inherited_fds)
        use_interface_towards(crew.address.host)
        cores = birth.cores
        idle: Callable[[], AbstractContextManager[None]] = (
            partial(released, cores) if cores else nullcontext
        )
        with (
            cores or nullcontext(),
            Transport(
                birth.device, crew.devices, crew.address, birth.patience, idle, crew.terms
            ) as transport,
        ):
            child_main(transport, outlet.message)
        outlet.done()
        _exit(0)
    except BaseException as error:
        with suppress(OSError):
            outlet.failed(Failure.of(error))
        _exit(1)


def _exit(code: int) -> NoReturn:
    """Leave without taking down what the parent built."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _come_of_age(parent_pid: int, inherited_fds: tuple[int, ...]) -> None:
    """Leave behind what is the parent's: descriptors, signal handling, life after its death."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal sends both to the parent as well
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for descriptor in inherited_fds:
        os.close(descriptor)
    die_with_parent(parent_pid)
    torch.set_num_threads(1)


def die_with_parent(parent_pid: int) -> None:
    """Have the system end this process when its parent ends, where it can (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:
            raise DeviceFailedError("the parent is gone")


@contextmanager
def _interrupts() -> Iterator[int]:
    """A descriptor that becomes readable on SIGINT, SIGTERM or SIGHUP; nothing else happens then."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    try:
        with handled(dict.fromkeys(heeded(), _noted)):
            previous_fd = signal.set_wakeup_fd(write_fd)
            try:
                yield read_fd
            finally:
                signal.set_wakeup_fd(previous_fd)
    finally:
        os.close(read_fd)
        os.close(write_fd)


def _noted(number: int, frame: object) -> None:
    """Handle a signal: the interpreter has written it to the wake-up descriptor already."""


@contextmanager
def _frozen_heap() -> Iterator[None]:
    """Keep the children's garbage collectors off what they inherit.

    It stays shared in memory, and nothing of the parent's that owns a thread is taken down in a child,
    where that thread does not exist; the parent's garbage is kept as well.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _held_back() -> Iterator[None]:
    """Deliver SIGNALS later: a child must not get them before it can handle them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
