"""The end of a run of several launched processes: all leave together after the results are written.

Some launchers end all processes when the first one has ended. So no process ends before process 0 has
reported that the results are written; from then on all ignore SIGTERM.
"""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from emulator.core.errors import DeviceFailedError
from emulator.runtime.transport.peers import Address
from emulator.runtime.transport.store import SHUTDOWN_BARRIER_S, open_store, poll_keys

_RESULT_KEY, _READY_KEY, _DONE_KEY = "results", "ready_to_leave", "done_with_the_store"
_WRITTEN = "written"
_SLICE_S = 1.0


@dataclass(frozen=True)
class ShutdownGroup:
    """The processes that end together."""

    rank: int
    processes: int
    address: Address
    """Address of the store, which must be served until all have left."""
    stall_timeout_s: float
    """How long process 0 may take to write [s]."""


def leave_together(group: ShutdownGroup, conclude: Callable[[], None]) -> None:
    """Call `conclude` in process 0; the others return after it.

    All processes ignore SIGTERM after `conclude`, so that a launcher ends none of them early. Raises what
    `conclude` raises; in the other processes DeviceFailedError when process 0 fails, is lost, or takes
    longer than stall_timeout_s.
    """
    store = open_store(group.address, SHUTDOWN_BARRIER_S)
    if group.rank == 0:
        try:
            conclude()
        except BaseException:
            store.set(_RESULT_KEY, "failed")
            raise
        store.set(_RESULT_KEY, _WRITTEN)
    else:
        try:
            _await_written(lambda: poll_keys(store, [_RESULT_KEY], _SLICE_S), group.stall_timeout_s)
            result = store.get(_RESULT_KEY).decode()
        except RuntimeError:
            raise DeviceFailedError("process 0 was lost before the results were written") from None
        if result != _WRITTEN:
            raise DeviceFailedError("process 0 could not write the results")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        until_s = time.monotonic() + SHUTDOWN_BARRIER_S
        store.add(_READY_KEY, 1)
        _await_count(lambda: store.add(_READY_KEY, 0), group.processes, until_s)
        if group.rank == 0:  # the store may end with this process: no other may be asking it then
            _await_count(lambda: store.add(_DONE_KEY, 0), group.processes - 1, until_s)
        else:
            store.add(_DONE_KEY, 1)
    except RuntimeError:
        if group.rank == 0:
            raise
        # Process 0 has left with the store: it has waited for all, or SHUTDOWN_BARRIER_S.


def _await_count(counted: Callable[[], int], count: int, until_s: float) -> None:
    """Wait until so many processes are counted; at most until a time of the monotonic clock [s]."""
    while counted() < count and time.monotonic() < until_s:
        time.sleep(0.005)


def _await_written(there: Callable[[], bool], timeout_s: float) -> None:
    """Return when `there` is true. It waits in slices, so that signals are handled in between."""
    until_s = time.monotonic() + timeout_s
    while not there():
        if time.monotonic() > until_s:
            raise DeviceFailedError(
                f"process 0 did not write the results within {timeout_s:g} s (stall_timeout_s)"
            )
