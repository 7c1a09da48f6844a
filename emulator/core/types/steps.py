"""The steps that a device yields to its driver: an exchange, or the end of a round."""

from collections.abc import Mapping
from dataclasses import dataclass

from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Known, Message, Received
from emulator.core.types.records import MetricRecord


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
class DeviceState:
    """All that a device needs to continue after this round: plain arrays by name."""

    round_index: int
    now_s: float
    arrays: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Commit:
    """The end of a round: the state of the device, and the metrics that it measured in the round."""

    state: DeviceState
    records: tuple[MetricRecord, ...]


Step = Send | Commit
