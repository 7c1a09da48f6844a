"""The steps of a device between which a driver acts: an exchange, or the end of a round."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emulator.core.types.message import Known, Message, Received
from emulator.core.types.records import MetricRecord

State = Any
"""A tree of plain values, see core/state_file.py."""


@dataclass(frozen=True, eq=False)
class Send:
    """A device speaks and waits: one exchange.

    All messages share traffic and round_index. `wait_for`: the devices that send to this one in the
    same exchange, sorted; exactly one burst comes from each.

    With `next_s` it speaks without waiting (asynchronous gossip): its inbox holds what came from
    `listen_to` before now_s and was in no inbox yet. It promises to speak next at next_s; inf ends this
    way of speaking, and what has not arrived by then is never heard.
    """

    now_s: float
    messages: tuple[Message, ...]
    wait_for: tuple[int, ...]
    known: Known
    listen_to: tuple[int, ...] = ()
    next_s: float | None = None


@dataclass(frozen=True, eq=False)
class Inbox:
    """Answers a Send: messages by (arrival_s, sender); when the own radio ends; sums so far.

    The sums are of all that the device's messages cost, on every hop: over all devices they are those of
    the ledger, which attributes each hop to the device that transmits.
    """

    received: tuple[Received, ...]
    transmit_end_s: float
    sent_bytes: int = 0
    transmit_energy_j: float = 0.0


@dataclass(frozen=True, eq=False)
class Commit:
    """A device has finished a round.

    now_s: its emulated clock [s]. records: what was measured since the last commit. capture: gives all that
    the device needs to go on after this round, as a tree of plain values (core/state_file.py); it may be
    called until the device is answered.
    """

    round_index: int
    now_s: float
    records: tuple[MetricRecord, ...]
    capture: Callable[[], State]


Step = Send | Commit
