"""Packets to messages: the values that survived, and the status of every coordinate.

Shapes: N coordinates of the layout, n kept ones, Q data packets that survived of P, q kept
coordinates that they hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emulator.core.errors import WireError
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import ByteArray, FloatArray, IndexArray
from emulator.core.types.message import Coordinate, Known, Received, ValueType
from emulator.network.wire.interleaving import (
    check_packets,
    find_kept_by_mask,
    find_kept_by_pieces,
    mark_classes,
)
from emulator.network.wire.mask_coding import MaskCoding, read_pieces
from emulator.network.wire.packets import HEAD_BYTES, Heads, MessageHeader
from emulator.network.wire.quantisation import VALUE_BYTES, find_modules, read_scaled, read_values


def decode(packets_data: Sequence[bytes], known: Known, arrival_s: float) -> Received:
    """Decode the surviving packets of one message, of which the message header packet is the first.

    Law: for every subset of data packets, in order, the coordinates of the survivors are RECEIVED
    with the values as `quantise` rounds them; the others are LOST if a lost packet may have held them,
    and NOT_SENT otherwise. A mask alone leaves values at zero and marks the kept coordinates RECEIVED.
    Raises WireError if the bytes are not such packets, or if `known` lacks the mask (coding KNOWN)
    or the layout (int8 values, or more coordinates than the bytes can hold) that they name; memory is
    allocated only after these checks.
    """
    survivors = _Survivors.read(packets_data)
    header = survivors.header
    layout = known.layouts.get(header.layout_digest)
    _check_size(header, layout, sum(map(len, packets_data)))
    if header.coding is MaskCoding.GAPS:
        kept_q = survivors.kept_by_pieces()
        status_N = survivors.status()
    else:
        indices_n = _mask(header, known).indices
        kept_q = survivors.kept_by_mask(indices_n) if header.has_body else indices_n
        status_N = np.zeros(header.size, dtype=np.uint8)
        if kept_q.size < indices_n.size:
            status_N[indices_n] = Coordinate.LOST
    status_N[kept_q] = Coordinate.RECEIVED
    values_q = survivors.values(kept_q, layout)
    values_N: FloatArray | ByteArray = np.zeros(header.size, dtype=np.float32)
    if values_q.dtype == np.uint8:
        values_N = np.zeros(header.size, dtype=np.uint8)
    values_N[kept_q] = values_q
    return Received(
        header.kind,
        header.traffic,
        header.source,
        header.origin,
        header.round_index,
        arrival_s,
        header.layout_digest,
        values_N,
        status_N,
    )


@dataclass(frozen=True, eq=False)
class _Survivors:
    """The header of a message and the data packets that arrived: checked heads and bytes.

    values_from and values_to [Q]: where the values of each packet begin and end; int8 scales lie just
    before the values.
    """

    header: MessageHeader
    heads: Heads
    packets: list[memoryview]
    scale_counts: IndexArray
    values_from: IndexArray
    values_to: IndexArray

    @classmethod
    def read(cls, packets_data: Sequence[bytes]) -> "_Survivors":
        """The packets after all checks that need no mask. Raises WireError."""
        if not packets_data:
            raise WireError("message: got no packets, wanted its message header first")
        header = MessageHeader.read(packets_data[0])
        packets = [memoryview(data) for data in packets_data[1:]]
        heads = Heads.read(packets, packets_data[0], header.title)
        if header.stride:
            check_packets(header, heads)
        else:
            heads.check_ranges(header)
        counts, from_Q = np.zeros_like(heads.counts), np.full_like(heads.counts, HEAD_BYTES)
        if header.value_type is ValueType.INT8:
            low = HEAD_BYTES
            found = [int.from_bytes(data[low : low + 2], "little") for data in packets]
            counts = np.asarray(found, dtype=np.int64)
            from_Q += 2 + 4 * counts
        width = 0 if header.value_type is None else VALUE_BYTES[header.value_type]
        to_Q = from_Q + width * heads.counts
        spare_Q = heads.lengths - to_Q
        if not ((spare_Q >= 0) if header.coding is MaskCoding.GAPS else (spare_Q == 0)).all():
            raise WireError(
                f"{header.title}: lengths: got {heads.lengths}, wanted values until {to_Q}"
            )
        return cls(header, heads, packets, counts, from_Q, to_Q)

    def kept_by_pieces(self) -> IndexArray:
        """The kept coordinates [q], read from the mask pieces of the packets."""
        if not self.packets:
            return np.zeros(0, dtype=np.int64)
        heads = self.heads
        rows = zip(self.packets, self.values_to.tolist(), strict=True)
        pieces = [data[low:] for data, low in rows]
        if self.header.stride:
            return find_kept_by_pieces(self.header, heads, pieces)
        kept_q = read_pieces(pieces, heads.firsts, heads.counts, self.header.rice_parameter)
        lasts = kept_q[np.cumsum(heads.counts) - 1]
        if (lasts >= heads.firsts + heads.spans).any():
            raise WireError(
                f"{self.header.title}: got entries beyond a packet's range, wanted none"
            )
        return kept_q

    def kept_by_mask(self, indices_n: IndexArray) -> IndexArray:
        """The kept coordinates [q]: those of the mask in the ranges or classes of the packets."""
        heads = self.heads
        if self.header.stride:
            return find_kept_by_mask(self.header, heads, indices_n)
        starts = np.searchsorted(indices_n, heads.firsts)
        stops = np.searchsorted(indices_n, heads.firsts + heads.spans)
        fits = np.array_equal(stops - starts, heads.counts)
        if not fits or not np.array_equal(indices_n[starts], heads.firsts):
            raise WireError(f"{self.header.title}: got ranges of another mask, wanted this one's")
        if int(heads.counts.sum()) == indices_n.size:
            return indices_n
        rows = zip(starts.tolist(), stops.tolist(), strict=True)
        return np.concatenate([indices_n[:0], *(indices_n[low:high] for low, high in rows)])

    def status(self) -> ByteArray:
        """Status [N]: LOST in the holes between the ranges (or classes), NOT_SENT inside them."""
        heads, size = self.heads, self.header.size
        if heads.indices.size == self.header.packets:
            return np.zeros(size, dtype=np.uint8)
        if self.header.stride:
            return mark_classes(self.header, heads)
        status_N = np.full(size, Coordinate.LOST, dtype=np.uint8)
        # The range of packet 0 begins at coordinate 0.
        lows = np.where(heads.indices == 0, 0, heads.firsts)
        rows = zip(lows.tolist(), (heads.firsts + heads.spans).tolist(), strict=True)
        for low, high in rows:
            status_N[low:high] = Coordinate.NOT_SENT
        return status_N

    def values(self, kept_q: IndexArray, layout: AdapterLayout | None) -> FloatArray | ByteArray:
        """The values [q] as the sender rounded them; zeros for a mask alone."""
        value_type = self.header.value_type
        if value_type is None:
            return np.zeros(kept_q.size, dtype=np.float32)
        raw = self._joined(self.values_from, self.values_to)
        if value_type is ValueType.INT8:
            scales = self._joined(self.values_from - 4 * self.scale_counts, self.values_from)
            scale_of_q = self._scale_of_each(kept_q, layout)
            return read_scaled(raw.view(np.int8), scales.view("<f4"), scale_of_q)
        return read_values(raw, value_type)

    def _scale_of_each(self, kept_q: IndexArray, layout: AdapterLayout | None) -> IndexArray:
        """The index of the scale of each value [q] among the scales of all packets. Each module has a
        scale of its own in each packet."""
        if layout is None:
            digest = self.header.layout_digest.hex()
            raise WireError(f"{self.header.title}: layout {digest}: got none, wanted it for int8")
        if not kept_q.size:
            return kept_q
        module_q = find_modules(kept_q, layout)
        starts = np.cumsum(self.heads.counts) - self.heads.counts
        new_q = np.empty(kept_q.size, dtype=np.bool_)
        np.not_equal(module_q[1:], module_q[:-1], out=new_q[1:])
        new_q[starts] = True
        wanted = np.add.reduceat(new_q, starts, dtype=np.int64)
        if not np.array_equal(wanted, self.scale_counts):
            raise WireError(
                f"{self.header.title}: scales: got {self.scale_counts}, wanted {wanted}"
            )
        return np.cumsum(new_q, dtype=np.int64) - 1

    def _joined(self, lows: IndexArray, highs: IndexArray) -> ByteArray:
        """One slice of every packet, concatenated."""
        rows = zip(self.packets, lows.tolist(), highs.tolist(), strict=True)
        return np.frombuffer(b"".join([data[low:high] for data, low, high in rows]), dtype=np.uint8)


def _check_size(header: MessageHeader, layout: AdapterLayout | None, num_bytes: int) -> None:
    """Raise WireError unless N is that of the known layout, or at most one coordinate per bit."""
    if layout is None:
        if header.size > 8 * num_bytes:
            raise WireError(
                f"{header.title}: size: got {header.size} of an unknown layout, wanted at most "
                f"{8 * num_bytes}, one for each bit that arrived"
            )
    elif layout.size != header.size:
        raise WireError(f"{header.title}: size: got {header.size}, wanted {layout.size}")


def _mask(header: MessageHeader, known: Known) -> Mask:
    """The mask that a message header names. Raises WireError unless the receiver holds it."""
    if header.coding is MaskCoding.FULL:
        return Mask.full(header.size)
    mask = known.masks.get(header.mask_digest)
    if mask is None:
        digest = header.mask_digest.hex()
        raise WireError(f"{header.title}: mask {digest}: got none, wanted it among known masks")
    if (mask.size, mask.count) != (header.size, header.count):
        got, wanted = (header.size, header.count), (mask.size, mask.count)
        raise WireError(f"{header.title}: size and count: got {got}, wanted {wanted}")
    return mask
