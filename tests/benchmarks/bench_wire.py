"""Speed of the wire on one core.

Values: MB/s of float32 in and out, mask known to the receiver. Masks: million kept entries per
second; `digest` is the first computation of `Mask.digest`, which a static mask pays once. The best of
several runs, since others use the machine too.
"""

import math
from collections.abc import Iterator

import numpy as np
from figures import Figure, best_s, print_figures

from emulator.core.rng import stream
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import Kind, Known, Message, Traffic, ValueType
from emulator.network.wire import WireFormat, decode

N = 4_000_000
RUNS = 7


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
    encode_s = best_s(lambda: wire.encode(message), RUNS)
    return encode_s, best_s(lambda: decode(data, known, 0.0), RUNS), num_bytes


def figures() -> Iterator[Figure]:
    """Values of every type, masks of every density."""
    mask = mask_of(0.25)
    for value_type in (ValueType.FLOAT32, ValueType.BFLOAT16, ValueType.FLOAT16, ValueType.INT8):
        encode_s, decode_s, _ = bench(message_of(mask, value_type))
        name = f"values as {value_type.name.lower()}, mask of density 0.25 known"
        for what, seconds in (("in", encode_s), ("out", decode_s)):
            rate = 4e-6 * mask.count / seconds
            target = 500.0 if what == "in" else None
            yield Figure(f"{name}: {what}", rate, "MB/s of float32", target)
    for density in (0.001, 0.01, 0.1, 0.25, 0.5):
        mask = mask_of(density)
        encode_s, decode_s, num_bytes = bench(message_of(mask, None))
        digest_s = best_s(lambda mask=mask: Mask(mask.size, mask.indices).digest, RUNS)
        for what, seconds in (("in", encode_s), ("out", decode_s), ("digest", digest_s)):
            rate = 1e-6 * mask.count / seconds
            target = None if what == "digest" else 20.0
            yield Figure(f"mask of density {density}: {what}", rate, "M entries/s", target)
        share = 8 * num_bytes / mask.size / entropy_bits(density)
        yield Figure(f"mask of density {density}: bits over entropy", share, at_most=1.05)


def entropy_bits(density: float) -> float:
    """Of one coordinate of a random mask."""
    return -density * math.log2(density) - (1 - density) * math.log2(1 - density)


if __name__ == "__main__":
    print_figures(f"Wire, one core, N = {N:,d}", figures())
