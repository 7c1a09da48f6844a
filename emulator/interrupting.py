"""When a run may be interrupted: until its results are there, and not while they are written."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_Handler = Any


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does, by KeyboardInterrupt."""
    with _handled({signal.SIGTERM: _interrupt}):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Neither SIGINT nor SIGTERM ends what takes moments and cost hours."""
    with _handled({signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_IGN}):
        yield


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _handled(handlers: dict[signal.Signals, _Handler]) -> Iterator[None]:
    """Other handlers for a while; none outside the main thread, which alone gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
