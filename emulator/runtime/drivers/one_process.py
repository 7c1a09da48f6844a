"""All lives in turn, in one process: the reference driver, and what a debugger wants."""

from collections.abc import Mapping

from emulator.core.protocols.driver import Air, Life
from emulator.core.types.steps import Send
from emulator.core.types.transmission import Burst
from emulator.runtime.drivers.lifecycle import OnCommit, Outcome, Walk, not_awaited, not_sent


def run(
    lives: Mapping[int, Life],
    airs: Mapping[int, Air],
    on_commit: OnCommit,
    first_exchange: int = 0,
) -> dict[int, Outcome]:
    """Lead every life to its end: together from exchange to exchange, or each by its own clock.

    Law: a life sees exactly the inboxes that many_processes would give it. Lives make the same number
    of Sends; one that has ended neither sends nor waits. `first_exchange` is the index of the first
    Send (more than 0 for a resumed run).
    Raises ProtocolError where a burst and a wait do not match, naming sender, receiver and exchange.
    """
    walks = {
        device: Walk(device, lives[device], airs[device], on_commit) for device in sorted(lives)
    }
    try:
        everybody = _Everybody(walks, first_exchange)
        while everybody.sends:
            everybody.step()
    finally:
        for walk in walks.values():
            walk.close()
    return {device: walk.outcome for device, walk in walks.items()}


class _Everybody:
    """Where all lives stand: the Send each is at, and the index of that Send."""

    def __init__(self, walks: Mapping[int, Walk], first_exchange: int) -> None:
        self._walks = walks
        self._index = dict.fromkeys(walks, first_exchange)
        self._mail: dict[int, list[Burst]] = {device: [] for device in walks}
        self.sends: dict[int, Send] = {}
        for device, walk in walks.items():
            self._stand(device, walk.start())

    def step(self) -> None:
        """The next thing that happens: the earliest who does not wait speaks, else all at once."""
        alone = [(send.now_s, i) for i, send in self.sends.items() if send.next_s is not None]
        if alone:
            self._speak_alone(min(alone)[1])
        else:
            self._speak_together()

    def _stand(self, device: int, send: Send | None) -> None:
        if send is None:
            self.sends.pop(device, None)
        else:
            self.sends[device] = send

    def _answer(self, device: int, bursts: list[Burst]) -> None:
        self._index[device] += 1
        self._stand(device, self._walks[device].answer(self.sends[device], bursts))

    def _speak_alone(self, device: int) -> None:
        """Nobody can still say anything that arrives before now_s: all others are at a later time."""
        send = self.sends[device]
        for burst in self._walks[device].emit(send, self._index[device]):
            self._mail[burst.receiver].append(burst)
        arrived = [b for b in self._mail[device] if b.arrival_s < send.now_s]
        for burst in arrived:
            if burst.sender not in send.listen_to:
                raise not_awaited(burst.sender, device, burst.exchange_index)
        self._mail[device] = [b for b in self._mail[device] if b.arrival_s >= send.now_s]
        self._answer(device, arrived)

    def _speak_together(self) -> None:
        """One exchange of all; what nobody has heard of the time before is gone."""
        for mail in self._mail.values():
            mail.clear()
        inboxes = self._carry()
        for device in list(self.sends):
            self._answer(device, inboxes[device])

    def _carry(self) -> dict[int, list[Burst]]:
        """Put every Send on the air and sort the bursts by receiver."""
        sends = self.sends
        inboxes: dict[int, list[Burst]] = {device: [] for device in sends}
        for device, send in sends.items():
            for burst in self._walks[device].emit(send, self._index[device]):
                if burst.receiver not in sends or device not in sends[burst.receiver].wait_for:
                    raise not_awaited(device, burst.receiver, self._index[device])
                inboxes[burst.receiver].append(burst)
        for device, send in sends.items():
            silent = set(send.wait_for) - {burst.sender for burst in inboxes[device]}
            if silent:
                raise not_sent(min(silent), device, self._index[device])
        return inboxes
