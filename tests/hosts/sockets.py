"""What the kernel counted for this process's TCP connections and for its network interface."""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

_STREAM = socket.SOCK_STREAM
# struct tcp_info of linux/tcp.h, as far as Linux 4.19 has it.
_LAYOUT = struct.Struct("<8B24I4Q6I4Q2I2Q")
_UNACKED, _BYTES_RECEIVED, _SEGMENTS_OUT, _UNSENT, _BYTES_SENT = 12, 35, 36, 38, 48


class Connection(NamedTuple):
    """One TCP connection. Bytes are payload, repeated ones included; segments are all, ACKs and SYNs too."""

    local: tuple[str, int]
    peer: tuple[str, int]
    unacknowledged: int
    bytes_sent: int
    bytes_repeated: int
    bytes_received: int
    segments_out: int
    segments_in: int
    data_segments_out: int


def connections() -> list[Connection]:
    """All that are open in this process."""
    return [_measured(each) for each in _sockets() if _is_connected(each)]


def listening_ports() -> list[int]:
    """Where this process is called; a connection from such a port was made by the other side."""
    listening = (socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return [each.getsockname()[1] for each in _sockets() if each.getsockopt(*listening)]


def interface_counters(name: str) -> dict[str, int]:
    """Bytes and frames that an interface of this network namespace has seen, Ethernet headers included."""
    counters = psutil.net_io_counters(pernic=True, nowrap=False)[name]
    return {
        "bytes_in": counters.bytes_recv,
        "frames_in": counters.packets_recv,
        "bytes_out": counters.bytes_sent,
        "frames_out": counters.packets_sent,
    }


def tcp_counters() -> dict[str, int]:
    """The namespace's own TCP counters, by the names that the kernel gives them."""
    lines = [line.split() for line in Path("/proc/self/net/snmp").read_text().splitlines()]
    names, values = (line[1:] for line in lines if line[0] == "Tcp:")
    return {name: int(value) for name, value in zip(names, values, strict=True)}


def _sockets() -> Iterator[socket.socket]:
    """The TCP sockets among this process's descriptors, each opened once more for a while."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
            again = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:  # closed meanwhile
            continue
        with again:
            if again.family in (socket.AF_INET, socket.AF_INET6) and again.type == _STREAM:
                yield again


def _is_connected(each: socket.socket) -> bool:
    try:
        each.getpeername()
    except OSError:
        return False
    return True


def _measured(each: socket.socket) -> Connection:
    info = _LAYOUT.unpack_from(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512))
    return Connection(
        _plain(each.getsockname()),
        _plain(each.getpeername()),
        info[_UNACKED] + info[_UNSENT],
        *info[_BYTES_SENT : _BYTES_SENT + 2],
        info[_BYTES_RECEIVED],
        *info[_SEGMENTS_OUT : _SEGMENTS_OUT + 2],
        info[_SEGMENTS_OUT + 5],
    )


def _plain(address: tuple[str, int]) -> tuple[str, int]:
    return address[0].removeprefix("::ffff:"), address[1]
