"""Estimates the bytes of a burst under another codec, from the counts in its record.

The messages of a burst form three groups: with a mask that is sent, with a mask that the receiver
knows, and with all coordinates. A record holds the sums over a burst; the estimate assumes that the
messages of a group are equal.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from emulator.core.types.message import ValueType
from emulator.core.types.packet import ack_bytes
from emulator.core.types.records import LinkRecord
from emulator.network.wire.packets import CHECKSUM_BYTES
from emulator.network.wire.sizes import INDEX_BYTES, Counts, estimate_size


@dataclass(frozen=True)
class Codec:
    """How values and masks are encoded.

    room_bytes: the bytes of a packet that content can use. masks: the encoding of masks that are sent:
    unchanged, as lists of int32 coordinates, or as bitmaps. known_mask_bits: bits for each entry of a
    mask that the receiver knows already; 0 if it is not sent.
    """

    room_bytes: int
    value_type: ValueType
    masks: Literal["as sent", "lists", "bitmaps"] = "as sent"
    known_mask_bits: float = 0.0


def recoded_bytes(record: LinkRecord, used: Codec, other: Codec) -> float:
    """Bytes of a burst under the codec `other`, acknowledgements included.

    Data packets are counted again; repetitions, and packets that a deadline kept from being sent, stay
    in proportion. Law: if `other` equals `used`, the result equals the bytes in the record.
    """
    once = record.sent_bytes - record.retransmitted_bytes
    if not once:
        return float(record.ack_bytes)
    more_packets, more_bytes = 0, 0.0
    for before, after in zip(
        _split_into_groups(record, used), _split_into_groups(record, other), strict=True
    ):
        was = estimate_size(before.each, used.room_bytes)
        would = estimate_size(after.each, other.room_bytes)
        more_packets += before.number * (would.packets - was.packets)
        more_bytes += before.number * (would.air_bytes - was.air_bytes)
    on_air = record.air_bytes * (1.0 + tried_share(record) * more_bytes / once)
    return on_air + _ack_bytes(record, more_packets)


def tried_share(record: LinkRecord) -> float:
    """The share of a burst's packets that were sent at least once: each of them had a checksum."""
    return record.checksum_bytes / (CHECKSUM_BYTES * record.packets)


def _ack_bytes(record: LinkRecord, more_packets: int) -> float:
    """Bytes of the same number of acknowledgements, which cover the added packets if they cover all."""
    if not record.ack_bytes:
        return 0.0
    acked = record.acknowledged_packets
    rounds = record.ack_bytes / ack_bytes(acked)
    return rounds * ack_bytes(acked + (more_packets if acked == record.packets else 0))


@dataclass(frozen=True)
class _Group:
    """A number of equal messages, and the counts of each of them."""

    number: int
    each: Counts


def _split_into_groups(record: LinkRecord, codec: Codec) -> Iterator[_Group]:
    """Yield the groups of messages whose size depends on the codec."""
    if not record.value_messages:
        if record.mask_entries:
            yield _make_group(
                record.messages, record.mask_entries, None, 0.0, _mask_cost(record, codec)
            )
        return
    known = min(record.known_entries, record.values - record.mask_entries)
    whole = record.values - record.mask_entries - known
    known_bits = codec.known_mask_bits * known
    masks = (_mask_cost(record, codec), (known_bits, 0), (0.0, 0))
    for entries, mask in zip((record.mask_entries, known, whole), masks, strict=True):
        if entries > 0:
            share = entries / record.values
            number = max(1, round(share * record.value_messages))
            yield _make_group(number, entries, codec.value_type, share * record.value_tensors, mask)


def _mask_cost(record: LinkRecord, codec: Codec) -> tuple[float, int]:
    """Bits of all masks that a burst sends, and bytes of each index if they are lists."""
    if codec.masks == "lists":
        return 0.0, INDEX_BYTES
    if codec.masks == "bitmaps":
        return float(record.mask_coordinates), 0
    return 8.0 * record.mask_bytes, 0


def _make_group(
    number: int,
    entries: int,
    value_type: ValueType | None,
    tensors: float,
    mask: tuple[float, int],
) -> _Group:
    """Divide these sums equally among a number of messages."""
    mask_bits, index_bytes = mask
    each = Counts(entries / number, value_type, tensors / number, mask_bits / number, index_bytes)
    return _Group(number, each)
