"""The store, where the devices of a run meet: who serves it, and how they reach it."""

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
"""How many devices have closed their transports."""

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.05
_LONGEST_CONNECT_PAUSE_S = 0.5
_TERMS_KEY, _REFUSED_KEY = "terms", "refused"
_REFUSAL_READ_S = 0.5
"""How long a refusal is left to be read by all: the host of the store may be the next to end."""


class StoreHost:
    """Serves the store, in threads of its own, on a socket that listens already. A context manager."""

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
        """End the threads, even if a traceback still refers to this object."""
        self._store = None

    def await_shutdown(self) -> None:
        """Return when all devices have closed their transports, or after ten seconds."""
        deadline_s = time.monotonic() + SHUTDOWN_BARRIER_S
        while self._store is not None and time.monotonic() < deadline_s:
            if self._store.add(LEFT_KEY, 0) >= self._devices:
                return
            time.sleep(0.005)


class Notes:
    """What processes tell each other before they exchange anything."""

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
        """How many have asked so before."""
        return int(self._store.add(f"turn/{queue}", 1)) - 1

    def publish(self, title: str, text: str) -> None:
        """Tell all processes, once."""
        self._store.set(f"note/{title}", text)

    def read(self, title: str) -> str:
        """What somebody publishes. Raises EmulatorError when nobody does within stall_timeout_s."""
        key = f"note/{title}"
        with self._waiting():
            if not poll_keys(self._store, [key], self._stall_timeout_s):
                raise EmulatorError(f"got no {title} for {self._stall_timeout_s:g} s")
        return self._store.get(key).decode()


def open_store(address: Address, connect_timeout_s: float) -> Store:
    """The store at an address. Raises EmulatorError, naming it, when it cannot be reached in time."""
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
    """Return when somebody listens there; raises the last OSError when nobody does by then.

    A TCPStore would wait for that, too, but twice as long as it is told, with a page of complaints.
    """
    deadline_s = time.monotonic() + timeout_s
    why_not = OSError("nobody was asked")

    def listens() -> bool:
        nonlocal why_not
        left_s = max(deadline_s - time.monotonic(), _SHORTEST_PAUSE_S)
        try:
            socket.create_connection((address.host, address.port), left_s).close()
        except OSError as error:  # a name may be nobody's yet, too
            why_not = error
            return False
        return True

    if not _poll(listens, timeout_s, _LONGEST_CONNECT_PAUSE_S):
        raise why_not


def poll_keys(store: Store, keys: list[str], timeout_s: float) -> bool:
    """Whether the store holds all keys by then.

    It is asked again and again: a wait of the store's own that times out is reported on standard error
    as if it were a fault.
    """
    return _poll(lambda: store.check(keys), timeout_s, _LONGEST_PAUSE_S)


def _poll(is_there: Callable[[], bool], timeout_s: float, longest_pause_s: float) -> bool:
    """Whether it is there by then; asked again and again, ever less often."""
    deadline_s, pause_s = time.monotonic() + timeout_s, _SHORTEST_PAUSE_S
    while not is_there():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, longest_pause_s)
    return True


@dataclass(frozen=True)
class Wait:
    """Who waits in which part of the run, how long, and how long without looking up."""

    device: int
    where: str
    stall_timeout_s: float
    slice_s: float


def await_keys(store: Store, keys: Mapping[str, int], wait: Wait, look: Callable[[], None]) -> None:
    """Wait until the store holds all keys, each set by the device beside it.

    Raises PeerFailedError, naming the first that did not, after stall_timeout_s, and what `look` raises,
    which is called after every slice.
    """
    deadline_s = time.monotonic() + wait.stall_timeout_s
    while not poll_keys(store, list(keys), wait.slice_s):
        look()
        if time.monotonic() > deadline_s:
            peer = next(peer for key, peer in keys.items() if not store.check([key]))
            raise silent_peer_error(wait.device, peer, wait.where, wait.stall_timeout_s)


def join_run(
    store: Store, device: int, devices: int, terms: Mapping[str, str], stall_timeout_s: float
) -> None:
    """Return when all devices have come, on the terms of device 0: what all must be told alike.

    Raises ScenarioError, naming host and term, at every device when one comes on other terms;
    PeerFailedError, naming it, when one does not come in time.
    """
    if device == 0:
        store.set(_TERMS_KEY, json.dumps(dict(terms)))

    def look() -> None:
        if store.check([_REFUSED_KEY]):
            problems = json.loads(store.get(_REFUSED_KEY))
            time.sleep(_REFUSAL_READ_S)
            raise ScenarioError(problems)

    wait = Wait(device, "joining", stall_timeout_s, _LONGEST_PAUSE_S)
    await_keys(store, {_TERMS_KEY: 0}, wait, look)
    problems = _list_differences(device, terms, json.loads(store.get(_TERMS_KEY)))
    if problems:
        store.set(_REFUSED_KEY, json.dumps(problems))
        raise ScenarioError(problems)
    store.set(f"joined/{device}", "")
    await_keys(store, {f"joined/{each}": each for each in range(devices)}, wait, look)


def _list_differences(device: int, got: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """A line for each term that is not the same."""
    return [
        f"device {device} on {socket.gethostname()}: {term}: got {got.get(term, 'nothing')}, "
        f"wanted {wanted.get(term, 'nothing')} as device 0 has"
        for term in sorted({*got, *wanted})
        if got.get(term) != wanted.get(term)
    ]
