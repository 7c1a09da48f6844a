"""One child process per device of this machine, forked and supervised by one parent.

The parent imports and loads what all devices share, without starting threads or using an accelerator.
Then it forks: its direct children are exactly its devices. It serves the store (of several parents one
does), receives what the children post, and ends them all when one fails or the user interrupts. At most
as many children compute at a time as there are cores.
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
"""The parent calls it with a device, and with the header and the bytes that the device posted."""

Post = Callable[[int, Mapping[str, Json], bytes], None]
"""A device posts with it: its round, a header that JSON can represent, and bytes."""

ChildMain = Callable[[Transport, Post], None]
"""The whole run of a device in its own process."""

Conclude = Callable[[], None]
"""The last step of a run, which one process takes when all devices have finished."""

_ROOT_CAUSE_WAIT_S = 2.0
"""How long to wait for the first failure after a device has reported that it lost another [s]."""


@dataclass(frozen=True)
class HostDevices:
    """The devices of one machine, and the store over which they reach the devices of others."""

    ids: range
    devices: int
    """Number of devices on all machines."""
    address: Address
    """Address of the store."""
    listener: socket.socket | None
    """Listening socket of the store where this machine serves it, else None."""
    terms: Mapping[str, str] | None = None
    """Settings that must be equal on all machines; None: not compared."""
    place: tuple[int, int] = (0, 1)
    """(rank of this machine, number of machines)."""


def do_nothing() -> None:
    """The conclusion of a run that has none."""


def assign_all_devices(devices: int) -> HostDevices:
    """Assign all devices of a run to this machine, and open the socket of its store."""
    listener = socket.create_server((LOOPBACK, 0), backlog=devices)
    return HostDevices(range(devices), devices, Address(*listener.getsockname()), listener)


def run_forked(
    host_devices: HostDevices,
    child_main: ChildMain,
    on_message: OnMessage,
    timeouts: Timeouts,
    conclude: Conclude = do_nothing,
) -> None:
    """Run `child_main` in one forked child per device; return when all have succeeded.

    The first of several machines then calls `conclude`, and all return after that. It must be called in
    the main thread. No child outlives this call.
    Raises DeviceFailedError in one line (device, last round, cause; the child's traceback is a note) when
    a child fails or ends unexpectedly, ProtocolError and ScenarioError as the child raised them,
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
    """Fork the children and wait for their end; a store that is served here stays open after it."""
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
        with ignore_interrupts():  # all results have arrived
            host.await_shutdown()


def _await_end(children: Children[int], on_message: OnMessage) -> None:
    """Receive what the devices post until all have succeeded; raise the failure that caused the others.

    A device that lost another only reports a consequence, so a short wait for the cause follows.
    """
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
        waited = root_cause_until_s < time.monotonic() or not children.names
        causes = [device for device, failure in failures.items() if failure.peer is None]
        if causes or (failures and waited):
            device = (causes or list(failures))[0]
            raise failures[device].to_error(device, rounds[device])


def _run_device(
    device: int,
    host_devices: HostDevices,
    child_main: ChildMain,
    timeouts: Timeouts,
    cores: Semaphore | None,
    outlet: Outlet,
) -> None:
    """Run one device: the body of a child process."""
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
