"""The steps of a device between which a driver acts: an exchange, or the end of a round."""

from collections.abc import Mapping
from dataclasses import dataclass

from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Known, Message, Received
from emulator.core.types.records import MetricRecord


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
class DeviceState:
    """What a device would need to go on after this round: plain arrays by name."""

    round_index: int
    now_s: float
    arrays: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Commit:
    """A device has finished a round: its state, and what it measured in it."""

    state: DeviceState
    records: tuple[MetricRecord, ...]


Step = Send | Commit
