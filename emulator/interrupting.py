"""When a run may be interrupted: until its results are there, and not while they are written."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does, by KeyboardInterrupt."""
    with handled({signal.SIGTERM: signal.default_int_handler}):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Neither SIGINT nor SIGTERM ends what takes moments and cost hours."""
    with handled({signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_IGN}):
        yield


@contextmanager
def handled(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Other handlers for a while; none outside the main thread, which alone gets signals.

    A handler that was set in between for good stays.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) == handlers[number]:
                signal.signal(number, handler)


@contextmanager
def ended_by_sigterm(last: Callable[[], None]) -> Iterator[None]:
    """SIGTERM does `last` and ends this process at once, even while it waits inside a library.

    Python handles signals between its own steps only, which such a wait does not come to: so a thread
    waits for what the system's own handler writes. Not to be forked from. Main thread only.
    """
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)

    def look_out() -> None:
        while told := os.read(read_fd, 1):
            if told[0] == signal.SIGTERM:
                last()
                os._exit(128 + signal.SIGTERM)
        os.close(read_fd)

    thread = threading.Thread(target=look_out, name="ended by SIGTERM", daemon=True)
    thread.start()
    with handled({signal.SIGTERM: lambda number, frame: None}):
        previous_fd = signal.set_wakeup_fd(write_fd)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous_fd)
            os.close(write_fd)
