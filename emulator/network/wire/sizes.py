"""Sizes of messages on the air from counts alone: the number of packets that encoder.py would make.

A message consists of a header packet and P data packets. The functions here know the counts of a
message, but not the places of its entries in the vector.
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
    """The counts of a message; means over several similar messages need not be integers.

    entries: n. value_type: type of the values; None if a mask is sent alone. tensors: number of tensors
    in which the entries lie. mask_bits: bits of all mask pieces, 0 if the mask is not sent.
    index_bytes: bytes of the coordinate of each entry, if the mask is sent as a list of coordinates.
    """

    entries: float
    value_type: ValueType | None
    tensors: float = 0.0
    mask_bits: float = 0.0
    index_bytes: int = 0


@dataclass(frozen=True)
class Size:
    """The number of data packets of a message, and their bytes on the air with heads and IPv4+UDP."""

    packets: int
    air_bytes: float


def estimate_size(counts: Counts, room_bytes: int) -> Size:
    """Estimate the data packets of a message, each of which carries up to room_bytes of payload and mask.

    Law: without int8 values and mask pieces, the result is exactly that of `WireFormat.encode`. int8
    repeats the scale of a tensor in every packet that holds values of it, so the estimate is
    SCALE_BYTES too large for each packet that ends together with a tensor. Mask pieces count as equally
    long everywhere.
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
    """Bits per entry of a Rice-coded mask that keeps each coordinate with the same probability.

    This is the minimum over k of 1 + k + E[g >> k]. As P(g) = d (1-d)^g, E[g >> k] = q/(1-q) with
    q = (1-d)^(2^k).
    """
    left_out = [math.pow(1.0 - density, 2**k) for k in range(MAX_RICE_PARAMETER + 1)]
    return min(1 + k + q / (1.0 - q) for k, q in enumerate(left_out) if q < 1.0)
