"""One life in this process, the others elsewhere."""

from emulator.core.protocols.driver import Air, Life
from emulator.runtime.drivers.lifecycle import OnCommit, Outcome, Walk
from emulator.runtime.drivers.pacing import Pacer
from emulator.runtime.transport.gloo import Transport


def run(
    life: Life,
    air: Air,
    transport: Transport,
    on_commit: OnCommit,
    first_exchange: int = 0,
    pacer: Pacer | None = None,
) -> Outcome:
    """Lead one life to its end, its bursts carried by the transport, paced if asked for.

    Law: the outcome equals that of one_process.run for this device. Raises what exchange raises.
    """
    walk = Walk(transport.device, life, air, on_commit)
    try:
        send = walk.start()
        exchange_index = first_exchange
        while send is not None:
            bursts = walk.emit(send, exchange_index)
            if send.next_s is None:
                received = transport.exchange(bursts, send.wait_for, exchange_index, pacer)
            else:
                received = transport.gossip(bursts, send, exchange_index)
            send = walk.answer(send, received)
            exchange_index += 1
        transport.end_of_life()
    finally:
        walk.close()
    return walk.outcome
