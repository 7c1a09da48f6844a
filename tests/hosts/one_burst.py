"""Device 0 sends device 1 a burst, several times, and prints when each began and ended.

    one_burst.py PACKETS TRIES [LINK_BIT_PER_S]

Without a rate bursts leave at once, and the network sets how long they take; with one they are sent by
the paced clock, over an emulated lossless link of that rate. Moments are of the machine's monotonic
clock, which all hosts on it share.
"""

import json
import math
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "support"))

from toy_air import packets_of, slow_link

from emulator.core.types.transmission import Burst, Grant
from emulator.runtime.drivers.pacing import Pacer
from emulator.runtime.launchers import run_launched
from emulator.runtime.processes import Post
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.peers import Timeouts

PACKETS, TRIES = int(sys.argv[1]), int(sys.argv[2])
LINK_BIT_PER_S = float(sys.argv[3]) if len(sys.argv) > 3 else None


def air_time_s(packets) -> float:
    """How long the emulated link takes; nothing without one."""
    if LINK_BIT_PER_S is None:
        return 0.0
    grant = Grant(0, (1,), 0.0, math.inf, 0.1, 0)
    (reception,) = slow_link(LINK_BIT_PER_S).transmit(packets, grant)
    assert reception.arrived.all()
    return reception.arrival_s


def talk(transport: Transport, post: Post) -> None:
    packets = packets_of(PACKETS)
    data, arrival_s = b"".join(packet.data for packet in packets), air_time_s(packets)
    sends = transport.device == 0
    transport.exchange([Burst(0, 1, 0, 0.0, b"")] if sends else [], () if sends else (0,), 0)
    for index in range(1, TRIES + 1):
        transport.barrier()
        began_s = time.monotonic()
        pacer = None if LINK_BIT_PER_S is None else Pacer(1.0)
        bursts = [Burst(0, 1, index, arrival_s, data, 0.0)] if sends else []
        received = transport.exchange(bursts, () if sends else (0,), index, pacer)
        ended_s = time.monotonic()
        assert [burst.data for burst in received] == ([] if sends else [data])
        post(index, {"began_s": began_s, "ended_s": ended_s, "emulated_s": arrival_s}, b"")


if __name__ == "__main__":
    run_launched(talk, lambda _, header, blob: print(json.dumps(header), flush=True), Timeouts())
