"""Detection of deadlocks: it distinguishes a slow exchange from one that can never end.

A device that waits for a second or more publishes its state to all: its exchange, and the exchanges in
which it last sent to and waited for each other device. Two such states show whether one device waits
for a burst that the other has not sent and will not send. A missing answer alone proves nothing: the
other device may be slow.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from emulator.core.errors import DeviceFailedError, EmulatorError, ProtocolError
from emulator.runtime.drivers.lifecycle import missing_burst_error, unexpected_burst_error

FIRST_CHECK_S = 1.0
LONGEST_CHECK_INTERVAL_S = 30.0
ENDED = 2**62
"""The exchange index of a device whose life has ended."""


class KeyStore(Protocol):
    """The part of torch.distributed's stores that a board uses."""

    def set(self, key: str, value: str) -> object:
        """Set or replace a value."""
        ...

    def get(self, key: str) -> bytes:
        """Return the value of a key that exists."""
        ...

    def check(self, keys: list[str]) -> bool:
        """Return whether all keys exist."""
        ...


class StateBoard:
    """The published states of all devices, over a store connection of its own, opened on first use."""

    def __init__(self, open_store: Callable[[], KeyStore]) -> None:
        self._open_store = open_store
        self._store: KeyStore | None = None

    def publish(self, device: int, note: str) -> None:
        """Publish the device's state in place of its last one."""
        self._opened().set(f"state/{device}", note)

    def read(self, device: int) -> str | None:
        """Return the state that a device has published, None without one."""
        key = f"state/{device}"
        return self._opened().get(key).decode() if self._opened().check([key]) else None

    def _opened(self) -> KeyStore:
        if self._store is None:
            self._store = self._open_store()
        return self._store


@dataclass
class ExchangeState:
    """A device's exchange, and for each peer the last exchange of a send to it and of a wait for it."""

    exchange_index: int = -1
    sent: dict[int, int] = field(default_factory=dict)
    awaited: dict[int, int] = field(default_factory=dict)

    def to_note(self) -> str:
        """Return the state as JSON. Law: `from_note(to_note())` equals the original."""
        return json.dumps(
            [self.exchange_index, list(self.sent.items()), list(self.awaited.items())]
        )

    @classmethod
    def from_note(cls, note: str) -> "ExchangeState":
        """The state that `to_note` wrote."""
        exchange_index, sent, awaited = json.loads(note)
        return cls(exchange_index, dict(sent), dict(awaited))


def find_deadlock(
    own_id: int, own: ExchangeState, other_id: int, other: ExchangeState
) -> ProtocolError | None:
    """Return why the own exchange can never end because of the other device, or None.

    Law: the result is None for devices that agree, however far apart in time they are.
    """
    index = own.exchange_index
    if other.exchange_index < index:
        return None
    if own.awaited.get(other_id) == index and other.sent.get(own_id, -1) < index:
        return missing_burst_error(other_id, own_id, index)
    if own.sent.get(other_id) == index and other.awaited.get(own_id, -1) < index:
        return unexpected_burst_error(own_id, other_id, index)
    return None


class StallWatch:
    """A thread that compares states whenever its device waits for a second or more.

    On a deadlock, or when the board cannot be reached, it stores the verdict and calls `break_off` once.
    """

    def __init__(self, device: int, board: StateBoard, break_off: Callable[[], None]) -> None:
        self.verdict: EmulatorError | None = None
        self._device = device
        self._board = board
        self._break_off = break_off
        self._state = ExchangeState()
        self._waiting_since_s: float | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall watch", daemon=True)
        self._thread.start()

    @contextmanager
    def exchange(
        self, exchange_index: int, receivers: Sequence[int], wait_for: Sequence[int]
    ) -> Iterator[None]:
        """Record an exchange, during which the device waits."""
        with self._lock:
            self._state.exchange_index = exchange_index
            self._state.sent.update(dict.fromkeys(receivers, exchange_index))
            self._state.awaited.update(dict.fromkeys(wait_for, exchange_index))
        with self.waiting():
            yield

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark that the device waits for others inside the context."""
        self._waiting_since_s = time.monotonic()
        try:
            yield
        finally:
            self._waiting_since_s = None

    def note(self) -> str:
        """Return the device's own state, for others to read."""
        with self._lock:
            return self._state.to_note()

    def check_last_state(self, other_id: int, note: str) -> None:
        """Raise ProtocolError where the last state of a device has a burst that was never awaited."""
        last_sent = ExchangeState.from_note(note).sent.get(self._device, -1)
        if last_sent > self._state.awaited.get(other_id, -1):
            raise unexpected_burst_error(other_id, self._device, last_sent)

    def end(self) -> None:
        """Record that the life has ended: nothing is sent or awaited from now on."""
        with self._lock:
            self._state.exchange_index = ENDED

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        check_after_s = FIRST_CHECK_S
        seen_since_s: float | None = None
        while not self._closed.wait(FIRST_CHECK_S):
            since_s = self._waiting_since_s
            if since_s is None or since_s != seen_since_s:
                check_after_s, seen_since_s = FIRST_CHECK_S, since_s
            if since_s is None or time.monotonic() - since_s < check_after_s:
                continue
            check_after_s += min(check_after_s, LONGEST_CHECK_INTERVAL_S)
            try:
                self.verdict = self._find_error()
            except (EmulatorError, RuntimeError):
                self.verdict = DeviceFailedError(
                    f"device {self._device}: the store is gone, and with it the process that hosts it"
                )
            if self.verdict is not None:
                self._break_off()
                return

    def _find_error(self) -> EmulatorError | None:
        note = self.note()
        own = ExchangeState.from_note(note)
        self._board.publish(self._device, note)
        index = own.exchange_index
        for other_id in sorted({*own.sent, *own.awaited}):
            if index not in (own.sent.get(other_id), own.awaited.get(other_id)):
                continue
            other_note = self._board.read(other_id)
            if other_note is None:
                continue
            error = find_deadlock(self._device, own, other_id, ExchangeState.from_note(other_note))
            if error is not None:
                return error
        return None
