"""What the exchange costs: Transport against bare torch.distributed, on this machine.

    python tests/benchmarks/bench_exchange.py

In every exchange each process sends one burst to every other and receives one from each. `bare` is
isend/irecv of the same frames (same sizes, same order, buffers made once); `one message` sends each
burst as a single gloo message. The three alternate in blocks, so that a busy machine troubles them
alike; rate ratios are medians over the blocks, CPU ratios compare sums (1 = as cheap as the other,
less = dearer). Also: seconds from the fork of 16 and 64 devices to the
end of their first exchange on a ring.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import torch
import torch.distributed as dist

from emulator.exchange.frames import FRAME_BYTES, HEADER_BYTES
from emulator.exchange.many_processes import Transport
from emulator.exchange.meeting import Patience
from emulator.exchange.posting import Json
from emulator.forking import Post, run_forked, whole_crew
from emulator.state import Burst

SIZES = (100, 4_000, 60_000, 250_000, 1_000_000, 4_000_000)
BLOCKS = 7
BLOCK_S = 0.15
ROUGH_S_PER_BYTE = 1e-8

Exchange = Callable[[], None]


def through_transport(transport: Transport, size: int) -> Exchange:
    others = [d for d in range(transport.devices) if d != transport.device]
    data, indices = bytes(size), iter(range(1 << 30))

    def exchange() -> None:
        index = next(indices)
        bursts = [Burst(transport.device, other, index, 0.0, data) for other in others]
        received = transport.exchange(bursts, others, index)
        assert all(len(burst.data) == size for burst in received)

    return exchange


def bare(transport: Transport, size: int, frame_bytes: int) -> Exchange:
    others = [d for d in range(transport.devices) if d != transport.device]
    outgoing = torch.zeros(size, dtype=torch.uint8).split(frame_bytes)
    incoming = {d: torch.zeros(size, dtype=torch.uint8).split(frame_bytes) for d in others}

    def exchange() -> None:
        receives = [dist.irecv(frame, d, tag=9) for d in others for frame in incoming[d]]
        sends = [dist.isend(frame, d, tag=9) for d in others for frame in outgoing]
        for work in receives + sends:
            work.wait()

    return exchange


def block(transport: Transport, exchange: Exchange, times: int) -> tuple[float, float]:
    """Wall and CPU seconds of one exchange, the mean of a block."""
    transport.barrier()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    for _ in range(times):
        exchange()
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    return wall_s / times, cpu_s / times


def measure(transport: Transport, post: Post) -> None:
    for size in SIZES:
        ways = {
            "transport": through_transport(transport, size),
            "bare": bare(transport, size + HEADER_BYTES, FRAME_BYTES),
            "one message": bare(transport, size, 1 << 40),
        }
        times = max(3, int(BLOCK_S / ROUGH_S_PER_BYTE / (size + 20_000) / transport.devices))
        blocks: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for exchange in ways.values():
            block(transport, exchange, times)
        for _ in range(BLOCKS):
            for name, exchange in ways.items():
                blocks[name].append(block(transport, exchange, times))
        if transport.device == 0:
            post(0, {"size": size, "blocks": json.dumps(blocks)}, b"")


def report(processes: int, size: int, blocks: dict[str, list[list[float]]]) -> None:
    wall_s = {name: [pair[0] for pair in pairs] for name, pairs in blocks.items()}
    cpu_s = {name: sum(pair[1] for pair in pairs) for name, pairs in blocks.items()}
    own = wall_s["transport"]
    rate_mb_per_s = size * (processes - 1) / statistics.median(own) / 1e6
    line = f"{processes:9d} {size:10,d} {statistics.median(own) * 1e3:8.3f} {rate_mb_per_s:8.1f}"
    for other in ("bare", "one message"):
        rate = statistics.median(b / a for a, b in zip(own, wall_s[other], strict=True))
        line += f" {rate:8.2f} {cpu_s[other] / cpu_s['transport']:8.2f}"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def first_exchange_s(devices: int) -> float:
    """Seconds from before the first fork until every device has exchanged once on a ring."""
    ended_s: list[float] = []

    def main(transport: Transport, post: Post) -> None:
        own = transport.device
        others = sorted({(own - 1) % devices, (own + 1) % devices})
        transport.exchange([Burst(own, d, 0, 0.0, bytes(1000)) for d in others], others, 0)
        post(0, {}, b"")

    began_s = time.perf_counter()
    run_forked(
        whole_crew(devices), main, lambda *_: ended_s.append(time.perf_counter()), Patience()
    )
    return max(ended_s) - began_s


def main() -> None:
    torch.set_num_threads(1)
    sys.stdout.write(
        "                                           against bare      against one message\n"
        "processes      bytes       ms MB/s out     rate      CPU     rate      CPU\n"
    )
    for processes in (2, 4):

        def on_message(_: int, header: Mapping[str, Json], blob: bytes) -> None:
            report(processes, int(str(header["size"])), json.loads(str(header["blocks"])))  # noqa: B023

        run_forked(whole_crew(processes), measure, on_message, Patience())
    for devices in (16, 64):
        seconds = first_exchange_s(devices)
        sys.stdout.write(f"{devices} devices, fork to first exchange: {seconds:.2f} s\n")


if __name__ == "__main__":
    main()
