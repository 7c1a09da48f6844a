"""The network interface that gloo uses: the one in the route to the other hosts."""

import os
import socket

import psutil

from emulator.core.errors import ScenarioError

LOOPBACK = "127.0.0.1"
_CONNECT_S = 30.0

VARIABLE = "GLOO_SOCKET_IFNAME"


def use_interface_towards(host: str) -> None:
    """Make gloo use the interface in the route to a host, unless the environment names one."""
    address = _own_address_towards(host)
    name = _interface_of(address) if address is not None else None
    if name is not None:
        os.environ.setdefault(VARIABLE, name)


def check_loopback() -> None:
    """Raise ScenarioError where processes of this machine cannot reach one another.

    That happens where the loopback interface is down, as in a new network namespace. torch would try to
    connect for minutes and then print a stack trace of C++.
    """
    try:
        with socket.create_server((LOOPBACK, 0)) as listener:
            socket.create_connection(listener.getsockname(), _CONNECT_S).close()
    except OSError as error:
        raise ScenarioError(
            [
                f"{LOOPBACK}: got no connection ({error.strerror or error}), wanted a loopback interface "
                "that is up (ip link set lo up), or --driver one_process"
            ]
        ) from None


def _own_address_towards(host: str) -> str | None:
    """Find this machine's address in its route to a host, without sending anything."""
    try:
        found = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
    except OSError:
        return None
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(address)
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return None


def _interface_of(address: str) -> str | None:
    """Find the interface with an address, whatever its IPv6 scope."""
    for name, addresses in sorted(psutil.net_if_addrs().items()):
        if address in (each.address.split("%")[0] for each in addresses):
            return name
    return None
