"""What a driver runs, and the shim that it hands messages to."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from emulator.core.types.records import LinkRecord
from emulator.core.types.result import DeviceResult
from emulator.core.types.steps import Inbox, Send, Step
from emulator.core.types.transmission import Burst

Life = Generator[Step, Inbox, DeviceResult]
"""A device's life: yields steps; a Send is answered by its Inbox, a Commit by an empty one."""


class Air(Protocol):
    """The channel shim as drivers see it: one per device."""

    def emit(
        self, send: Send, exchange_index: int
    ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
        """Put a Send on the air: one burst per receiver, and what it cost on every hop to it."""
        ...

    def collect(self, send: Send, bursts: Sequence[Burst]) -> Inbox:
        """Turn the bursts that a Send waited for, sorted by (arrival_s, sender), into its inbox."""
        ...
