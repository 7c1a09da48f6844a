"""Messages to packets; decoder.py is the inverse.

Shapes: N coordinates of the layout, n kept ones (entries), P data packets.
packets.py defines the byte layout of packets, mask_coding.py that of mask pieces.
A packet holds 1452 bytes of data by default: MTU 1500 - 28 (IPv4 + UDP) - 20 (packet head).
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from emulator.core.errors import WireError
from emulator.core.types.adapter import LostCoordinates
from emulator.core.types.arrays import IndexArray
from emulator.core.types.message import Kind, Message, ValueType
from emulator.core.types.packet import IP_UDP_BYTES, Packet
from emulator.network.wire.interleaving import Deal, deal_by_coordinate, deal_by_entry
from emulator.network.wire.mask_coding import (
    MAX_RICE_PARAMETER,
    PADDING_BITS,
    GapCode,
    MaskCoding,
    find_gaps,
    find_rice_parameter,
)
from emulator.network.wire.packets import (
    CHECKSUM_BYTES,
    HEAD_BYTES,
    MAX_COUNT,
    SCALE_BYTES,
    SCALE_COUNT_BYTES,
    Heads,
    MessageHeader,
)
from emulator.network.wire.quantisation import (
    VALUE_BYTES,
    Scaled,
    scale_by_module,
    write_values,
)

_VALUE_TYPES = {
    "float32": ValueType.FLOAT32,
    "bfloat16": ValueType.BFLOAT16,
    "float16": ValueType.FLOAT16,
    "int8": ValueType.INT8,
}


class WireFormat(BaseModel):
    """The encoding of messages as packets (section `wire` of a scenario)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["packets"] = "packets"
    value_type: Literal["float32", "bfloat16", "float16", "int8"] = Field(
        default="bfloat16", description="Number type of adapter values on the wire"
    )
    statistics_type: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Number type of the routing statistics on the wire"
    )
    error_feedback: bool = Field(
        default=False,
        description="Whether methods add the rounding errors of earlier rounds to the values that they send",
    )
    lost_coordinates: LostCoordinates = Field(
        default="keep_own",
        description="What replaces a lost value of a round: the receiver's own value; nothing, and the "
        "weights of the others are scaled up; the last value received; a retransmission until it "
        "arrives; or its whole message counts as lost",
    )
    interleave: bool = Field(
        default=False,
        description="Whether a packet carries every s-th value of a message instead of neighbouring "
        "values (reliable messages are never interleaved)",
    )
    mtu_bytes: int = Field(
        default=1500,
        ge=256,
        le=9000,
        description="Largest datagram on the air in bytes, IPv4 and UDP headers included",
    )
    mask_codec: Literal["smallest", "rice", "bitmap"] = Field(
        default="smallest",
        description="Code of masks that the receiver does not hold: nothing for a full mask and "
        "otherwise the Rice parameter of fewest bits (0 is the bitmap); always Rice with k >= 1; always "
        "a bitmap",
    )

    @model_validator(mode="after")
    def _scales_stay_with_their_module(self) -> Self:
        if self.interleave and self.value_type == "int8":
            raise ValueError(
                "interleave: got true with value_type int8, wanted another value type (every packet "
                "would have to bring the scales of all modules)"
            )
        return self

    @property
    def number_type(self) -> ValueType:
        """`value_type` as a `ValueType`."""
        return _VALUE_TYPES[self.value_type]

    def type_of(self, kind: Kind) -> ValueType:
        """The type of the values of a kind of message on the wire."""
        return _VALUE_TYPES[self.statistics_type if kind is Kind.STATISTICS else self.value_type]

    @property
    def room_bytes(self) -> int:
        """Bytes of payload and mask that one packet may carry."""
        return self.mtu_bytes - IP_UDP_BYTES - HEAD_BYTES

    def encode(self, message: Message) -> tuple[Packet, ...]:
        """Encode a message as packets; the first one is the message header, which is always reliable.

        Laws: `decode` of any surviving subset gives every surviving coordinate as
        `quantisation.quantise` rounds it; header + checksum + mask + payload bytes == len(data) of
        every packet; the argument is not changed.
        Raises WireError if the message contradicts itself, or if a value or number does not fit.
        """
        _check(message)
        coding, gaps = self._mask_code(message)
        cut = self._cut(message, gaps)
        entries, starts_P, stops_P = cut.entries, cut.starts_P, cut.stops_P
        header = MessageHeader(
            message.kind,
            message.traffic,
            None if message.values is None else message.value_type,
            coding,
            entries.gaps.k if entries.gaps else 0,
            message.source,
            message.origin,
            message.round_index,
            message.layout.size,
            message.mask.count,
            starts_P.size,
            message.layout.digest,
            message.mask.digest,
            cut.stride,
        ).seal()
        payload_P = entries.payload_bytes(starts_P, stops_P)
        mask_P = entries.mask_bytes(starts_P, stops_P)
        heads = Heads(
            np.arange(starts_P.size, dtype=np.int64),
            HEAD_BYTES + payload_P + mask_P,
            stops_P - starts_P,
            cut.firsts_P,
            cut.spans_P,
        )
        first = Packet(header, len(header) - CHECKSUM_BYTES, CHECKSUM_BYTES, 0, 0, reliable=True)
        datas = heads.seal(entries.bodies(starts_P, stops_P), header)
        own_bytes, reliable = HEAD_BYTES - CHECKSUM_BYTES, message.reliable
        rows = zip(datas, mask_P.tolist(), payload_P.tolist(), strict=True)
        return (
            first,
            *[
                Packet(data, own_bytes, CHECKSUM_BYTES, mask, payload, reliable)
                for data, mask, payload in rows
            ],
        )

    def _mask_code(self, message: Message) -> tuple[MaskCoding, GapCode | None]:
        """The coding of the mask with the fewest bytes that `mask_codec` allows, and its gaps if it is sent."""
        if message.mask.is_full and (message.mask_known or self.mask_codec == "smallest"):
            return MaskCoding.FULL, None
        if message.mask_known:
            return MaskCoding.KNOWN, None
        gaps_n = find_gaps(message.mask.indices)
        return MaskCoding.GAPS, GapCode(gaps_n, find_rice_parameter(gaps_n, *self._rice_range))

    @property
    def _rice_range(self) -> tuple[int, int]:
        """The Rice parameters that `mask_codec` allows."""
        return {"bitmap": (0, 0), "rice": (1, MAX_RICE_PARAMETER)}.get(
            self.mask_codec, (0, MAX_RICE_PARAMETER)
        )

    def _cut(self, message: Message, gaps: GapCode | None) -> "_Cut":
        """The entries of each packet: neighbouring entries, or every s-th one."""
        entries, indices_n = _Entries.of(message, gaps), message.mask.indices
        starts_P, stops_P = entries.cut(self.room_bytes)
        packets, must_arrive = starts_P.size, message.reliable
        if self.interleave and packets > 1 and not must_arrive and not entries.scaled:
            if gaps is None:
                deal = deal_by_entry(message.mask.count, packets)
            else:
                deal = deal_by_coordinate(
                    indices_n, packets, self._rice_range, entries.value_bytes, self.room_bytes
                )
            firsts_P = indices_n[deal.order_n[deal.starts_P]]
            strides_P = np.full_like(firsts_P, deal.stride)
            dealt = entries.reorder(deal)
            return _Cut(dealt, deal.starts_P, deal.stops_P, firsts_P, strides_P, deal.stride)
        firsts_P = indices_n[starts_P]
        spans_P = np.append(firsts_P[1:], message.layout.size)[:packets] - firsts_P
        return _Cut(entries, starts_P, stops_P, firsts_P, spans_P, 0)


