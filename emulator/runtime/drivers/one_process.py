"""The reference driver: it runs all lives in turn in one process, which also suits a debugger."""

from collections.abc import Mapping

from emulator.core.protocols.driver import ChannelShim, Life
from emulator.core.types.steps import Send
from emulator.core.types.transmission import Burst
from emulator.runtime.drivers.lifecycle import (
    LifeOutcome,
    LifeRunner,
    OnCommit,
    missing_burst_error,
    unexpected_burst_error,
)


def run_lives(
    lives: Mapping[int, Life],
    airs: Mapping[int, ChannelShim],
    on_commit: OnCommit,
    first_exchange: int = 0,
) -> dict[int, LifeOutcome]:
    """Run every life to its end: together from exchange to exchange, or each by its own clock.

    first_exchange: index of the first Send, more than 0 for a resumed run. All lives make the same number
    of Sends; a life that has ended neither sends nor waits.
    Law: a life gets exactly the inboxes that many_processes would give it.
    Raises ProtocolError, with sender, receiver and exchange, where a burst and a wait do not match.
    """
    runners = {
        device: LifeRunner(device, lives[device], airs[device], on_commit)
        for device in sorted(lives)
    }
    try:
        all_lives = _AllLives(runners, first_exchange)
        while all_lives.sends:
            all_lives.step()
    finally:
        for runner in runners.values():
            runner.close()
    return {device: runner.outcome for device, runner in runners.items()}


class _AllLives:
    """The state of all lives: the Send that each has reached, its index, and bursts not yet received."""

    def __init__(self, runners: Mapping[int, LifeRunner], first_exchange: int) -> None:
        self._runners = runners
        self._index = dict.fromkeys(runners, first_exchange)
        self._pending: dict[int, list[Burst]] = {device: [] for device in runners}
        self.sends: dict[int, Send] = {}
        for device, runner in runners.items():
            self._set_send(device, runner.start())

    def step(self) -> None:
        """Process the earliest Send without waiting, or, without any, one exchange of all lives."""
        without_wait = [
            (send.now_s, i) for i, send in self.sends.items() if send.next_s is not None
        ]
        if without_wait:
            self._step_one(min(without_wait)[1])
        else:
            self._step_all()

    def _set_send(self, device: int, send: Send | None) -> None:
        if send is None:
            self.sends.pop(device, None)
        else:
            self.sends[device] = send

    def _answer(self, device: int, bursts: list[Burst]) -> None:
        self._index[device] += 1
        self._set_send(device, self._runners[device].answer(self.sends[device], bursts))

    def _step_one(self, device: int) -> None:
        """Process one Send. All others are at a later time, so nothing new arrives before its now_s."""
        send = self.sends[device]
        for burst in self._runners[device].emit(send, self._index[device]):
            self._pending[burst.receiver].append(burst)
        arrived = [b for b in self._pending[device] if b.arrival_s < send.now_s]
        for burst in arrived:
            if burst.sender not in send.listen_to:
                raise unexpected_burst_error(burst.sender, device, burst.exchange_index)
        self._pending[device] = [b for b in self._pending[device] if b.arrival_s >= send.now_s]
        self._answer(device, arrived)

    def _step_all(self) -> None:
        """Process one exchange of all lives; bursts that were not received before it are dropped."""
        for pending in self._pending.values():
            pending.clear()
        inboxes = self._carry()
        for device in list(self.sends):
            self._answer(device, inboxes[device])

    def _carry(self) -> dict[int, list[Burst]]:
        """Transmit every Send and return the bursts by receiver."""
        sends = self.sends
        inboxes: dict[int, list[Burst]] = {device: [] for device in sends}
        for device, send in sends.items():
            for burst in self._runners[device].emit(send, self._index[device]):
                if burst.receiver not in sends or device not in sends[burst.receiver].wait_for:
                    raise unexpected_burst_error(device, burst.receiver, self._index[device])
                inboxes[burst.receiver].append(burst)
        for device, send in sends.items():
            missing = set(send.wait_for) - {burst.sender for burst in inboxes[device]}
            if missing:
                raise missing_burst_error(min(missing), device, self._index[device])
        return inboxes
