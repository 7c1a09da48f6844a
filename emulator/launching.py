"""The same device run under a launcher that starts one process per device and sets the environment.

torchrun, srun, Kubernetes and compose agree on RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; here
alone they are read. torchrun's agent serves the store itself; otherwise device 0 does.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from emulator.errors import EmulatorError
from emulator.exchange.many_processes import StoreHost, Transport
from emulator.exchange.meeting import Address, Patience
from emulator.forking import ChildMain, OnMessage, use_loopback

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def environment_world() -> tuple[int, int] | None:
    """(process_rank, world_size) as a launcher set them; None when there is no launcher.

    Raises EmulatorError when only one is set or they make no sense.
    """
    rank, world = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None and world is None:
        return None
    process_rank, world_size = _number("RANK"), _number("WORLD_SIZE")
    if not 0 <= process_rank < world_size:
        raise EmulatorError(
            f"RANK: got {process_rank}, wanted 0 <= RANK < WORLD_SIZE = {world_size}"
        )
    return process_rank, world_size


def run_launched(child_main: ChildMain, on_message: OnMessage, patience: Patience) -> None:
    """Run this process's device; what it posts goes to `on_message` here, in the same process.

    Raises what `child_main` raises, and EmulatorError, naming address and port, when the store cannot
    be reached or its port is in use.
    """
    world = environment_world()
    if world is None:
        raise EmulatorError("RANK and WORLD_SIZE: not set, wanted a launcher's environment")
    device, devices = world
    address = _address()
    if address.host in _LOCAL_HOSTS:
        use_loopback()
    torch.set_num_threads(1)
    with (
        _store(device, devices, address),
        Transport(device, devices, address, patience) as transport,
    ):
        child_main(transport, lambda _, header, blob: on_message(device, header, blob))


@contextmanager
def _store(device: int, devices: int, address: Address) -> Iterator[None]:
    """Serve the store at device 0 until all have left, unless the launcher serves it."""
    if device != 0 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True):
        yield
        return
    with StoreHost(_listen(address), address, devices) as host:
        yield
        host.await_farewell()


def _address() -> Address:
    host = os.environ.get("MASTER_ADDR")
    if not host:
        raise EmulatorError("MASTER_ADDR: not set, wanted the host of device 0")
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
        raise EmulatorError(f"{name}: got {text!r}, wanted a number")
    return int(text)