@dataclass(frozen=True, eq=False)
class _Cut:
    """Entries in the order of their packets: packet p holds entries start ... stop - 1 [P].

    firsts_P and spans_P: the last two fields of each head. stride: 0 for ranges.
    """

    entries: "_Entries"
    starts_P: IndexArray
    stops_P: IndexArray
    firsts_P: IndexArray
    spans_P: IndexArray
    stride: int


@dataclass(frozen=True, eq=False)
class _Entries:
    """The n entries of a message: sizes and bytes of any run of entries."""

    count: int
    value_bytes: int
    values: memoryview
    scaled: Scaled | None
    gaps: GapCode | None

    @classmethod
    def of(cls, message: Message, gaps: GapCode | None) -> "_Entries":
        """The rounded values of a message, and its gaps. Raises WireError if a value cannot be rounded."""
        values_n, count = message.values, message.mask.count
        if values_n is None:
            return cls(count, 0, memoryview(b""), None, gaps)
        width = VALUE_BYTES[message.value_type]
        if message.value_type is not ValueType.INT8:
            raw = write_values(values_n, message.value_type).data
            return cls(count, width, raw, None, gaps)
        floats_n = np.asarray(values_n, dtype=np.float32)
        scaled = scale_by_module(floats_n, message.layout, message.mask.indices)
        return cls(count, width, scaled.levels_n.view(np.uint8).data, scaled, gaps)

    def reorder(self, deal: Deal) -> "_Entries":
        """The same entries class by class, with the gaps of the deal."""
        rows = np.frombuffer(self.values, dtype=np.uint8).reshape(-1, max(1, self.value_bytes))
        values = rows[deal.order_n].reshape(-1).data if self.value_bytes else self.values
        return _Entries(self.count, self.value_bytes, values, None, deal.gaps)

    def cut(self, room_bytes: int) -> tuple[IndexArray, IndexArray]:
        """The first entry of each packet and the one after its last, with as many entries as fit."""
        if self.gaps or self.scaled:
            edges = np.asarray(self._cut_by_cost(room_bytes), dtype=np.int64)
            return edges[:-1], edges[1:]
        if not self.value_bytes:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        step = min(room_bytes // self.value_bytes, MAX_COUNT)
        starts_P = np.arange(0, self.count, step, dtype=np.int64)
        return starts_P, np.minimum(starts_P + step, self.count)

    def _cut_by_cost(self, room_bytes: int) -> list[int]:
        """The edges of packets, by binary search in the cumulative bits: logarithmic in n for each packet."""
        cost_n = 8 * self.value_bytes * np.arange(self.count, dtype=np.int64)
        first_bits = 8 * self.value_bytes
        if self.gaps:
            cost_n += self.gaps.cost_bits_n()
            first_bits += 1 + self.gaps.k + PADDING_BITS
        if self.scaled:
            cost_n += 8 * SCALE_BYTES * self.scaled.module_n
            first_bits += 8 * (SCALE_COUNT_BYTES + SCALE_BYTES)
        allowed_bits = 8 * room_bytes - first_bits
        edges = [0]
        while (low := edges[-1]) < self.count:
            high = int(cost_n.searchsorted(cost_n[low] + allowed_bits, side="right"))
            edges.append(min(high, low + MAX_COUNT))
        return edges

    def payload_bytes(self, starts_P: IndexArray, stops_P: IndexArray) -> IndexArray:
        """Bytes of values and scales in each packet."""
        payload_P = self.value_bytes * (stops_P - starts_P)
        if self.scaled:
            payload_P += SCALE_COUNT_BYTES + SCALE_BYTES * self._scales(starts_P, stops_P)
        return payload_P

    def mask_bytes(self, starts_P: IndexArray, stops_P: IndexArray) -> IndexArray:
        """Bytes of the mask piece in each packet."""
        return self.gaps.piece_bytes(starts_P, stops_P) if self.gaps else np.zeros_like(starts_P)

    def _scales(self, starts_P: IndexArray, stops_P: IndexArray) -> IndexArray:
        """The number of modules of which each packet holds entries."""
        if self.scaled is None:
            return np.zeros_like(starts_P)
        return self.scaled.module_n[stops_P - 1] - self.scaled.module_n[starts_P] + 1

    def bodies(self, starts_P: IndexArray, stops_P: IndexArray) -> list[tuple[memoryview, ...]]:
        """The body of each packet, in parts."""
        columns: list[list[memoryview]] = []
        starts, stops, width = starts_P.tolist(), stops_P.tolist(), self.value_bytes
        if self.scaled:
            scales = self.scaled.scales.astype("<f4").view(np.uint8).data
            counts = self._scales(starts_P, stops_P).tolist()
            lows = self.scaled.module_n[starts_P].tolist()
            columns.append([memoryview(count.to_bytes(2, "little")) for count in counts])
            columns.append(
                [scales[4 * low : 4 * (low + s)] for low, s in zip(lows, counts, strict=True)]
            )
        if width:
            spans = zip(starts, stops, strict=True)
            columns.append([self.values[width * low : width * high] for low, high in spans])
        if self.gaps:
            columns.extend(self.gaps.pieces(starts_P, stops_P))
        return list(zip(*columns, strict=True))


def _check(message: Message) -> None:
    """Raise WireError unless layout, mask and values have the same coordinates."""
    where = f"message of device {message.source}, round {message.round_index}"
    mask, layout, values = message.mask, message.layout, message.values
    if mask.size != layout.size:
        raise WireError(f"{where}: mask: got {mask.size} coordinates, wanted {layout.size}")
    if values is not None and values.shape != (mask.count,):
        raise WireError(f"{where}: values: got shape {values.shape}, wanted ({mask.count},)")
