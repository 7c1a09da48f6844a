"""How true the paced clock is: achieved against configured rate, on this machine.

Device 0 sends one burst that is on the air for so many seconds at so many bits per second, frame by
frame at its moments, over the real connection; device 1 looks at the clock when all of it is there.
achieved = bits / (that moment - the start of the burst). Printed are the error of the achieved rate, its
median and the worst of the repetitions, and the lag of the frames behind their moments.
"""

import statistics
import time
from collections.abc import Iterator, Mapping

import torch
from figures import Figure, print_figures

from emulator.core.types.transmission import Burst
from emulator.runtime.drivers.pacing import Pacer
from emulator.runtime.processes import Post, assign_all_devices, run_forked
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.peers import Timeouts
from emulator.runtime.transport.pipe import Json

BIT_PER_S = (10e3, 100e3, 1e6, 10e6, 20e6, 50e6, 100e6, 200e6, 500e6, 1e9)
BURST_S = (0.2, 1.0)
REPETITIONS = 7
LEAD_S = 0.05
"""Emulated time at which a burst starts: the receiver is ready by then."""


def send_and_receive(transport: Transport, post: Post) -> None:
    """All bursts, one after the other; each device posts the moments it saw."""
    exchange_index = 0
    for bit_per_s in BIT_PER_S:
        for burst_s in BURST_S:
            for _ in range(REPETITIONS):
                data = bytes(round(bit_per_s * burst_s / 8))
                transport.barrier()
                if transport.device == 0:
                    pacer = Pacer(1.0)
                    started_s = time.monotonic() + LEAD_S
                    burst = Burst(0, 1, exchange_index, LEAD_S + burst_s, data, LEAD_S)
                    transport.exchange([burst], [], exchange_index, pacer)
                    seen = {"started_s": started_s, **pacer.summarise_lag()}
                else:
                    transport.exchange([], [0], exchange_index)
                    seen = {"ended_s": time.monotonic()}
                case = {"bit_per_s": bit_per_s, "burst_s": burst_s, "bits": 8 * len(data)}
                post(0, {"exchange": exchange_index, **case, **seen}, b"")
                exchange_index += 1


def figures() -> Iterator[Figure]:
    """The error of the rate and the lag of the frames, for each rate and duration."""
    torch.set_num_threads(1)
    numbers_of: dict[int, dict[str, float]] = {}

    def on_message(_: int, header: Mapping[str, Json], blob: bytes) -> None:
        numbers = {key: float(str(value)) for key, value in header.items()}
        numbers_of.setdefault(int(numbers["exchange"]), {}).update(numbers)

    run_forked(assign_all_devices(2), send_and_receive, on_message, Timeouts())
    for first in range(0, len(numbers_of), REPETITIONS):
        runs = [numbers_of[index] for index in range(first, first + REPETITIONS)]
        name = f"{runs[0]['bit_per_s'] / 1e6:g} Mbit/s for {runs[0]['burst_s']:g} s"
        errors = [
            100.0 * (run["bits"] / (run["ended_s"] - run["started_s"]) / run["bit_per_s"] - 1.0)
            for run in runs
        ]
        yield Figure(
            f"{name}: rate too low by, median", -statistics.median(errors), "%", at_most=1.0
        )
        yield Figure(f"{name}: at worst", -min(errors), "%")
        for part in ("p50", "p99", "max"):
            lag_s = statistics.median(run[f"lag_{part}_s"] for run in runs)
            yield Figure(f"{name}: lag of frames, {part}", 1e3 * lag_s, "ms")


if __name__ == "__main__":
    print_figures("Paced clock: achieved against configured rate", figures())
