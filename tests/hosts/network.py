"""Hosts on one machine: a network namespace each, and one more for the bridge that joins them.

Nothing of the machine's own network is touched. Segments leave as they are on a wire (no offloads), and
nothing but TCP is on it: no IPv6, and all know each other's hardware address.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

ADDRESSES = tuple(f"10.99.0.{number}" for number in range(1, 5))
INTERFACE = "eth0"
STORE_PORT = 29500
TOOLS = ("ip", "tc", "ethtool")

_NO_IPV6 = """
for kind in all default; do
    file=/proc/sys/net/ipv6/conf/$kind/disable_ipv6
    if [ -e $file ]; then echo 1 >$file; fi
done
"""


class RefusedError(Exception):
    """This machine has no network namespaces for us; the text gives the reason."""


@dataclass
class Process:
    """A process on a host; its output goes into a file."""

    running: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        """Its output so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


def finish(processes: Sequence[Process], timeout_s: float) -> list[str]:
    """Return the output of each; AssertionError, with the output, unless all succeed in time."""
    deadline_s = time.monotonic() + timeout_s
    codes: list[int | None] = [None]
    while None in codes and not any(codes) and time.monotonic() < deadline_s:
        time.sleep(0.05)
        codes = [process.running.poll() for process in processes]
    for process, code in zip(processes, codes, strict=True):
        others_wait = code is None and any(codes)
        end = "still running" if code is None else f"exit code {code}"
        assert code == 0 or others_wait, f"{process.log}: {end}\n{process.output}"
    return [process.output for process in processes]


@dataclass
class Host:
    """One host, its only interface `eth0`."""

    namespace: str
    address: str
    processes: list[Process] = field(default_factory=list)

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        """Start a process on this host; its pid is its own, no wrapper's."""
        named = "GLOO_SOCKET_IFNAME"  # which interface it is, a process is to find out
        inherited = {name: value for name, value in os.environ.items() if name != named}
        with log.open("wb") as output:
            running = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *command],
                env={**inherited, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(Process(running, log))
        return self.processes[-1]

    def shape(self, rate: str) -> None:
        """Let no more Ethernet frames leave than `rate` (as tc writes it); what is too much waits.

        Raises RefusedError where the kernel has no token bucket filter.
        """
        queue = ("tbf", "rate", rate, "burst", "16kb", "latency", "400ms")
        _called("tc", "-n", self.namespace, "qdisc", "replace", "dev", INTERFACE, "root", *queue)

    def unshape(self) -> None:
        """Undo `shape`."""
        _called("tc", "-n", self.namespace, "qdisc", "delete", "dev", INTERFACE, "root")


class Network:
    """Four hosts behind one bridge. A context manager: leaving it leaves nothing behind.

    Raises RefusedError, on entering, where this machine cannot.
    """

    def __init__(self) -> None:
        self._bridge = f"dfl-{os.getpid()}-bridge"
        self.hosts = [
            Host(f"dfl-{os.getpid()}-{index}", address) for index, address in enumerate(ADDRESSES)
        ]

    def __enter__(self) -> Self:
        _check_machine()
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def launch(self, command: Sequence[str], hosts: Sequence[Host], folder: Path) -> list[Process]:
        """Start the same command on each host, as a launcher would; the first hosts the store."""
        return [
            host.start(
                command,
                {
                    "RANK": str(rank),
                    "WORLD_SIZE": str(len(hosts)),
                    "MASTER_ADDR": hosts[0].address,
                    "MASTER_PORT": str(STORE_PORT),
                },
                folder / f"{rank}.log",
            )
            for rank, host in enumerate(hosts)
        ]

    def end_processes(self) -> None:
        """Kill what still runs on any host."""
        for host in self.hosts:
            for process in host.processes:
                process.running.kill()
                process.running.wait()
            host.processes.clear()

    def _build(self) -> None:
        for name in self._namespaces():
            _add(name)
            _called("ip", "netns", "exec", name, "sh", "-ec", _NO_IPV6)
        ports = [f"port{index}" for index in range(len(self.hosts))]
        lines = ["link add br0 type bridge", "link set br0 up"]
        for index, (port, host) in enumerate(zip(ports, self.hosts, strict=True)):
            end = f"{INTERFACE} address {_hardware(index)} netns {host.namespace}"
            lines += [f"link add {port} type veth peer name {end}"]
            lines += [f"link set {port} master br0 up"]
        _batch(self._bridge, lines)
        _offloads_off(self._bridge, ports)
        for host in self.hosts:
            lines = [f"address add {host.address}/24 dev {INTERFACE}"]
            lines += ["link set lo up", f"link set {INTERFACE} up"]
            lines += [
                f"neighbour add {other.address} lladdr {_hardware(index)} dev {INTERFACE} nud permanent"
                for index, other in enumerate(self.hosts)
                if other is not host
            ]
            _batch(host.namespace, lines)
            _offloads_off(host.namespace, [INTERFACE])

    def _remove(self) -> None:
        self.end_processes()
        for name in self._namespaces():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def _namespaces(self) -> list[str]:
        return [self._bridge, *(host.namespace for host in self.hosts)]


def _check_machine() -> None:
    for tool in TOOLS:
        if shutil.which(tool) is None:
            raise RefusedError(f"{tool} is not on the PATH (packages iproute2 and ethtool)")
    if os.geteuid() != 0:
        raise RefusedError("network namespaces need root")


def _add(name: str) -> None:
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RefusedError(f"`ip netns add` was refused: {done.stderr.strip()}")


def _hardware(index: int) -> str:
    return f"02:00:0a:63:00:{index + 1:02x}"


def _batch(namespace: str, lines: Sequence[str]) -> None:
    _called("ip", "-n", namespace, "-batch", "-", text="\n".join(lines) + "\n")


def _offloads_off(namespace: str, interfaces: Sequence[str]) -> None:
    calls = [f"ethtool -K {name} tso off gso off gro off" for name in interfaces]
    _called("ip", "netns", "exec", namespace, "sh", "-ec", "\n".join(calls))


def _called(*command: str, text: str | None = None) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RefusedError(f"`{' '.join(command[:6])} ...` was refused: {done.stderr.strip()}")
