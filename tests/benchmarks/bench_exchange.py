"""What the exchange costs: Transport against bare torch.distributed, on this machine.

In every exchange each process sends one burst to every other and receives one from each. `bare` is
isend/irecv of the same frames (same sizes, same order, buffers made once); `one message` sends each
burst as a single gloo message. The three alternate in blocks, so that a busy machine troubles them
alike; rate ratios are medians over the blocks, CPU ratios compare sums (1 = as cheap as the other,
less = dearer).
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.distributed as dist
from figures import Figure, print_figures

from emulator.core.types.transmission import Burst
from emulator.runtime.drivers.core_permits import count_cores
from emulator.runtime.processes import Post, assign_all_devices, run_forked
from emulator.runtime.transport.frames import FRAME_BYTES, HEADER_BYTES
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.peers import Timeouts
from emulator.runtime.transport.pipe import Json

SIZES = (4_000, 60_000, 1_000_000, 4_000_000)
FRAMED = 60_000
"""From here on a burst is long enough for its rate to be a target [bytes]."""

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


def compared(processes: int, size: int, blocks: dict[str, list[list[float]]]) -> Iterator[Figure]:
    """The rate, and how it stands to the other ways."""
    wall_s = {name: [pair[0] for pair in pairs] for name, pairs in blocks.items()}
    cpu_s = {name: sum(pair[1] for pair in pairs) for name, pairs in blocks.items()}
    own = wall_s["transport"]
    name = f"{processes} processes, bursts of {size:,d} B"
    yield Figure(name, size * (processes - 1) / statistics.median(own) / 1e6, "MB/s out")
    for other in ("bare", "one message"):
        rate = statistics.median(b / a for a, b in zip(own, wall_s[other], strict=True))
        target = 0.9 if other == "bare" and size >= FRAMED else None
        yield Figure(f"{name}: rate against {other}", rate, at_least=target)
    yield Figure(f"{name}: CPU, bare against ours", cpu_s["bare"] / cpu_s["transport"])


def figures() -> Iterator[Figure]:
    """Of two processes, and of four with as many cores: who sends bare messages takes no turns."""
    torch.set_num_threads(1)
    for processes in (2, 4) if count_cores() >= 4 else (2,):
        headers: list[Mapping[str, Json]] = []
        run_forked(
            assign_all_devices(processes),
            measure,
            lambda _, header, blob, headers=headers: headers.append(header),
            Timeouts(),
        )
        for header in headers:
            yield from compared(
                processes, int(str(header["size"])), json.loads(str(header["blocks"]))
            )


if __name__ == "__main__":
    print_figures("Exchange against bare torch.distributed", figures())
