"""The store, where the devices of a run meet: who serves it, and how they reach it."""

import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from emulator.errors import EmulatorError
from emulator.exchange.meeting import Address

FAREWELL_S = 10.0
LEFT_KEY = "left"
"""How many devices have closed their transports."""

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.05


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

    def await_farewell(self) -> None:
        """Return when all devices have closed their transports, or after ten seconds."""
        deadline_s = time.monotonic() + FAREWELL_S
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

    def turn(self, queue: str) -> int:
        """How many have asked so before."""
        return int(self._store.add(f"turn/{queue}", 1)) - 1

    def publish(self, title: str, text: str) -> None:
        """Tell all processes, once."""
        self._store.set(f"note/{title}", text)

    def read(self, title: str) -> str:
        """What somebody publishes. Raises EmulatorError when nobody does within stall_timeout_s."""
        key = f"note/{title}"
        with self._waiting():
            if not all_there(self._store, [key], self._stall_timeout_s):
                raise EmulatorError(f"got no {title} for {self._stall_timeout_s:g} s")
        return self._store.get(key).decode()


def open_store(address: Address, connect_timeout_s: float) -> Store:
    """The store at an address. Raises EmulatorError, naming it, when it cannot be reached in time."""
    try:
        store = TCPStore(
            address.host,
            address.port,
            timeout=timedelta(seconds=connect_timeout_s),
            wait_for_workers=False,
        )
    except RuntimeError as error:
        raise EmulatorError(
            f"store at {address.host}:{address.port}: not reachable within {connect_timeout_s:g} s "
            f"({str(error).splitlines()[0]})"
        ) from None
    return PrefixStore(address.prefix, store)


def all_there(store: Store, keys: list[str], patience_s: float) -> bool:
    """Whether the store holds all keys by then.

    It is asked again and again, ever less often: a wait of the store's own that times out is reported
    on standard error as if it were a fault.
    """
    deadline_s, pause_s = time.monotonic() + patience_s, _SHORTEST_PAUSE_S
    while not store.check(keys):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return True
