"""What a device more costs: start, round, memory, for 4 to 128 devices with next to nothing to learn.

Dec-LoRA on a random graph of three neighbours: one local step of two examples and one exchange a round.
ms a device and round: wall from the first commit of all to the last, times the cores, over devices and
rounds; if rounds cost the same for each device, it does not grow.
"""

import os
import time
from collections.abc import Iterator

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import torch._dynamo  # noqa: E402, F401
from figures import Figure, print_figures  # noqa: E402
from held import UNITS, held_here  # noqa: E402

from emulator.device import live  # noqa: E402
from emulator.network.shim import Shim  # noqa: E402
from emulator.runtime.drivers import many_processes  # noqa: E402
from emulator.runtime.drivers.core_permits import count_cores  # noqa: E402
from emulator.runtime.processes import assign_all_devices, run_forked  # noqa: E402
from emulator.runtime.transport.peers import Timeouts  # noqa: E402
from emulator.scenario.schema import Scenario  # noqa: E402
from emulator.scenario.world import build_world  # noqa: E402

SIZES = (4, 16, 64, 128)
ROUNDS = 6
SCENARIO = {
    "name": "scale",
    "rounds": ROUNDS,
    "method": {"kind": "lora"},
    "topology": {"kind": "random_regular", "degree": 3},
    "channel": {"kind": "ideal"},
    "tasks": {"kind": "synthetic", "names": ["reverse"], "train_samples": 256, "test_samples": 1},
    "local": {"steps": 1, "batch_size": 2},
}


def figures() -> Iterator[Figure]:
    """For each number of devices."""
    for devices in SIZES:
        world = build_world(Scenario.model_validate({**SCENARIO, "devices": devices}))
        began_s = time.monotonic()
        committed_s: dict[int, list[float]] = {}
        held: list[dict[str, float]] = []

        def child(transport, post, world=world) -> None:
            device, scenario = transport.device, world.scenario
            air = Shim(device, scenario.wire, world.access, world.channel)

            def on_commit(_device, commit, _links) -> None:
                post(commit.round_index, {"committed_s": time.monotonic()}, b"")

            many_processes.run_life(live(world, device), air, transport, on_commit)
            post(ROUNDS, held_here(), b"")

        def on_message(device, header, _blob, seen=committed_s, held=held) -> None:
            if "committed_s" in header:
                seen.setdefault(device, []).append(header["committed_s"])
            else:
                held.append(header)

        run_forked(assign_all_devices(devices), child, on_message, Timeouts())
        ended_s = time.monotonic()
        first_s = max(times[0] for times in committed_s.values())
        last_s = max(times[-1] for times in committed_s.values())
        name = f"{devices} devices"
        yield Figure(f"{name}: fork to the first round's end", first_s - began_s, "s")
        round_s = (last_s - first_s) / (ROUNDS - 1)
        yield Figure(f"{name}: rounds", 1.0 / round_s, "1/s")
        yield Figure(f"{name}: a device and round", 1e3 * round_s * count_cores() / devices, "ms")
        yield Figure(f"{name}: all of it", ended_s - began_s, "s")
        for what, unit in UNITS.items():
            most = max(each[what] for each in held)
            target = 80.0 if unit else None
            yield Figure(f"{name}: {what} of one, most", most, unit, at_most=target)


if __name__ == "__main__":
    print_figures("Scale: tiny backbone, three neighbours each", figures())
