"""Handling of SIGINT, SIGTERM and SIGHUP: they end a run, except while it writes its results."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end a run early."""


def list_handled_signals() -> tuple[signal.Signals, ...]:
    """List SIGNALS, without SIGHUP where it is ignored (as under nohup)."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return SIGNALS[:2] if ignored else SIGNALS


@contextmanager
def accept_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP, as on Ctrl-C; an ignored SIGHUP stays ignored."""
    with set_handlers(dict.fromkeys(list_handled_signals()[1:], signal.default_int_handler)):
        yield


@contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Ignore SIGINT, SIGTERM and SIGHUP for a short step, such as writing the results of hours."""
    with set_handlers(dict.fromkeys(list_handled_signals(), signal.SIG_IGN)):
        yield


@contextmanager
def set_handlers(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Set handlers inside the context; do nothing outside the main thread, which alone gets signals.

    At the end the old handlers come back, except where the code inside has set another one.
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
    """On SIGTERM or SIGHUP call `last` and end this process at once, even during a wait in a library.

    Python runs its handlers only between its own instructions, so not during such a wait. Therefore a
    thread reads the byte that the C handler writes to a pipe. Use it in the main thread, and do not fork
    inside it.
    """
    ending = dict.fromkeys(list_handled_signals()[1:], lambda number, frame: None)
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)

    def watch() -> None:
        while byte := os.read(read_fd, 1):
            if byte[0] in ending:
                last()
                os._exit(128 + byte[0])
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
