"""Which network interface gloo is to use: the one on which the others are reached; and whether one works."""

import os
import socket

import psutil

from emulator.core.errors import ScenarioError

LOOPBACK = "127.0.0.1"
_CONNECT_S = 30.0

VARIABLE = "GLOO_SOCKET_IFNAME"


def use_interface_towards(host: str) -> None:
    """Let gloo use the interface through which a host is reached, unless the environment names one."""
    address = _own_address_towards(host)
    name = _interface_of(address) if address is not None else None
    if name is not None:
        os.environ.setdefault(VARIABLE, name)


def check_loopback() -> None:
    """Raise ScenarioError where processes of this machine cannot reach one another.

    It is the case where the loopback interface is down, as in a new network namespace. torch would try
    to connect for minutes, and then tell it in frames of C++.
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
    """This machine's address in its route to a host. Nothing is sent."""
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
    """The interface with that address; scopes of IPv6 are not told apart."""
    for name, addresses in sorted(psutil.net_if_addrs().items()):
        if address in (each.address.split("%")[0] for each in addresses):
            return name
    return None
