"""The store of a run, a key-value server over which its processes find each other and coordinate."""

import json
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.runtime.transport.peers import Address, silent_peer_error

SHUTDOWN_BARRIER_S = 10.0
LEFT_KEY = "left"
"""The key that counts the devices that have closed their transports."""

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.05
_LONGEST_CONNECT_PAUSE_S = 0.5
_TERMS_KEY, _REFUSED_KEY = "terms", "refused"
_REFUSAL_READ_S = 0.5
"""How long a process with a refusal waits, so that all can read it before the store's host ends [s]."""


class StoreHost:
    """Serves the store, in threads of its own, on a listening socket. A context manager."""

    def __init__(self, listener: socket.socket, address: Address, devices: int) -> None:
        self._devices = devices
        master = TCPStore(
            address.host,
            address.port,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )
        self._store: Store | None = PrefixStore(address.prefix, master)

    def __enter__(self) -> "StoreHost":
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads, even where a traceback still refers to this object."""
        self._store = None

    def await_shutdown(self) -> None:
        """Wait until all devices have closed their transports, at most SHUTDOWN_BARRIER_S."""
        deadline_s = time.monotonic() + SHUTDOWN_BARRIER_S
        while self._store is not None and time.monotonic() < deadline_s:
            if self._store.add(LEFT_KEY, 0) >= self._devices:
                return
            time.sleep(0.005)


class Notes:
    """Texts and counters that processes share over the store before the first exchange."""

    def __init__(
        self,
        store: Store,
        waiting: Callable[[], AbstractContextManager[None]],
        stall_timeout_s: float,
    ) -> None:
        self._store = store
        self._waiting = waiting
        self._stall_timeout_s = stall_timeout_s

    def take_turn(self, queue: str) -> int:
        """Return how many calls there were before for this queue, in all processes."""
        return int(self._store.add(f"turn/{queue}", 1)) - 1

    def find_marked(self, marks: Mapping[int, bool], barrier: Callable[[], None]) -> list[int]:
        """Return the numbers that some device has marked; all devices call it once, with the same numbers."""
        for number in (number for number, is_marked in marks.items() if is_marked):
            self._store.add(f"marked/{number}", 1)
        barrier()
        return [number for number in marks if self._store.add(f"marked/{number}", 0)]

    def publish(self, title: str, text: str) -> None:
        """Publish a text to all processes, once."""
        self._store.set(f"note/{title}", text)

    def read(self, title: str) -> str:
        """Wait for a published text. Raises EmulatorError when there is none within stall_timeout_s."""
        key = f"note/{title}"
        with self._waiting():
            if not poll_keys(self._store, [key], self._stall_timeout_s):
                raise EmulatorError(f"got no {title} for {self._stall_timeout_s:g} s")
        return self._store.get(key).decode()


def open_store(address: Address, connect_timeout_s: float) -> Store:
    """Connect to the store at an address. Raises EmulatorError, with it, when it is not reached in time."""
    try:
        _await_listener(address, connect_timeout_s)
        store = TCPStore(
            address.host,
            address.port,
            timeout=timedelta(seconds=connect_timeout_s),
            wait_for_workers=False,
        )
    except (OSError, RuntimeError) as error:
        raise EmulatorError(
            f"store at {address.host}:{address.port}: not reachable within {connect_timeout_s:g} s "
            f"({str(error).splitlines()[0]})"
        ) from None
    return PrefixStore(address.prefix, store)


def _await_listener(address: Address, timeout_s: float) -> None:
    """Wait until a process listens at the address; raise the last OSError after timeout_s.

    A TCPStore would wait, too, but twice as long as its timeout, and print a page of warnings.
    """
    deadline_s = time.monotonic() + timeout_s
    last_error = OSError("no attempt was made")

    def listens() -> bool:
        nonlocal last_error
        left_s = max(deadline_s - time.monotonic(), _SHORTEST_PAUSE_S)
        try:
            socket.create_connection((address.host, address.port), left_s).close()
        except OSError as error:  # also where the host name does not resolve yet
            last_error = error
            return False
        return True

    if not _poll(listens, timeout_s, _LONGEST_CONNECT_PAUSE_S):
        raise last_error


def poll_keys(store: Store, keys: list[str], timeout_s: float) -> bool:
    """Return whether the store holds all keys within timeout_s.

    The store is polled, because its own wait would print a timeout on standard error like a fault.
    """
    return _poll(lambda: store.check(keys), timeout_s, _LONGEST_PAUSE_S)


def _poll(is_there: Callable[[], bool], timeout_s: float, longest_pause_s: float) -> bool:
    """Return whether `is_there` is true within timeout_s. It is called less and less often."""
    deadline_s, pause_s = time.monotonic() + timeout_s, _SHORTEST_PAUSE_S
    while not is_there():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, longest_pause_s)
    return True


@dataclass(frozen=True)
class Wait:
    """A wait of a device: the part of the run, its longest duration, and the time between checks [s]."""

    device: int
    where: str
    stall_timeout_s: float
    slice_s: float


def await_keys(
    store: Store, keys: Mapping[str, int], wait: Wait, check: Callable[[], None]
) -> None:
    """Wait until the store holds all keys. keys: key -> the device that sets it.

    Raises PeerFailedError, with the first device that has not set its key, after stall_timeout_s, and
    what `check` raises, which is called after every slice.
    """
    deadline_s = time.monotonic() + wait.stall_timeout_s
    while not poll_keys(store, list(keys), wait.slice_s):
        check()
        if time.monotonic() > deadline_s:
            peer = next(peer for key, peer in keys.items() if not store.check([key]))
            raise silent_peer_error(wait.device, peer, wait.where, wait.stall_timeout_s)


def join_run(
    store: Store, device: int, devices: int, terms: Mapping[str, str], stall_timeout_s: float
) -> None:
    """Wait until all devices have joined the run with the terms of device 0.

    terms: the settings that must be equal. When a device has other terms, every device raises
    ScenarioError with its host and the term. Raises PeerFailedError, with the device, when one does not
    join in time.
    """
    if device == 0:
        store.set(_TERMS_KEY, json.dumps(dict(terms)))

    def check() -> None:
        if store.check([_REFUSED_KEY]):
            problems = json.loads(store.get(_REFUSED_KEY))
            time.sleep(_REFUSAL_READ_S)
            raise ScenarioError(problems)

    wait = Wait(device, "joining", stall_timeout_s, _LONGEST_PAUSE_S)
    await_keys(store, {_TERMS_KEY: 0}, wait, check)
    problems = _list_differences(device, terms, json.loads(store.get(_TERMS_KEY)))
    if problems:
        store.set(_REFUSED_KEY, json.dumps(problems))
        raise ScenarioError(problems)
    store.set(f"joined/{device}", "")
    await_keys(store, {f"joined/{each}": each for each in range(devices)}, wait, check)


def _list_differences(device: int, got: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """List a line for each term that differs."""
    return [
        f"device {device} on {socket.gethostname()}: {term}: got {got.get(term, 'nothing')}, "
        f"wanted {wanted.get(term, 'nothing')} as device 0 has"
        for term in sorted({*got, *wanted})
        if got.get(term) != wanted.get(term)
    ]
