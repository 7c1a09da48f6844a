"""What both drivers share: one life led from Send to Send, and who must hear from whom."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from emulator.core.errors import ProtocolError
from emulator.core.protocols.driver import Air, Life
from emulator.core.types.records import LinkRecord
from emulator.core.types.result import DeviceResult
from emulator.core.types.steps import Commit, Inbox, Send
from emulator.core.types.transmission import Burst

OnCommit = Callable[[int, Commit, tuple[LinkRecord, ...]], None]
"""Called with the device, its commit, and the link records since its last commit."""


@dataclass(frozen=True, eq=False)
class LifeOutcome:
    """What a life came to, and every link record it caused, in order."""

    result: DeviceResult
    link_records: tuple[LinkRecord, ...]


class LifeRunner:
    """One life, led from Send to Send; commits are answered on the way."""

    def __init__(self, device: int, life: Life, air: Air, on_commit: OnCommit) -> None:
        self.device = device
        self._life = life
        self._air = air
        self._on_commit = on_commit
        self._records: list[LinkRecord] = []
        self._committed = 0
        self._outcome: LifeOutcome | None = None

    def start(self) -> Send | None:
        """The first Send, or None when the life ended without one."""
        return self._next(lambda: next(self._life))

    def emit(self, send: Send, exchange_index: int) -> tuple[Burst, ...]:
        """Put a Send on the air; its link records join the account."""
        bursts, records = self._air.emit(send, exchange_index)
        self._records.extend(records)
        _check_outbox(self.device, exchange_index, bursts, send.wait_for)
        return bursts

    def answer(self, send: Send, bursts: Iterable[Burst]) -> Send | None:
        """Hand over the bursts a Send waited for; the next Send, or None when the life ended."""
        ordered = sorted(bursts, key=lambda burst: (burst.arrival_s, burst.sender))
        inbox = self._air.collect(send, ordered)
        following = self._next(lambda: self._life.send(inbox))
        _check_next_send(self.device, send, following)
        return following

    def close(self) -> None:
        """Let the life run its `finally` blocks where it stopped half-way."""
        self._life.close()

    @property
    def outcome(self) -> LifeOutcome:
        """What the ended life came to."""
        if self._outcome is None:
            raise ProtocolError(f"device {self.device}: its life has not ended yet")
        return self._outcome

    def _next(self, step_on: Callable[[], Send | Commit]) -> Send | None:
        try:
            step = step_on()
            while isinstance(step, Commit):
                self._commit(step)
                step = self._life.send(Inbox((), step.now_s))
        except StopIteration as end:
            self._outcome = LifeOutcome(end.value, tuple(self._records))
            return None
        return step

    def _commit(self, commit: Commit) -> None:
        fresh = tuple(self._records[self._committed :])
        self._committed = len(self._records)
        self._on_commit(self.device, commit, fresh)


def _check_next_send(device: int, send: Send, following: Send | None) -> None:
    """Raise ProtocolError unless who does not wait speaks again when it said, and after inf no more."""
    if send.next_s is None:
        return
    following_s = math.inf if following is None or following.next_s is None else following.now_s
    if following_s < send.next_s or (math.isfinite(send.next_s) and math.isinf(following_s)):
        raise ProtocolError(
            f"device {device}: got a Send without waiting at {following_s:g} s, wanted one at "
            f"{send.next_s:g} s, as promised: one exchange a round"
        )


def unexpected_burst_error(sender: int, receiver: int, exchange_index: int) -> ProtocolError:
    """A burst nobody asked for."""
    return ProtocolError(
        f"exchange {exchange_index}: device {sender} sends to device {receiver}, "
        f"which does not wait for it"
    )


def missing_burst_error(sender: int, receiver: int, exchange_index: int) -> ProtocolError:
    """A wait that nobody will end."""
    return ProtocolError(
        f"exchange {exchange_index}: device {receiver} waits for device {sender}, "
        f"which sends it nothing"
    )


def _check_outbox(
    device: int, exchange_index: int, bursts: Sequence[Burst], wait_for: Sequence[int]
) -> None:
    """Raise ProtocolError unless bursts go once to each receiver and the wait names others, sorted."""
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
