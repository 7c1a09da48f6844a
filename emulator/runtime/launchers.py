"""A run under a launcher, which starts the processes of all hosts and sets their environment.

Each process is one device, or a parent that forks all devices of its host. Under torchrun its agent
serves the store; otherwise the process of RANK 0 does.
"""

import errno
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.runtime.launcher_env import (
    find_local_devices,
    read_launcher_world,
    read_rendezvous_address,
    serves_store,
)
from emulator.runtime.processes import ChildMain, Conclude, HostDevices, OnMessage, do_nothing
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.network_interface import use_interface_towards
from emulator.runtime.transport.peers import Address, Timeouts
from emulator.runtime.transport.shutdown import ShutdownGroup, leave_together
from emulator.runtime.transport.store import StoreHost
from emulator.scenario.schema import Scenario
from emulator.scenario.terms import list_terms


def collect_terms(
    scenario: Scenario, devices_per_host: int | None, resumed_after: int | None
) -> dict[str, str]:
    """Collect the settings that must be equal on all hosts, by name; of a file only its name counts."""
    return {
        "--devices-per-host": str(devices_per_host or "nothing"),
        "the last round of the checkpoints": str(
            "none" if resumed_after is None else resumed_after
        ),
        **list_terms(scenario),
    }


def run_launched(
    child_main: ChildMain,
    on_message: OnMessage,
    timeouts: Timeouts,
    terms: Mapping[str, str] | None = None,
    conclude: Conclude = do_nothing,
) -> None:
    """Run this process's device; what it posts goes to `on_message` in the same process.

    When all devices have finished, device 0 calls `conclude`; after that all return. From then on they
    ignore SIGTERM (device 0 from when it has all results). terms: settings that must be equal in all
    processes. Raises what `child_main` and `leave_together` raise, and EmulatorError, with address and
    port, when the store cannot be reached or its port is in use.
    """
    device, devices = _read_place()
    address = read_rendezvous_address()
    use_interface_towards(address.host)
    torch.set_num_threads(1)
    with _serve_store(device, devices, address):
        with Transport(device, devices, address, timeouts, terms=terms) as transport:
            child_main(transport, lambda _, header, blob: on_message(device, header, blob))
            if device == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
        leave_together(ShutdownGroup(device, devices, address, timeouts.stall_timeout_s), conclude)


def assign_launched_devices(
    devices: int, devices_per_host: int, terms: Mapping[str, str]
) -> HostDevices:
    """Assign to this process, as one host of several, the devices that it forks.

    devices: on all hosts; the last host may get fewer than the others. Raises ScenarioError when the
    counts do not fit, EmulatorError when the store's port is in use.
    """
    place = _read_place()
    address = read_rendezvous_address()
    return HostDevices(
        ids=find_local_devices(place, devices, devices_per_host),
        devices=devices,
        address=address,
        listener=_listen(address) if serves_store(place[0]) else None,
        terms=terms,
        place=place,
    )


def _read_place() -> tuple[int, int]:
    world = read_launcher_world()
    if world is None:
        raise ScenarioError(["RANK and WORLD_SIZE: not set, wanted a launcher's environment"])
    return world


@contextmanager
def _serve_store(device: int, devices: int, address: Address) -> Iterator[None]:
    """Serve the store, if that is this process's part, until all devices have left."""
    if not serves_store(device):
        yield
        return
    with StoreHost(_listen(address), address, devices) as host:
        yield
        host.await_shutdown()


def _listen(address: Address) -> socket.socket:
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(
            ("", address.port), family=family, backlog=1024, dualstack_ipv6=dual
        )
    except OSError as error:
        why = "already in use" if error.errno == errno.EADDRINUSE else str(error)
        raise EmulatorError(
            f"store at {address.host}:{address.port}: {why} (MASTER_PORT)"
        ) from None
