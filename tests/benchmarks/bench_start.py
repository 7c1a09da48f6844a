"""Cold start and memory: from the first line of the program to the first exchange of all devices.

    python tests/benchmarks/bench_start.py [devices]

Prints the seconds spent on imports, on building the world, and from there to the end of the first
exchange of the last device; and the memory that each device holds alone after one local step.
"""

import os
import sys
import time

STARTED_S = time.monotonic()
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import torch._dynamo  # noqa: E402, F401
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from emulator.device import Device, live  # noqa: E402
from emulator.exchange import many_processes  # noqa: E402
from emulator.exchange.meeting import Patience  # noqa: E402
from emulator.forking import run_forked, whole_crew  # noqa: E402
from emulator.run import own_memory_mb  # noqa: E402
from emulator.scenario import Scenario  # noqa: E402
from emulator.shim import Shim  # noqa: E402
from emulator.state import DeviceResult, Expert  # noqa: E402
from emulator.world import build_world  # noqa: E402

IMPORTED_S = time.monotonic()


def first_exchange_of(life):
    """A life that ends after its first exchange."""
    yield next(life)
    life.close()
    nothing = Expert("none", 0, 1.0, {})
    return DeviceResult(-1, nothing, (), {}, (), (), (), 0.0, 0.0, 0.0, 0)


def main() -> None:
    devices = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    world = build_world(Scenario(name="start", devices=devices))
    built_s = time.monotonic()
    posted = {}

    def child(transport, post) -> None:
        device = transport.device
        scenario = world.scenario
        air = Shim(device, scenario.wire, world.access, world.channel)
        life = first_exchange_of(live(world, device))
        many_processes.run(life, air, transport, lambda *_: None)
        exchanged_s = time.monotonic()
        own = Device(world, device)
        scenario.method.start(own)
        own.train(1)
        post(0, {"exchanged_s": exchanged_s, "own_mb": own_memory_mb()}, b"")

    run_forked(
        whole_crew(devices),
        child,
        lambda device, head, _: posted.update({device: head}),
        Patience(),
    )
    last_s = max(head["exchanged_s"] for head in posted.values())
    table = Table(title=f"{devices} devices, tiny backbone, cold start", title_justify="left")
    for column in ("", "measured", "target"):
        table.add_column(column, justify="right")
    table.add_row("imports", f"{IMPORTED_S - STARTED_S:.2f} s", "")
    table.add_row("world (backbone, data)", f"{built_s - IMPORTED_S:.2f} s", "")
    table.add_row("fork to first exchange of all", f"{last_s - built_s:.2f} s", "")
    table.add_row("all but imports", f"{last_s - IMPORTED_S:.2f} s", "<= 5 s")
    most = max(head["own_mb"] for head in posted.values())
    table.add_row("own memory of a device, most", f"{most:.0f} MB", "<= 110 MB")
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
