"""The byte layout of packets: heads, checksums, and the division of a burst into messages.

Everything is little-endian. A message is one *message header packet* followed by P data packets.

Packet head, 20 bytes (16 count as header, the CRC as checksum):

| at | bytes | field                                                                          |
|----|-------|--------------------------------------------------------------------------------|
| 0  | 4     | CRC-32 of all bytes after it, see below                                        |
| 4  | 1     | magic: 0xD7 message header, 0xD8 data                                          |
| 5  | 1     | bits 16 … 23 of the packet index                                               |
| 6  | 2     | bits 0 … 15 of it: 0 … P-1 among the data packets                              |
| 8  | 2     | bytes of the whole packet                                                      |
| 10 | 2     | entries (kept coordinates) it holds, at least 1                                |
| 12 | 4     | coordinate of its first entry                                                  |
| 16 | 4     | span: coordinates from there up to the first entry of the next packet (or to N) |
|    |       | of an interleaved message: its stride (interleaving.py)                        |

After the head of a message header packet (index, entries and first 0; span: 0, or the stride of an
interleaved message, at least 2), 58 bytes, all header:

| at | bytes | field                          | at | bytes | field                                |
|----|-------|--------------------------------|----|-------|--------------------------------------|
| 20 | 1     | version, 1                     | 30 | 4     | round, signed                        |
| 21 | 1     | kind                           | 34 | 4     | N, coordinates of the layout         |
| 22 | 1     | traffic                        | 38 | 4     | n, kept coordinates                  |
| 23 | 1     | value type, 0 without values   | 42 | 4     | P, data packets                      |
| 24 | 1     | mask coding                    | 46 | 8     | digest of the layout                 |
| 25 | 1     | Rice parameter k (0: bitmap)   | 54 | 8     | digest of the mask: its epoch        |
| 26 | 2     | source                         | 62 | 16    | keyed tag, zero until there are keys |
| 28 | 2     | origin                         |    |       |                                      |

After the head of a data packet with c entries:

| part    | bytes                            | present                      | counts as |
|---------|----------------------------------|------------------------------|-----------|
| S       | 2: scales that follow            | int8                         | payload   |
| scales  | 4 S: one for each module it touches | int8                      | payload   |
| values  | c * (4, 2, 2, 1, 1)              | if the message has values    | payload   |
| mask    | see mask_coding.py               | coding GAPS                  | mask      |

The CRC of a message header packet starts from 0, and the CRC of a data packet from the CRC of its
message header packet. Therefore the CRC also detects a packet of another message.

Ranges: packet i covers the coordinates from its first entry up to the first entry of the next packet, and
packet 0 also those before its first entry, so the ranges of all packets tile [0, N). The receiver knows
that the ranges of lost packets are the holes between the survivors, and nothing more.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from emulator.core.errors import WireError
from emulator.core.types.arrays import IndexArray
from emulator.core.types.message import Kind, Traffic, ValueType
from emulator.network.wire.mask_coding import MAX_RICE_PARAMETER, MaskCoding

VERSION = 1
CHECKSUM_BYTES = 4
HEAD_BYTES = 20
"""Head of every packet, checksum included."""

_MESSAGE_MAGIC = 0xD7
_DATA_MAGIC = 0xD8
_HEAD = struct.Struct("<IBBHHHII")
_BODY = struct.Struct("<BBBBBBHHiIII8s8s16s")
MESSAGE_HEADER_BYTES = HEAD_BYTES + _BODY.size
MAX_COUNT = 0xFFFF
SCALE_COUNT_BYTES = 2
SCALE_BYTES = 4
_MAX_PACKETS = 1 << 24
_NO_TAG = bytes(16)

_HEAD_DTYPE = np.dtype(
    [
        ("crc", "<u4"),
        ("magic", "u1"),
        ("index_high", "u1"),
        ("index_low", "<u2"),
        ("length", "<u2"),
        ("count", "<u2"),
        ("first", "<u4"),
        ("span", "<u4"),
    ]
)


@dataclass(frozen=True)
class MessageHeader:
    """The fields of the first packet of a message. Law: `read(seal()) == self`."""

    kind: Kind
    traffic: Traffic
    value_type: ValueType | None
    coding: MaskCoding
    rice_parameter: int
    source: int
    origin: int
    round_index: int
    size: int
    count: int
    packets: int
    layout_digest: bytes
    mask_digest: bytes
    stride: int = 0
    """0: packets hold ranges; s > 0: a packet holds every s-th place."""

    @property
    def has_body(self) -> bool:
        """Whether entries cost bytes. A known or full mask without values fits into the header."""
        return self.value_type is not None or self.coding is MaskCoding.GAPS

    @property
    def title(self) -> str:
        """The name of the message in an error text."""
        return f"message from device {self.source}, round {self.round_index}"

    def seal(self) -> bytes:
        """The message header packet. Raises WireError if a number does not fit its field."""
        try:
            body = _BODY.pack(
                VERSION,
                self.kind,
                self.traffic,
                self.value_type or 0,
                self.coding,
                self.rice_parameter,
                self.source,
                self.origin,
                self.round_index,
                self.size,
                self.count,
                self.packets,
                self.layout_digest,
                self.mask_digest,
                _NO_TAG,
            )
        except struct.error as error:
            raise WireError(f"{self.title}: got {self}, wanted fields that fit: {error}") from error
        head = _HEAD.pack(0, _MESSAGE_MAGIC, 0, 0, MESSAGE_HEADER_BYTES, 0, 0, self.stride)
        rest = head[CHECKSUM_BYTES:] + body
        return crc32(rest).to_bytes(CHECKSUM_BYTES, "little") + rest

    @classmethod
    def read(cls, data: bytes) -> "MessageHeader":
        """The header in a message header packet. Raises WireError for any other bytes."""
        if len(data) != MESSAGE_HEADER_BYTES:
            raise WireError(f"message header: got {len(data)} bytes, wanted {MESSAGE_HEADER_BYTES}")
        crc, *head, stride = _HEAD.unpack_from(data)
        if head != [_MESSAGE_MAGIC, 0, 0, MESSAGE_HEADER_BYTES, 0, 0]:
            raise WireError(f"message header: got head {head}, wanted magic {_MESSAGE_MAGIC:#x}")
        if crc != crc32(data[CHECKSUM_BYTES:]):
            raise WireError("message header: got another checksum, wanted that of its bytes")
        version, kind, traffic, value_type, coding, *fields, tag = _BODY.unpack_from(
            data, HEAD_BYTES
        )
        if version != VERSION or tag != _NO_TAG:
            raise WireError(f"message header: got version {version}, wanted {VERSION} without tag")
        try:
            header = cls(
                Kind(kind),
                Traffic(traffic),
                ValueType(value_type) if value_type else None,
                MaskCoding(coding),
                *[*fields, stride],
            )
        except ValueError as error:
            raise WireError(f"message header: {error}") from error
        header._check_counts()
        return header

    def _check_counts(self) -> None:
        where, highest = self.title, MAX_RICE_PARAMETER if self.coding is MaskCoding.GAPS else 0
        if self.rice_parameter > highest:
            raise WireError(f"{where}: rice: got {self.rice_parameter}, wanted 0 … {highest}")
        least = self.size if self.coding is MaskCoding.FULL else 0
        if not least <= self.count <= self.size:
            raise WireError(f"{where}: count: got {self.count}, wanted {least} … {self.size}")
        highest = self.count if self.has_body else 0
        if not min(highest, 1) <= self.packets <= highest:
            raise WireError(f"{where}: packets: got {self.packets}, wanted at most {highest}")
        if not self.stride:
            return
        dealt_out = self.has_body and self.value_type is not ValueType.INT8
        if not dealt_out or not max(2, self.packets) <= self.stride <= self.size:
            raise WireError(
                f"{where}: stride: got {self.stride}, wanted 0 or packets … coordinates"
            )


@dataclass(frozen=True, eq=False)
class Heads:
    """The heads of P data packets of one message, in order: all [P] int64."""

    indices: IndexArray
    lengths: IndexArray
    counts: IndexArray
    firsts: IndexArray
    spans: IndexArray

    def seal(self, bodies: Sequence[Sequence[memoryview]], message_header: bytes) -> list[bytes]:
        """The packets with these heads and bodies, each with its checksum. bodies: the parts of each body.

        Raises WireError if there are more packets than indices.
        """
        if len(bodies) > _MAX_PACKETS:
            raise WireError(f"data packets: got {len(bodies)}, wanted at most {_MAX_PACKETS}")
        rows = np.zeros(len(bodies), dtype=_HEAD_DTYPE)
        rows["magic"] = _DATA_MAGIC
        rows["index_high"] = self.indices >> 16
        rows["index_low"] = self.indices & 0xFFFF
        rows["length"] = self.lengths
        rows["count"] = self.counts
        rows["first"] = self.firsts
        rows["span"] = self.spans
        heads = rows.tobytes()
        start = _checksum_of(message_header)
        packets = []
        for low, parts in zip(range(0, len(heads), HEAD_BYTES), bodies, strict=True):
            rest = b"".join((heads[low + CHECKSUM_BYTES : low + HEAD_BYTES], *parts))
            packets.append(crc32(rest, start).to_bytes(CHECKSUM_BYTES, "little") + rest)
        return packets

    @classmethod
    def read(cls, packets: Sequence[memoryview], message_header: bytes, title: str) -> "Heads":
        """The heads of data packets. Raises WireError if a packet is damaged or of another message."""
        lengths = np.fromiter(map(len, packets), dtype=np.int64, count=len(packets))
        if not packets:
            return cls(*[lengths] * 5)
        if (lengths <= HEAD_BYTES).any():
            raise WireError(f"{title}: got {lengths.min()} bytes, wanted more than {HEAD_BYTES}")
        joined = b"".join([packet[:HEAD_BYTES] for packet in packets])
        rows = np.frombuffer(joined, dtype=_HEAD_DTYPE)
        start = _checksum_of(message_header)
        checksums = [crc32(packet[CHECKSUM_BYTES:], start) for packet in packets]
        _require_all(rows["crc"] == checksums, title, "another checksum", "that of its bytes")
        _require_all(rows["magic"] == _DATA_MAGIC, title, "another magic", f"{_DATA_MAGIC:#x}")
        _require_all(rows["length"] == lengths, title, "another length", "that of its bytes")
        return cls(
            rows["index_high"].astype(np.int64) << 16 | rows["index_low"],
            lengths,
            rows["count"].astype(np.int64),
            rows["first"].astype(np.int64),
            rows["span"].astype(np.int64),
        )

    def check_ranges(self, header: MessageHeader) -> None:
        """Raise WireError unless the surviving and the lost packets together can tile [0, N).

        The survivors must be in order, leave room for the lost packets, and have entries that add up
        with theirs. The error names the first packet that does not fit.
        """
        title = header.title
        # There is a hole before each survivor and one after the last; `lost` counts the packets lost in it.
        lost = np.diff(self.indices, prepend=-1, append=header.packets) - 1
        holes = np.append(self.firsts, header.size) - np.append(0, self.firsts + self.spans)
        tiled = (lost >= 0) & (holes >= lost) & ((lost > 0) | (holes == 0))
        # All coordinates before the first entry belong to packet 0.
        tiled[0] = lost[0] >= 0 and holes[0] >= lost[0]
        _require_all(tiled, title, "a range out of place", "ranges that tile the vector")
        filled = (self.counts >= 1) & (self.counts <= self.spans)
        _require_all(filled, title, "more entries than coordinates or none", "1 … span")
        all_entries = header.count if header.has_body else 0
        missing, num_lost = all_entries - int(self.counts.sum()), int(lost.sum())
        if missing < num_lost or (missing > 0) != (num_lost > 0):
            raise WireError(f"{title}: got {missing} entries missing in {num_lost} lost packets")


def split_burst(data: bytes) -> list[list[bytes]]:
    """Split a burst, which is a concatenation of surviving packets, into the packets of each message.

    Every message begins with its message header packet. Law: splitting the concatenation gives the
    same packets again. Raises WireError if the bytes are not whole packets, or if the first packet is not
    a message header packet.
    """
    messages: list[list[bytes]] = []
    low = 0
    while low < len(data):
        if len(data) - low < HEAD_BYTES:
            raise WireError(f"burst[{low}]: got {len(data) - low} bytes, wanted a packet head")
        _, magic, _, _, length, _, _, _ = _HEAD.unpack_from(data, low)
        if not HEAD_BYTES < length <= len(data) - low:
            raise WireError(
                f"burst[{low}]: length: got {length}, wanted {HEAD_BYTES + 1} … {len(data) - low}"
            )
        packet = data[low : low + length]
        if magic == _MESSAGE_MAGIC:
            messages.append([packet])
        elif magic == _DATA_MAGIC and messages:
            messages[-1].append(packet)
        else:
            raise WireError(f"burst[{low}]: magic: got {magic:#x}, wanted a packet of a message")
        low += length
    return messages


def _checksum_of(packet: bytes) -> int:
    """The checksum field of a packet."""
    return int.from_bytes(packet[:CHECKSUM_BYTES], "little")


def _require_all(good_P: NDArray[np.bool_], title: str, got: str, wanted: str) -> None:
    if not good_P.all():
        raise WireError(f"{title}: data[{int(np.argmin(good_P))}]: got {got}, wanted {wanted}")
