"""Masks as bytes: Rice-coded gaps, with the bitmap as the case k = 0.

Shapes: n kept coordinates (entries) of a message, P packets that share them.
The gap of an entry is the number of left-out coordinates since the entry before it. With parameter
k, a gap g is coded as g >> k zero bits and a one, and the k low bits of g. For k = 0 this is one bit for
each coordinate: the bitmap. The head of a packet names its first entry, which is coded with gap 0.
Therefore every packet decodes alone, and the gap between two packets costs no bits.

The mask piece of one packet with c entries; bits start from the lowest of each byte:

| part       | bits                              | bytes                                 |
|------------|-----------------------------------|---------------------------------------|
| unary      | Σ (g_j >> k) + c                  | ceil(bits / 8)                        |
| high bits  | c * (k mod 8), bits 8*(k div 8) … | ceil(bits / 8); absent if k mod 8 = 0 |
| low bytes  | c bytes, (k div 8) times          | c * (k div 8), lowest plane first     |

The parts are separate so that array operations code and decode all entries of a message at once.
Source: Golomb 1966, "Run-length encodings"; Rice 1979 for powers of two. For an i.i.d. mask the
best k costs at most 4.3 % more than the entropy up to a density of 0.6 (the worst case is near 0.38,
where k = 0 and k = 1 both cost one bit per coordinate). Above 0.6 the bitmap is the best code, and it
costs more than the entropy the denser the mask is: 13 % more at 0.7, twice as much at 0.9.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emulator.core.errors import WireError
from emulator.core.types.arrays import ByteArray, IndexArray

MAX_RICE_PARAMETER = 31
PADDING_BITS = 14
"""Largest padding of a mask piece: seven bits after the unary part and seven after the high bits."""


class MaskCoding(IntEnum):
    """How a receiver gets the mask of a message."""

    KNOWN = 1
    """The receiver holds the mask already; the message header names it by its digest."""
    FULL = 2
    """The mask keeps every coordinate."""
    GAPS = 3
    """Each packet contains its own piece of the mask: Rice-coded gaps, or a bitmap for k = 0."""


Column = list[memoryview]
"""One part of every packet, in the order of the packets."""


def find_gaps(indices_n: IndexArray) -> IndexArray:
    """Find the number of left-out coordinates before each entry [n]; 0 for the first entry."""
    gaps_n = np.empty(indices_n.size, dtype=np.int64)
    gaps_n[:1] = 0
    np.subtract(indices_n[1:], indices_n[:-1], out=gaps_n[1:])
    gaps_n[1:] -= 1
    return gaps_n


def rice_bits(gaps_n: IndexArray, k: int) -> int:
    """Bits of all gaps under parameter k, without padding: n (1 + k) + Σ (g >> k)."""
    return gaps_n.size * (1 + k) + int((gaps_n >> k).sum())


def find_rice_parameter(gaps_n: IndexArray, least: int, most: int = MAX_RICE_PARAMETER) -> int:
    """Find the k in least … most with the fewest bits (the smallest k among equals).

    The bits are convex in k, because Σ ceil((g >> k) / 2), the saving of k + 1 over k, does not rise
    with k. Therefore a descent from the guess for geometric gaps ends at the minimum.
    """
    mean_gap = float(gaps_n.mean()) if gaps_n.size else 0.0
    guess = max(0, int(np.log2(np.log(2.0) * mean_gap + 1e-9)) if mean_gap > 1 else 0)
    k = min(most, max(least, guess))
    bits = rice_bits(gaps_n, k)
    while k > least and (fewer := rice_bits(gaps_n, k - 1)) <= bits:
        k, bits = k - 1, fewer
    while k < most and (fewer := rice_bits(gaps_n, k + 1)) < bits:
        k, bits = k + 1, fewer
    return k


def remainder_bytes(counts_P: IndexArray, k: int) -> IndexArray:
    """Bytes of the k-bit remainders of counts_P entries [P], high bits and low bytes together."""
    return (counts_P * k + 7) >> 3


@dataclass(frozen=True, eq=False)
class GapCode:
    """The gaps of one message under parameter k; packets may divide them anywhere."""

    gaps_n: IndexArray
    k: int

    @cached_property
    def unary_n(self) -> IndexArray:
        """Unary bits up to and including each entry [n]."""
        ends_n = self.gaps_n >> self.k
        ends_n += 1
        return np.cumsum(ends_n, out=ends_n)

    def cost_bits_n(self) -> IndexArray:
        """Cumulative bits [n]: entries a+1 … b cost cost[b] - cost[a], the first entry costs 1 + k."""
        return self.unary_n + self.k * np.arange(self.gaps_n.size, dtype=np.int64)

    def piece_bytes(self, starts_P: IndexArray, stops_P: IndexArray) -> IndexArray:
        """Bytes of the mask piece of each packet, which holds entries start … stop - 1 (at least one)."""
        return self._unary_bytes(starts_P, stops_P) + remainder_bytes(stops_P - starts_P, self.k)

    def pieces(self, starts_P: IndexArray, stops_P: IndexArray) -> list[Column]:
        """The parts of the mask piece of every packet, in the order of the table above."""
        columns = [self._unary(starts_P, stops_P)]
        if not self.k:
            return columns
        remainders_n = self.gaps_n & ((1 << self.k) - 1)
        remainders_n[starts_P] = 0
        planes, width = divmod(self.k, 8)
        if width:
            high_n = (remainders_n >> (8 * planes)).astype(np.uint8)
            columns.append(_pack(high_n, width, starts_P, stops_P))
        for plane in range(planes):
            low_n = (remainders_n >> (8 * plane)).astype(np.uint8).data
            columns.append(
                [low_n[a:b] for a, b in zip(starts_P.tolist(), stops_P.tolist(), strict=True)]
            )
        return columns

    def _unary_bytes(self, starts_P: IndexArray, stops_P: IndexArray) -> IndexArray:
        return (self.unary_n[stops_P - 1] - self.unary_n[starts_P] + 8) >> 3

    def _unary(self, starts_P: IndexArray, stops_P: IndexArray) -> Column:
        edges = _edges(self._unary_bytes(starts_P, stops_P))
        shift_P = 8 * edges[:-1] - self.unary_n[starts_P]
        ones_n = np.repeat(shift_P, stops_P - starts_P)
        ones_n += self.unary_n
        bits = np.zeros(8 * int(edges[-1]), dtype=np.bool_)
        bits[ones_n] = True
        return _slices(np.packbits(bits, bitorder="little").data, edges)


def read_pieces(
    pieces_P: Sequence[memoryview], firsts_P: IndexArray, counts_P: IndexArray, k: int
) -> IndexArray:
    """Read the kept coordinates of P pieces [Σ counts]: the inverse of `GapCode.pieces`.

    firsts_P: coordinate of the first entry of each piece; counts_P: entries of each piece, at least 1.
    Raises WireError if a piece does not hold exactly that number of entries.
    """
    sizes_P = np.fromiter(map(len, pieces_P), dtype=np.int64, count=len(pieces_P))
    unary_P = sizes_P - remainder_bytes(counts_P, k)
    if (unary_P < 1).any():
        raise WireError(f"mask piece: got {sizes_P.min()} bytes, wanted room for its entries")
    unary_sizes = unary_P.tolist()
    unary = b"".join([m[:u] for m, u in zip(pieces_P, unary_sizes, strict=True)])
    bits = np.unpackbits(np.frombuffer(unary, dtype=np.uint8), bitorder="little")
    ones_n = np.flatnonzero(bits.view(np.bool_))
    starts_P = _edges(counts_P)[:-1]
    _check_ones(ones_n, starts_P, counts_P, _edges(unary_P))
    entry_n = np.arange(ones_n.size, dtype=np.int64)
    coordinates_n = ones_n
    if k:
        rest = [m[u:] for m, u in zip(pieces_P, unary_sizes, strict=True)]
        remainders_n = _read_remainders(rest, counts_P, k)
        if remainders_n[starts_P].any():
            raise WireError("mask piece: got a first entry with a remainder, wanted gap 0")
        # The distance of entry j from the first entry is (q_0 + … + q_j) << k, plus the remainders up to
        # j, plus j. The places of the unary ones already contain the running sum of the quotients.
        coordinates_n = ones_n - entry_n
        coordinates_n <<= k
        coordinates_n += np.cumsum(remainders_n, dtype=np.int64)
        coordinates_n += entry_n
    coordinates_n += np.repeat(firsts_P - coordinates_n[starts_P], counts_P)
    return coordinates_n


def _check_ones(
    ones_n: IndexArray, starts_P: IndexArray, counts_P: IndexArray, edges: IndexArray
) -> None:
    """Raise WireError unless each unary part begins with a one, ends in its last byte, and has count ones."""
    if ones_n.size != int(counts_P.sum()):
        raise WireError(f"mask pieces: got {ones_n.size} entries, wanted {int(counts_P.sum())}")
    lasts_P = starts_P + counts_P - 1
    aligned = np.array_equal(ones_n[starts_P], 8 * edges[:-1])
    if not aligned or not np.array_equal(ones_n[lasts_P] >> 3, edges[1:] - 1):
        raise WireError("mask pieces: got entries in another packet's piece, wanted their own")


def _read_remainders(rest_P: Sequence[memoryview], counts_P: IndexArray, k: int) -> IndexArray:
    planes, width = divmod(k, 8)
    high_P = ((counts_P * width + 7) >> 3).tolist()
    counts = counts_P.tolist()
    total = int(counts_P.sum())
    remainders_n = np.zeros(total, dtype=np.int64)
    if width:
        high = [bytes(m[:h]) for m, h in zip(rest_P, high_P, strict=True)]
        remainders_n += _unpack(high, width, counts)
        remainders_n <<= 8 * planes
    for plane in range(planes):
        low = b"".join(
            [
                m[h + plane * c : h + (plane + 1) * c]
                for m, h, c in zip(rest_P, high_P, counts, strict=True)
            ]
        )
        remainders_n += np.frombuffer(low, dtype=np.uint8).astype(np.int64) << (8 * plane)
    return remainders_n


def _pack(entries_n: ByteArray, width: int, starts_P: IndexArray, stops_P: IndexArray) -> Column:
    """Pack the `width` (1 … 7) low bits of each entry, and pad each packet to a byte.

    Eight entries form one little-endian word of 8 * width bits, so eight array operations suffice.
    """
    counts_P = stops_P - starts_P
    groups = _edges((counts_P + 7) >> 3)
    padded = np.zeros(8 * int(groups[-1]), dtype=np.uint8)
    places = (8 * groups[:-1]).tolist()
    for place, start, stop in zip(places, starts_P.tolist(), stops_P.tolist(), strict=True):
        padded[place : place + stop - start] = entries_n[start:stop]
    words = np.zeros(padded.size // 8, dtype="<u8")
    for lane in range(8):
        words |= padded[lane::8].astype("<u8") << np.uint64(lane * width)
    flat = np.ascontiguousarray(words.view(np.uint8).reshape(-1, 8)[:, :width]).reshape(-1).data
    used_P = (counts_P * width + 7) >> 3
    lows = (width * groups[:-1]).tolist()
    return [flat[low : low + used] for low, used in zip(lows, used_P.tolist(), strict=True)]


def _unpack(pieces: Sequence[bytes], width: int, counts: Sequence[int]) -> ByteArray:
    """The entries [Σ counts] of pieces that `_pack` made."""
    groups = [(count + 7) >> 3 for count in counts]
    padded = b"".join(
        [piece.ljust(width * group, b"\0") for piece, group in zip(pieces, groups, strict=True)]
    )
    words_bytes = np.zeros((len(padded) // width, 8), dtype=np.uint8)
    words_bytes[:, :width] = np.frombuffer(padded, dtype=np.uint8).reshape(-1, width)
    words: NDArray[np.uint64] = words_bytes.view("<u8").reshape(-1)
    lanes = np.empty((words.size, 8), dtype=np.uint8)
    low_bits = np.uint64((1 << width) - 1)
    for lane in range(8):
        lanes[:, lane] = (words >> np.uint64(lane * width)) & low_bits
    flat = lanes.reshape(-1)
    places = (8 * _edges(np.asarray(groups, dtype=np.int64))[:-1]).tolist()
    return np.concatenate([flat[p : p + c] for p, c in zip(places, counts, strict=True)])


def _edges(sizes: IndexArray) -> IndexArray:
    """The start of each of several consecutive parts, and the end of the last part."""
    edges = np.zeros(sizes.size + 1, dtype=np.int64)
    np.cumsum(sizes, out=edges[1:])
    return edges


def _slices(data: memoryview, edges: IndexArray) -> Column:
    bounds = edges.tolist()
    return [data[low:high] for low, high in pairwise(bounds)]
