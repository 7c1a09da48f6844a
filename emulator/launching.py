"""The same run under a launcher, which starts processes here and elsewhere and sets their environment.

Each process is one device, or a parent that forks all devices of its host. torchrun, srun, Kubernetes
and compose agree on RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; here alone they are read. torchrun's
agent serves the store itself; otherwise the process of RANK 0 does.
"""

import errno
import json
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from emulator.errors import EmulatorError, ScenarioError
from emulator.exchange.interfaces import use_interface_towards
from emulator.exchange.meeting import Address, Patience
from emulator.exchange.store import StoreHost
from emulator.exchange.transport import Transport
from emulator.forking import ChildMain, Crew, OnMessage
from emulator.scenario import Scenario


def environment_world() -> tuple[int, int] | None:
    """(process_rank, world_size) as a launcher set them; None when there is no launcher.

    Raises ScenarioError when only one is set or they make no sense.
    """
    rank, world = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None and world is None:
        return None
    process_rank, world_size = _number("RANK"), _number("WORLD_SIZE")
    if not 0 <= process_rank < world_size:
        raise ScenarioError(
            [f"RANK: got {process_rank}, wanted 0 <= RANK < WORLD_SIZE = {world_size}"]
        )
    return process_rank, world_size


def devices_here(
    place: tuple[int, int] | None, devices: int, devices_per_host: int | None
) -> range:
    """The devices of this process, or of its children. Raises ScenarioError when counts do not fit."""
    if place is None:
        if devices_per_host is not None:
            raise ScenarioError(
                [
                    f"--devices-per-host: got {devices_per_host} without a launcher, wanted RANK and "
                    "WORLD_SIZE of this host among hosts, MASTER_ADDR and MASTER_PORT"
                ]
            )
        return range(devices)
    rank, processes = place
    per_process = devices_per_host or 1
    wanted = -(-devices // per_process)
    if processes == wanted:
        return range(rank * per_process, min((rank + 1) * per_process, devices))
    if devices_per_host is None:
        problem = (
            f"WORLD_SIZE: got {processes} processes, wanted {devices}: one per device (or "
            f"--set devices={processes}, or --devices-per-host where a process is a host)"
        )
    else:
        problem = (
            f"WORLD_SIZE: got {processes} hosts, wanted {wanted}: {devices} devices, "
            f"--devices-per-host {devices_per_host}"
        )
    raise ScenarioError([problem])


def terms_of(scenario: Scenario, devices_per_host: int | None) -> dict[str, str]:
    """What all hosts must have been told alike, by name; files may lie in different folders."""
    terms = {"--devices-per-host": str(devices_per_host or "nothing")}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                add(f"{name}.{key}" if name else key, below)
        elif isinstance(value, str) and Path(value).is_absolute():
            terms[name] = Path(value).name
        else:
            terms[name] = json.dumps(value)

    add("", scenario.model_dump(mode="json"))
    return terms


def run_launched(
    child_main: ChildMain,
    on_message: OnMessage,
    patience: Patience,
    terms: Mapping[str, str] | None = None,
) -> None:
    """Run this process's device; what it posts goes to `on_message` here, in the same process.

    From when the others may leave, device 0 ignores SIGTERM: some launchers end all when the first has
    ended, and what was gathered is still to be written. terms: what all processes must have been told
    alike. Raises what `child_main` raises, and EmulatorError, naming address and port, when the store
    cannot be reached or its port is in use.
    """
    device, devices = _place()
    address = _address()
    use_interface_towards(address.host)
    torch.set_num_threads(1)
    with (
        _store(device, devices, address),
        Transport(device, devices, address, patience, terms=terms) as transport,
    ):
        child_main(transport, lambda _, header, blob: on_message(device, header, blob))
        if device == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


def launched_crew(devices: int, devices_per_host: int, terms: Mapping[str, str]) -> Crew:
    """The devices that this process forks, of as many as there are; the last host may have fewer.

    Raises ScenarioError when counts do not fit, EmulatorError when the store's port is in use.
    """
    place = _place()
    address = _address()
    return Crew(
        ids=devices_here(place, devices, devices_per_host),
        devices=devices,
        address=address,
        listener=_listen(address) if _serves_store(place[0]) else None,
        terms=terms,
    )


def _place() -> tuple[int, int]:
    world = environment_world()
    if world is None:
        raise ScenarioError(["RANK and WORLD_SIZE: not set, wanted a launcher's environment"])
    return world


def _serves_store(process_rank: int) -> bool:
    """Whether this process serves the store, not the launcher or another process."""
    return process_rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)


@contextmanager
def _store(device: int, devices: int, address: Address) -> Iterator[None]:
    """Serve the store, where this process does, until all have left."""
    if not _serves_store(device):
        yield
        return
    with StoreHost(_listen(address), address, devices) as host:
        yield
        host.await_farewell()


def _address() -> Address:
    host = os.environ.get("MASTER_ADDR")
    if not host:
        raise ScenarioError(["MASTER_ADDR: not set, wanted the host of device 0"])
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Address(host, _number("MASTER_PORT"), f"emulator/{attempt}")


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


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal():
        raise ScenarioError([f"{name}: got {text!r}, wanted a number"])
    return int(text)
