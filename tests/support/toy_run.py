"""A forked run to be interrupted or killed: four devices exchange until the test ends it.

Writes the children's process ids on one line, then exchanges for ever.
"""

import itertools
import os
import signal
import sys

from toy_lives import ToyAir, ring

from emulator.core.types.message import Known
from emulator.core.types.steps import Send
from emulator.runtime.processes import Post, assign_all_devices, run_forked
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.peers import Timeouts

DEVICES = 4


def endless(transport: Transport, post: Post) -> None:
    graph = ring(DEVICES)
    air = ToyAir(transport.device, DEVICES, graph, sizes=(100,))
    post(0, {"pid": os.getpid()}, b"")
    for index in itertools.count():
        wait_for = graph(transport.device, index)
        bursts, _ = air.emit(Send(0.0, (), wait_for, Known()), index)
        transport.exchange(bursts, wait_for, index)
        if index == 20:
            post(1, {"ready": True}, b"")


def main() -> None:
    pids, ready = [], []

    def on_message(device: int, header: dict[str, object], blob: bytes) -> None:
        (pids if "pid" in header else ready).append(header.get("pid", device))
        if len(ready) == DEVICES:
            sys.stdout.write(" ".join(str(pid) for pid in pids) + "\n")
            sys.stdout.flush()

    try:
        run_forked(assign_all_devices(DEVICES), endless, on_message, Timeouts())
    except KeyboardInterrupt:
        restored = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        sys.stdout.write(f"interrupted, handler restored: {restored}\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
