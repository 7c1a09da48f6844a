"""Speed of the wire on one core: `python tests/benchmarks/bench_wire.py`.

Values: MB/s of float32 in and out, mask known to the receiver. Masks: million kept entries per
second; `digest` is the first computation of `Mask.digest`, which a static mask pays once. The best of
several runs, since others use the machine too.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emulator.state import AdapterLayout, Kind, Known, Mask, Message, Traffic, ValueType
from emulator.streams import stream
from emulator.wire import WireFormat, decode

N = 4_000_000
RUNS = 7


def best_s(work: Callable[[], object]) -> float:
    """Shortest wall time of some runs."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def message_of(mask: Mask, value_type: ValueType | None) -> Message:
    """A message about a layout of 64 modules, with values or the mask alone."""
    layout = AdapterLayout(
        tuple(f"module{i}" for i in range(64)), tuple((mask.size // 64,) for _ in range(64))
    )
    values = stream(1, "bench-values", mask.size).standard_normal(mask.count, dtype=np.float32)
    return Message(
        kind=Kind.MASK if value_type is None else Kind.VALUES,
        traffic=Traffic.IN_CLUSTER,
        source=0,
        origin=0,
        round_index=0,
        receivers=(1,),
        layout=layout,
        mask=mask,
        values=None if value_type is None else values,
        value_type=value_type or ValueType.BFLOAT16,
        mask_known=value_type is not None,
        reliable=True,
    )


def mask_of(density: float) -> Mask:
    """An i.i.d. mask of N coordinates."""
    return Mask.from_dense(stream(1, "bench-mask", int(1e6 * density)).random(N) < density)


def bench(message: Message) -> tuple[float, float, int]:
    """Seconds to encode and to decode, and bytes of mask and payload."""
    wire = WireFormat()
    known = Known.of(message.mask, message.layout)
    packets = wire.encode(message)
    data = [packet.data for packet in packets]
    num_bytes = sum(packet.mask_bytes + packet.payload_bytes for packet in packets)
    return best_s(lambda: wire.encode(message)), best_s(lambda: decode(data, known, 0.0)), num_bytes


def main() -> None:
    """Print both tables."""
    print(f"values, known mask of density 0.25 of N = {N}    encode      decode  [MB/s of float32]")
    mask = mask_of(0.25)
    for value_type in (ValueType.FLOAT32, ValueType.BFLOAT16, ValueType.FLOAT16, ValueType.INT8):
        encode_s, decode_s, _ = bench(message_of(mask, value_type))
        rates = [4e-6 * mask.count / seconds for seconds in (encode_s, decode_s)]
        print(f"{value_type.name.lower():>40} {rates[0]:12.0f} {rates[1]:12.0f}")
    print(
        f"masks, N = {N}                 encode      decode      digest  [M entries/s]  bits/entry"
    )
    for density in (0.001, 0.01, 0.1, 0.25, 0.5):
        mask = mask_of(density)
        encode_s, decode_s, num_bytes = bench(message_of(mask, None))
        digest_s = best_s(lambda mask=mask: Mask(mask.size, mask.indices).digest)
        rates = [1e-6 * mask.count / seconds for seconds in (encode_s, decode_s, digest_s)]
        row = " ".join(f"{rate:11.1f}" for rate in rates)
        print(f"{density:>28} {row} {8 * num_bytes / mask.count:26.3f}")


if __name__ == "__main__":
    main()
