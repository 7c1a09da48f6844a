"""What messages cost on the air, from counts alone: how many packets encoder.py would make of them.

A message is its header packet and P data packets. Here it is known by its counts only: where in the
vector its entries lie is not.
"""

import math
from dataclasses import dataclass

from emulator.core.types.message import ValueType
from emulator.core.types.packet import IP_UDP_BYTES
from emulator.network.wire.mask_coding import MAX_RICE_PARAMETER, PADDING_BITS
from emulator.network.wire.packets import HEAD_BYTES, MAX_COUNT, SCALE_BYTES, SCALE_COUNT_BYTES
from emulator.network.wire.quantisation import VALUE_BYTES

INDEX_BYTES = 4
"""A coordinate as int32, in a list of them (COO)."""


@dataclass(frozen=True)
class Counts:
    """A message in counts; means over several equal ones need not be whole.

    entries: n. value_type: of their values; None where a mask is sent alone. tensors: how many the
    entries lie in. mask_bits: of all pieces of the mask that travels, 0 where none does; index_bytes:
    of every entry's coordinate, where the mask travels as a list of them.
    """

    entries: float
    value_type: ValueType | None
    tensors: float = 0.0
    mask_bits: float = 0.0
    index_bytes: int = 0


@dataclass(frozen=True)
class Size:
    """The data packets of a message, and their bytes on the air, heads and IPv4+UDP included."""

    packets: int
    air_bytes: float


def estimate_size(counts: Counts, room_bytes: int) -> Size:
    """The data packets of a message that may carry room_bytes each, filled one after the other.

    Laws: what `WireFormat.encode` makes of it, exactly without int8 and mask pieces. int8 repeats the
    scale of a tensor in every packet that it reaches into: SCALE_BYTES too many for each packet that
    happens to end where a tensor does. Mask pieces are taken as equally long everywhere.
    """
    scaled = counts.value_type is ValueType.INT8
    width = VALUE_BYTES[counts.value_type] if counts.value_type else 0
    entry_bytes = width + counts.index_bytes
    if not counts.entries or not (entry_bytes or counts.mask_bits):
        return Size(0, 0.0)
    body_bytes = entry_bytes * counts.entries + counts.mask_bits / 8
    if scaled or counts.mask_bits:
        repeated_bytes = SCALE_COUNT_BYTES + SCALE_BYTES if scaled else 0
        body_bytes += SCALE_BYTES * (counts.tensors - 1) if scaled else 0.0
        padding_bytes = PADDING_BITS / 8 if counts.mask_bits else 0.0
        packets = math.ceil(body_bytes / (room_bytes - repeated_bytes - padding_bytes))
    else:
        repeated_bytes = 0
        packets = math.ceil(counts.entries / (room_bytes // entry_bytes))
    packets = max(packets, math.ceil(counts.entries / MAX_COUNT))
    each = IP_UDP_BYTES + HEAD_BYTES + repeated_bytes
    return Size(packets, body_bytes + packets * each)


def random_mask_bits(density: float) -> float:
    """Bits an entry of a mask that keeps each coordinate with the same probability, Rice-coded.

    The least over k of 1 + k + E[g >> k], with P(g) = d (1-d)^g: so E[g >> k] = q/(1-q) for
    q = (1-d)^(2^k).
    """
    left_out = [math.pow(1.0 - density, 2**k) for k in range(MAX_RICE_PARAMETER + 1)]
    return min(1 + k + q / (1.0 - q) for k, q in enumerate(left_out) if q < 1.0)
