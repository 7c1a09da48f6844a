"""One child process per device of this machine, forked from one warmed parent and watched by it.

The parent imports and loads what all devices share, starts no threads and touches no accelerator,
then forks: its direct children are exactly its devices. It serves the store (of several parents one
does), takes what they post, and ends them all when one fails or somebody interrupts. Where they are more
than the cores, no more than these compute at a time.
"""

import math
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Semaphore

import torch

from emulator.runtime.child_processes import FORK, Children
from emulator.runtime.drivers.core_permits import cores_here, released
from emulator.runtime.signals import uninterrupted
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.network_interface import LOOPBACK, use_interface_towards
from emulator.runtime.transport.peers import Address, Patience
from emulator.runtime.transport.pipe import NO_ROUND, Failure, Json, Message, Outlet
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

_BLAME_S = 2.0
"""How long to wait for the failure itself when a device only reports that it lost another."""


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
) -> None:
    """Run `child_main` in one forked child per device; return when all have ended well.

    Of several machines the first calls `conclude` then, and all return after that. To be called in the
    main thread. Whatever happens, no child outlives this call.
    Raises DeviceFailedError in one line (device, last round, cause; the child's traceback is a note)
    when a child fails or dies, ProtocolError and ScenarioError as the child raised them,
    KeyboardInterrupt on SIGINT, SIGTERM or SIGHUP, and what `conclude` and `leave_together` raise.
    """
    with ExitStack() as until_all_leave:
        _supervise(crew, child_main, on_message, patience, until_all_leave)
        rank, machines = crew.place
        if machines == 1:
            conclude()
        else:
            group = Together(rank, machines, crew.address, patience.stall_timeout_s)
            leave_together(group, conclude)


def _supervise(
    crew: Crew,
    child_main: ChildMain,
    on_message: OnMessage,
    patience: Patience,
    until_all_leave: ExitStack,
) -> None:
    """Fork the children and wait for their end; the store, if it is served here, stays open."""
    listener = crew.listener or nullcontext()
    cores = FORK.Semaphore(cores_here()) if len(crew.ids) > cores_here() else None
    with listener, Children[int]() as children:
        for device in crew.ids:
            children.fork(device, partial(_run_device, device, crew, child_main, patience, cores))
        if crew.listener is None:
            _await_end(children, on_message)
            return
        host = until_all_leave.enter_context(StoreHost(crew.listener, crew.address, crew.devices))
        _await_end(children, on_message)
        with uninterrupted():  # all results are there
            host.await_farewell()


def _await_end(children: Children[int], on_message: OnMessage) -> None:
    """Take what the devices post until all have ended well; raise the failure that began it all."""
    rounds = dict.fromkeys(children.names, NO_ROUND)
    failures: dict[int, Failure] = {}
    blame_until_s = math.inf
    while children.names:
        timeout_s = max(0.0, blame_until_s - time.monotonic()) if failures else None
        for device, posted in children.wait(timeout_s):
            if isinstance(posted, Message):
                rounds[device] = posted.round_index
                on_message(device, posted.header, posted.blob)
            elif isinstance(posted, Failure):
                failures[device] = posted
                blame_until_s = min(blame_until_s, time.monotonic() + _BLAME_S)
        last_word = blame_until_s < time.monotonic() or not children.names
        first = [device for device, failure in failures.items() if failure.peer is None]
        if first or (failures and last_word):
            device = (first or list(failures))[0]
            raise failures[device].to_error(device, rounds[device])


def _run_device(
    device: int,
    crew: Crew,
    child_main: ChildMain,
    patience: Patience,
    cores: Semaphore | None,
    outlet: Outlet,
) -> None:
    """All that a child does."""
    if crew.listener is not None:
        crew.listener.close()
    torch.set_num_threads(1)
    use_interface_towards(crew.address.host)
    idle: Callable[[], AbstractContextManager[None]] = (
        partial(released, cores) if cores else nullcontext
    )
    with (
        cores or nullcontext(),
        Transport(device, crew.devices, crew.address, patience, idle, crew.terms) as transport,
    ):
        child_main(transport, outlet.message)
