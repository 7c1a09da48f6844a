"""The steps that a device yields to its driver: an exchange, or the end of a round."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emulator.core.types.message import Known, Message, Received
from emulator.core.types.records import MetricRecord

State = Any
"""A tree of plain values, see core/state_file.py."""


@dataclass(frozen=True, eq=False)
class Send:
    """One exchange: a device sends its messages and waits for those of others.

    All messages share traffic and round_index. `wait_for`: the devices that send to this one in the
    same exchange, sorted; exactly one burst comes from each.

    With `next_s` the device sends without waiting (asynchronous gossip): its inbox holds the messages
    of `listen_to` that arrived before now_s and were in no earlier inbox. The device must send again at
    exactly next_s. inf ends the asynchronous phase; messages that arrive later are never received.
    """

    now_s: float
    messages: tuple[Message, ...]
    wait_for: tuple[int, ...]
    known: Known
    listen_to: tuple[int, ...] = ()
    next_s: float | None = None


@dataclass(frozen=True, eq=False)
class Inbox:
    """The answer to a Send: messages sorted by (arrival_s, sender), and costs so far.

    transmit_end_s: when the device's own transmitter becomes free. The sums cover all hops of the
    device's own messages. Added up over all devices they equal the sums of the ledger, which assigns
    each hop to the device that transmits.
    """

    received: tuple[Received, ...]
    transmit_end_s: float
    sent_bytes: int = 0
    transmit_energy_j: float = 0.0


@dataclass(frozen=True, eq=False)
class Commit:
    """A device has finished a round.

    now_s: its emulated clock [s]. last: whether no round follows. records: what was measured since the last
    commit. capture: gives all that the device needs to go on after this round, as a tree of plain values
    (core/state_file.py); it may be called until the device is answered. None: the method has no `state`.
    """

    round_index: int
    now_s: float
    last: bool
    records: tuple[MetricRecord, ...]
    capture: Callable[[], State] | None


Step = Send | Commit
