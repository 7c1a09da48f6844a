"""The driver of one process per device: this process runs one life and exchanges bursts with the others."""

from emulator.core.protocols.driver import ChannelShim, Life
from emulator.runtime.drivers.lifecycle import LifeOutcome, LifeRunner, OnCommit
from emulator.runtime.drivers.pacing import Pacer
from emulator.runtime.transport.gloo import Transport


def run_life(
    life: Life,
    air: ChannelShim,
    transport: Transport,
    on_commit: OnCommit,
    first_exchange: int = 0,
    pacer: Pacer | None = None,
) -> LifeOutcome:
    """Run one life to its end. The transport carries its bursts, in wall time where there is a pacer.

    Another life may follow over the same transport; after the last one, `Transport.finish_exchanges` is
    due. Law: the outcome equals that of one_process.run_lives for this device. Raises what
    `Transport.exchange` raises.
    """
    runner = LifeRunner(transport.device, life, air, on_commit)
    try:
        send = runner.start()
        exchange_index = first_exchange
        while send is not None:
            bursts = runner.emit(send, exchange_index)
            if send.next_s is None:
                received = transport.exchange(bursts, send.wait_for, exchange_index, pacer)
            else:
                received = transport.gossip(bursts, send, exchange_index)
            send = runner.answer(send, received)
            exchange_index += 1
    finally:
        runner.close()
    return runner.outcome
