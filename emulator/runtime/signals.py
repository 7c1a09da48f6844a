"""When a run may be interrupted: until its results are there, and not while they are written."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a run early."""


def list_handled_signals() -> tuple[signal.Signals, ...]:
    """SIGNALS, but SIGHUP only where it is not ignored, as it is under nohup."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return SIGNALS[:2] if ignored else SIGNALS


@contextmanager
def accept_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP end a run as Ctrl-C does, by KeyboardInterrupt; an ignored SIGHUP stays so."""
    with set_handlers(dict.fromkeys(list_handled_signals()[1:], signal.default_int_handler)):
        yield


@contextmanager
def ignore_interrupts() -> Iterator[None]:
    """None of SIGINT, SIGTERM and SIGHUP ends what takes moments and cost hours."""
    with set_handlers(dict.fromkeys(list_handled_signals(), signal.SIG_IGN)):
        yield


@contextmanager
def set_handlers(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
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
def end_on_sigterm(last: Callable[[], None]) -> Iterator[None]:
    """SIGTERM or SIGHUP does `last` and ends this process at once, even while it waits in a library.

    Python handles signals between its own steps only, which such a wait does not come to: so a thread
    waits for what the system's own handler writes. Not to be forked from. Main thread only.
    """
    ending = dict.fromkeys(list_handled_signals()[1:], lambda number, frame: None)
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)

    def watch() -> None:
        while signals_received := os.read(read_fd, 1):
            if signals_received[0] in ending:
                last()
                os._exit(128 + signals_received[0])
        os.close(read_fd)

    thread = threading.Thread(target=watch, name="ended by SIGTERM", daemon=True)
    thread.start()
    with set_handlers(ending):
        previous_fd = signal.set_wakeup_fd(write_fd)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous_fd)
            os.close(write_fd)
