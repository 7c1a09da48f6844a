"""The life of a device that a driver runs, and the channel shim that carries the messages."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from emulator.core.types.records import LinkRecord
from emulator.core.types.result import DeviceResult
from emulator.core.types.steps import Inbox, Send, Step
from emulator.core.types.transmission import Burst

Life = Generator[Step, Inbox, DeviceResult]
"""The life of a device: it yields steps and receives an Inbox for a Send, an empty one for a Commit."""


class ChannelShim(Protocol):
    """The channel shim of one device as its driver uses it."""

    def emit(
        self, send: Send, exchange_index: int
    ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
        """Transmit a Send. Returns one burst per receiver, and the records of every hop to it."""
        ...

    def collect(self, send: Send, bursts: Sequence[Burst]) -> Inbox:
        """Turn the bursts that a Send waited for, sorted by (arrival_s, sender), into its inbox."""
        ...
