"""Cold start and memory: from the first line of the program to the first exchange of all devices.

The seconds spent on imports, on building the world, and from there to the end of the first exchange
of the last device; and what each device holds alone after one local step: memory, descriptors, threads.
"""

import os
import time

STARTED_S = time.monotonic()
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

from collections.abc import Iterator  # noqa: E402

import torch._dynamo  # noqa: E402, F401
from figures import Figure, print_figures  # noqa: E402
from held import UNITS, held_here  # noqa: E402

from emulator.core.types.result import DeviceResult, Expert  # noqa: E402
from emulator.device import Device, live  # noqa: E402
from emulator.network.shim import Shim  # noqa: E402
from emulator.runtime.drivers import many_processes  # noqa: E402
from emulator.runtime.processes import assign_all_devices, run_forked  # noqa: E402
from emulator.runtime.transport.peers import Timeouts  # noqa: E402
from emulator.scenario.schema import Scenario  # noqa: E402
from emulator.scenario.world import build_world  # noqa: E402

IMPORTED_S = time.monotonic()
DEVICES = 16


def first_exchange_of(life):
    """A life that ends after its first exchange."""
    yield next(life)
    life.close()
    nothing = Expert("none", 0, 1.0, {})
    return DeviceResult(-1, nothing, (), {}, (), (), (), 0.0, 0.0, 0.0, 0)


def figures() -> Iterator[Figure]:
    """Of 16 devices."""
    yield Figure("imports", IMPORTED_S - STARTED_S, "s")
    world = build_world(Scenario(name="start", devices=DEVICES))
    built_s = time.monotonic()
    posted = {}

    def child(transport, post) -> None:
        device = transport.device
        scenario = world.scenario
        air = Shim(device, scenario.wire, world.access, world.channel)
        life = first_exchange_of(live(world, device))
        many_processes.run_life(life, air, transport, lambda *_: None)
        exchanged_s = time.monotonic()
        transport.barrier()
        own = Device(world, device)
        scenario.method.start(own)
        own.model.train(1)
        post(0, {"exchanged_s": exchanged_s, **held_here()}, b"")

    run_forked(
        assign_all_devices(DEVICES),
        child,
        lambda device, head, _: posted.update({device: head}),
        Timeouts(),
    )
    last_s = max(head["exchanged_s"] for head in posted.values())
    yield Figure("world (backbone, data)", built_s - IMPORTED_S, "s")
    yield Figure("fork to first exchange of all", last_s - built_s, "s")
    yield Figure("all but imports", last_s - IMPORTED_S, "s", at_most=3.0)
    for what, unit in UNITS.items():
        most = max(head[what] for head in posted.values())
        yield Figure(f"{what} of a device, most", most, unit, at_most=80.0 if unit else None)


if __name__ == "__main__":
    print_figures(f"{DEVICES} devices, tiny backbone, cold start", figures())
