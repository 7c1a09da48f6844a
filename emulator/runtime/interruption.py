"""The first signal lets a run end after the present round, with a checkpoint; the next one ends it at once."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from emulator.runtime.signals import list_handled_signals, set_handlers

ANNOUNCEMENT = (
    "interrupted: the run ends after the present round; interrupt again to end it at once"
)


class Interruption:
    """What SIGINT, SIGTERM and SIGHUP ask of a run.

    They raise KeyboardInterrupt at once, except while devices train with checkpoints: there the first one
    waits until all devices of this process have finished the round of the slowest one, and one with a checkpoint.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._rounds_done: dict[int, int] = {}
        self._has_checkpoint: Callable[[int], bool] | None = None
        self._announce: Callable[[str], None] = lambda line: None
        self._last_round: int | None = None

    @contextmanager
    def accept(self, announce: Callable[[str], None]) -> Iterator[None]:
        """Handle the signals inside the context. announce: prints a line."""
        self._announce = announce
        with set_handlers(dict.fromkeys(list_handled_signals(), self._handle)):
            yield

    @contextmanager
    def wait_for_rounds(
        self, devices: Iterable[int], has_checkpoint: Callable[[int], bool] | None
    ) -> Iterator[None]:
        """Inside the context devices train.

        has_checkpoint: whether a checkpoint follows a round; None: there are none to wait for.
        """
        self._rounds_done = dict.fromkeys(devices, 0)
        self._has_checkpoint = has_checkpoint
        try:
            yield
        finally:
            self._has_checkpoint = None

    def finish_round(self, device: int, rounds_done: int) -> None:
        """Record what a device has done. Raises KeyboardInterrupt after the round that was waited for."""
        before = min(self._rounds_done.values(), default=0)
        self._rounds_done[device] = rounds_done
        if not self._is_asked or self._has_checkpoint is None:
            return
        if self._last_round is None:
            self._last_round = before
            while not self._has_checkpoint(self._last_round):
                self._last_round += 1
        if min(self._rounds_done.values()) > self._last_round:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_asked or self._has_checkpoint is None:
            signal.default_int_handler(number, frame)
        self._is_asked = True
        self._announce(ANNOUNCEMENT)
