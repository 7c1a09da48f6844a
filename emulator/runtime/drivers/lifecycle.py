"""What both drivers share: they run a life from Send to Send, and check that sends and waits match."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from emulator.core.errors import DeviceFailedError, ProtocolError, ScenarioError
from emulator.core.failures import cause_of, life_failure
from emulator.core.protocols.driver import ChannelShim, Life
from emulator.core.types.records import LinkRecord
from emulator.core.types.result import DeviceResult
from emulator.core.types.steps import Commit, Inbox, Send
from emulator.core.types.transmission import Burst

Result = TypeVar("Result")

OnCommit = Callable[[int, Commit, tuple[LinkRecord, ...]], None]
"""A driver calls it with the device, its commit, and the link records since its last commit."""


@dataclass(frozen=True, eq=False)
class LifeOutcome:
    """The result of a life, and all of its link records in order."""

    result: DeviceResult
    link_records: tuple[LinkRecord, ...]


class LifeRunner:
    """Runs one life from Send to Send, and answers its commits on the way.

    An exception of the life or its air becomes a LifeFailedError, which names device, round, exception and
    the line of code; ScenarioError and ProtocolError keep their own words.
    """

    def __init__(self, device: int, life: Life, air: ChannelShim, on_commit: OnCommit) -> None:
        self.device = device
        self._life = life
        self._air = air
        self._on_commit = on_commit
        self._records: list[LinkRecord] = []
        self._committed = 0
        self._last_round: int | None = None
        self._outcome: LifeOutcome | None = None

    def start(self) -> Send | None:
        """Return the first Send, or None when the life ended without one."""
        return self._next(lambda: next(self._life))

    def emit(self, send: Send, exchange_index: int) -> tuple[Burst, ...]:
        """Transmit a Send: return its bursts and keep its link records. Raises ProtocolError."""
        bursts, records = self._run(lambda: self._air.emit(send, exchange_index))
        self._records.extend(records)
        _check_outbox(self.device, exchange_index, bursts, send.wait_for)
        return bursts

    def answer(self, send: Send, bursts: Iterable[Burst]) -> Send | None:
        """Pass on the bursts that a Send waited for; return the next Send, or None at the life's end."""
        ordered = sorted(bursts, key=lambda burst: (burst.arrival_s, burst.sender))
        inbox = self._run(lambda: self._air.collect(send, ordered))
        following = self._next(lambda: self._life.send(inbox))
        _check_next_send(self.device, send, following)
        return following

    def close(self) -> None:
        """Close the generator, so that a life that has not ended runs its `finally` blocks."""
        self._life.close()

    @property
    def outcome(self) -> LifeOutcome:
        """The outcome of the ended life. Raises ProtocolError before its end."""
        if self._outcome is None:
            raise ProtocolError(f"device {self.device}: its life has not ended yet")
        return self._outcome

    def _next(self, step_on: Callable[[], Send | Commit]) -> Send | None:
        try:
            step = self._run(step_on)
            while isinstance(step, Commit):
                self._commit(step)
                inbox = Inbox((), step.now_s)
                step = self._run(partial(self._life.send, inbox))
        except StopIteration as end:
            self._outcome = LifeOutcome(end.value, tuple(self._records))
            return None
        return step

    def _run(self, code: Callable[[], Result]) -> Result:
        """What the code of the device gives."""
        try:
            return code()
        except (StopIteration, ScenarioError, ProtocolError, DeviceFailedError):
            raise
        except (Exception, SystemExit) as error:
            raise life_failure(self.device, self._last_round, cause_of(error)) from error

    def _commit(self, commit: Commit) -> None:
        self._last_round = commit.round_index
        fresh = tuple(self._records[self._committed :])
        self._committed = len(self._records)
        self._on_commit(self.device, commit, fresh)


def _check_next_send(device: int, send: Send, following: Send | None) -> None:
    """Raise ProtocolError unless a Send without waiting is followed by one at its `next_s`.

    After `next_s` = inf no other may follow.
    """
    if send.next_s is None:
        return
    following_s = math.inf if following is None or following.next_s is None else following.now_s
    if following_s < send.next_s or (math.isfinite(send.next_s) and math.isinf(following_s)):
        raise ProtocolError(
            f"device {device}: got a Send without waiting at {following_s:g} s, wanted one at "
            f"{send.next_s:g} s, as promised: one exchange a round"
        )


def unexpected_burst_error(sender: int, receiver: int, exchange_index: int) -> ProtocolError:
    """The error for a burst for which its receiver does not wait."""
    return ProtocolError(
        f"exchange {exchange_index}: device {sender} sends to device {receiver}, "
        f"which does not wait for it"
    )


def missing_burst_error(sender: int, receiver: int, exchange_index: int) -> ProtocolError:
    """The error for a receiver that waits for a burst that is never sent."""
    return ProtocolError(
        f"exchange {exchange_index}: device {receiver} waits for device {sender}, "
        f"which sends it nothing"
    )


def _check_outbox(
    device: int, exchange_index: int, bursts: Sequence[Burst], wait_for: Sequence[int]
) -> None:
    """Raise ProtocolError unless each receiver gets one burst and `wait_for` is sorted, without doubles.

    Neither may name the device itself.
    """
    where = f"exchange {exchange_index}, device {device}"
    receivers = [burst.receiver for burst in bursts]
    if len(set(receivers)) != len(receivers) or device in receivers:
        raise ProtocolError(f"{where}: got bursts to {receivers}, wanted one each to other devices")
    if list(wait_for) != sorted(set(wait_for)) or device in wait_for:
        raise ProtocolError(
            f"{where}: got wait_for {tuple(wait_for)}, wanted other devices, each once, sorted"
        )
    for burst in bursts:
        if (burst.sender, burst.exchange_index) != (device, exchange_index):
            raise ProtocolError(
                f"{where}: got a burst of device {burst.sender}, exchange {burst.exchange_index}"
            )
