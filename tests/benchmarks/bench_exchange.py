"""What the exchange costs: Transport against bare torch.distributed, on this machine.

    python tests/benchmarks/bench_exchange.py

In every exchange each process sends one burst to every other and receives one from each. `bare` is
isend/irecv of the same frames (same sizes, same order, buffers made once); `one message` sends each
burst as a single gloo message. The three alternate in blocks, so that a busy machine troubles them
alike; the ratios are medians over the blocks. Also: seconds from the fork of 16 and 64 devices to the
end of their first exchange on a ring.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from emulator.exchange.frames import FRAME_BYTES, HEADER_BYTES
from emulator.exchange.many_processes import Transport
from emulator.exchange.meeting import Patience
from emulator.forking import ChildMain, Post, run_forked
from emulator.state import Burst

SIZES = (100, 4_000, 60_000, 250_000, 1_000_000, 4_000_000)
BLOCKS = 9
BLOCK_S = 0.25
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


def block_s(transport: Transport, exchange: Exchange, times: int) -> float:
    """Seconds for one exchange, the mean of a block."""
    transport.barrier()
    began_s = time.perf_counter()
    for _ in range(times):
        exchange()
    return (time.perf_counter() - began_s) / times


def measure(size: int) -> ChildMain:
    def main(transport: Transport, post: Post) -> None:
        ways = {
            "transport": through_transport(transport, size),
            "bare": bare(transport, size + HEADER_BYTES, FRAME_BYTES),
            "one": bare(transport, max(1, size), 1 << 40),
        }
        for exchange in ways.values():
            block_s(transport, exchange, 5)
        times = max(3, int(BLOCK_S / ROUGH_S_PER_BYTE / (size + 20_000) / transport.devices))
        blocks: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(BLOCKS):
            for name, exchange in ways.items():
                blocks[name].append(block_s(transport, exchange, times))
        if transport.device == 0:
            post(0, {"blocks": json.dumps(blocks)}, b"")

    return main


def report(processes: int, size: int) -> None:
    blocks: dict[str, list[float]] = {}
    run_forked(
        processes,
        measure(size),
        lambda _, header, blob: blocks.update(json.loads(str(header["blocks"]))),
        Patience(),
    )
    rate = size * (processes - 1) / statistics.median(blocks["transport"]) / 1e6
    ratios = {
        name: statistics.median(
            other / own for own, other in zip(blocks["transport"], blocks[name], strict=True)
        )
        for name in ("bare", "one")
    }
    best = {name: min(values) for name, values in blocks.items()}
    sys.stdout.write(
        f"{processes:9d} {size:9,d} {statistics.median(blocks['transport']) * 1e3:9.3f} {rate:9.1f}"
        f" {ratios['bare']:9.2f} {best['bare'] / best['transport']:9.2f}"
        f" {ratios['one']:9.2f}\n"
    )
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
    run_forked(devices, main, lambda *_: ended_s.append(time.perf_counter()), Patience())
    return max(ended_s) - began_s


def main() -> None:
    torch.set_num_threads(1)
    sys.stdout.write("processes     bytes        ms  MB/s out   vs bare (best of) vs one message\n")
    for processes in (2, 4):
        for size in SIZES:
            report(processes, size)
    for devices in (16, 64):
        sys.stdout.write(
            f"{devices} devices, fork to first exchange: {first_exchange_s(devices):.2f} s\n"
        )


if __name__ == "__main__":
    main()
