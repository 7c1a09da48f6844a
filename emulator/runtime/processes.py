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
from emulator.runtime.drivers.core_permits import count_cores, release_core
from emulator.runtime.signals import ignore_interrupts
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.network_interface import LOOPBACK, use_interface_towards
from emulator.runtime.transport.peers import Address, Timeouts
from emulator.runtime.transport.pipe import NO_ROUND, Failure, Json, Outlet, PostedMessage
from emulator.runtime.transport.shutdown import ShutdownGroup, leave_together
from emulator.runtime.transport.store import StoreHost

OnMessage = Callable[[int, Mapping[str, Json], bytes], None]
"""Called with a device, the header it posted and the bytes it posted with it."""

Post = Callable[[int, Mapping[str, Json], bytes], None]
"""How a device posts: the round it is in, a header that JSON can write, and bytes."""

ChildMain = Callable[[Transport, Post], None]
"""A device's whole run in its own process."""

Conclude = Callable[[], None]
"""What is left to do, by one process, when all devices have come to their end."""

_ROOT_CAUSE_WAIT_S = 2.0
"""How long to wait for the failure itself when a device only reports that it lost another."""


@dataclass(frozen=True)
class HostDevices:
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


def do_nothing() -> None:
    """Nothing is left to do."""


def assign_all_devices(devices: int) -> HostDevices:
    """All devices on this machine."""
    listener = socket.create_server((LOOPBACK, 0), backlog=devices)
    return HostDevices(range(devices), devices, Address(*listener.getsockname()), listener)


def run_forked(
    host_devices: HostDevices,
    child_main: ChildMain,
    on_message: OnMessage,
    timeouts: Timeouts,
    conclude: Conclude = do_nothing,
) -> None:
    """Run `child_main` in one forked child per device; return when all have ended well.

    Of several machines the first calls `conclude` then, and all return after that. To be called in the
    main thread. Whatever happens, no child outlives this call.
    Raises DeviceFailedError in one line (device, last round, cause; the child's traceback is a note)
    when a child fails or dies, ProtocolError and ScenarioError as the child raised them,
    KeyboardInterrupt on SIGINT, SIGTERM or SIGHUP, and what `conclude` and `leave_together` raise.
    """
    with ExitStack() as until_all_leave:
        _supervise(host_devices, child_main, on_message, timeouts, until_all_leave)
        rank, machines = host_devices.place
        if machines == 1:
            conclude()
        else:
            group = ShutdownGroup(rank, machines, host_devices.address, timeouts.stall_timeout_s)
            leave_together(group, conclude)


def _supervise(
    host_devices: HostDevices,
    child_main: ChildMain,
    on_message: OnMessage,
    timeouts: Timeouts,
    until_all_leave: ExitStack,
) -> None:
    """Fork the children and wait for their end; the store, if it is served here, stays open."""
    listener = host_devices.listener or nullcontext()
    cores = FORK.Semaphore(count_cores()) if len(host_devices.ids) > count_cores() else None
    with listener, Children[int]() as children:
        for device in host_devices.ids:
            children.fork(
                device, partial(_run_device, device, host_devices, child_main, timeouts, cores)
            )
        if host_devices.listener is None:
            _await_end(children, on_message)
            return
        host = until_all_leave.enter_context(
            StoreHost(host_devices.listener, host_devices.address, host_devices.devices)
        )
        _await_end(children, on_message)
        with ignore_interrupts():  # all results are there
            host.await_shutdown()


def _await_end(children: Children[int], on_message: OnMessage) -> None:
    """Take what the devices post until all have ended well; raise the failure that began it all."""
    rounds = dict.fromkeys(children.names, NO_ROUND)
    failures: dict[int, Failure] = {}
    root_cause_until_s = math.inf
    while children.names:
        timeout_s = max(0.0, root_cause_until_s - time.monotonic()) if failures else None
        for device, posted in children.wait(timeout_s):
            if isinstance(posted, PostedMessage):
                rounds[device] = posted.round_index
                on_message(device, posted.header, posted.blob)
            elif isinstance(posted, Failure):
                failures[device] = posted
                root_cause_until_s = min(root_cause_until_s, time.monotonic() + _ROOT_CAUSE_WAIT_S)
        last_word = root_cause_until_s < time.monotonic() or not children.names
        first = [device for device, failure in failures.items() if failure.peer is None]
        if first or (failures and last_word):
            device = (first or list(failures))[0]
            raise failures[device].to_error(device, rounds[device])


def _run_device(
    device: int,
    host_devices: HostDevices,
    child_main: ChildMain,
    timeouts: Timeouts,
    cores: Semaphore | None,
    outlet: Outlet,
) -> None:
    """All that a child does."""
    if host_devices.listener is not None:
        host_devices.listener.close()
    torch.set_num_threads(1)
    use_interface_towards(host_devices.address.host)
    idle: Callable[[], AbstractContextManager[None]] = (
        partial(release_core, cores) if cores else nullcontext
    )
    with (
        cores or nullcontext(),
        Transport(
            device, host_devices.devices, host_devices.address, timeouts, idle, host_devices.terms
        ) as transport,
    ):
        child_main(transport, outlet.post_message)
