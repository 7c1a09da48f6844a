"""All lives in turn, in one process: the reference driver, and what a debugger wants."""

from collections.abc import Mapping

from emulator.exchange.walk import OnCommit, Outcome, Walk, not_awaited, not_sent
from emulator.protocols import Air, Life
from emulator.state import Burst, Send


def run(
    lives: Mapping[int, Life],
    airs: Mapping[int, Air],
    on_commit: OnCommit,
    first_exchange: int = 0,
) -> dict[int, Outcome]:
    """Lead every life to its end, one exchange after another, devices in ascending order.

    Law: a life sees exactly the inboxes that many_processes would give it. Lives make the same number
    of Sends; one that has ended neither sends nor waits. `first_exchange` is the index of the first
    Send (more than 0 for a resumed run).
    Raises ProtocolError where a burst and a wait do not match, naming sender, receiver and exchange.
    """
    walks = {
        device: Walk(device, lives[device], airs[device], on_commit) for device in sorted(lives)
    }
    try:
        sends = _still_going({device: walk.start() for device, walk in walks.items()})
        exchange_index = first_exchange
        while sends:
            inboxes = _carry(walks, sends, exchange_index)
            sends = _still_going(
                {
                    device: walks[device].answer(send, inboxes[device])
                    for device, send in sends.items()
                }
            )
            exchange_index += 1
    finally:
        for walk in walks.values():
            walk.close()
    return {device: walk.outcome for device, walk in walks.items()}


def _still_going(steps: Mapping[int, Send | None]) -> dict[int, Send]:
    return {device: send for device, send in steps.items() if send is not None}


def _carry(
    walks: Mapping[int, Walk], sends: Mapping[int, Send], exchange_index: int
) -> dict[int, list[Burst]]:
    """Put every Send on the air and sort the bursts by receiver."""
    inboxes: dict[int, list[Burst]] = {device: [] for device in sends}
    for device, send in sends.items():
        for burst in walks[device].emit(send, exchange_index):
            if burst.receiver not in sends or device not in sends[burst.receiver].wait_for:
                raise not_awaited(device, burst.receiver, exchange_index)
            inboxes[burst.receiver].append(burst)
    for device, send in sends.items():
        silent = set(send.wait_for) - {burst.sender for burst in inboxes[device]}
        if silent:
            raise not_sent(min(silent), device, exchange_index)
    return inboxes
