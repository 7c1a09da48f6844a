"""What a burst would weigh if its messages were written otherwise: from the counts in its record.

The messages of a burst fall into groups: with a mask that travels, with one that is known already, and
about whole vectors. A record tells the sums of a burst; the messages of a group are taken as alike.
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
    """How values and masks are written.

    masks: as they were, as lists of int32 coordinates, or as bitmaps, where they travel.
    known_mask_bits: what an entry of a known mask costs; 0 where it stays known.
    """

    room_bytes: int
    value_type: ValueType
    masks: Literal["as sent", "lists", "bitmaps"] = "as sent"
    known_mask_bits: float = 0.0


def recoded_bytes(record: LinkRecord, used: Codec, other: Codec) -> float:
    """Bytes of a burst on the air, acknowledgements included, with another codec than the used one.

    Its data packets are counted anew; repetitions, and what a deadline keeps off the air, stay in
    proportion. Law: with the used codec, what the record says.
    """
    once = record.sent_bytes - record.retransmitted_bytes
    if not once:
        return float(record.ack_bytes)
    more_packets, more_bytes = 0, 0.0
    for before, after in zip(_groups(record, used), _groups(record, other), strict=True):
        was, would = (
            estimate_size(before.each, used.room_bytes),
            estimate_size(after.each, other.room_bytes),
        )
        more_packets += before.number * (would.packets - was.packets)
        more_bytes += before.number * (would.air_bytes - was.air_bytes)
    on_air = record.air_bytes * (1.0 + tried_share(record) * more_bytes / once)
    return on_air + _acknowledged(record, more_packets)


def tried_share(record: LinkRecord) -> float:
    """The share of a burst's packets that were on the air at all: each of them had a checksum."""
    return record.checksum_bytes / (CHECKSUM_BYTES * record.packets)


def _acknowledged(record: LinkRecord, more_packets: int) -> float:
    """Acknowledgements as often as there were, of more packets where all are acknowledged."""
    if not record.ack_bytes:
        return 0.0
    acked = record.acknowledged_packets
    rounds = record.ack_bytes / ack_bytes(acked)
    return rounds * ack_bytes(acked + (more_packets if acked == record.packets else 0))


@dataclass(frozen=True)
class _Group:
    """So many messages that are alike, and what each of them is."""

    number: int
    each: Counts


def _groups(record: LinkRecord, codec: Codec) -> Iterator[_Group]:
    """The messages of a burst that a codec concerns."""
    if not record.value_messages:
        if record.mask_entries:
            yield _alike(record.messages, record.mask_entries, None, 0.0, _mask(record, codec))
        return
    known = min(record.known_entries, record.values - record.mask_entries)
    whole = record.values - record.mask_entries - known
    known_bits = codec.known_mask_bits * known
    masks = (_mask(record, codec), (known_bits, 0), (0.0, 0))
    for entries, mask in zip((record.mask_entries, known, whole), masks, strict=True):
        if entries > 0:
            share = entries / record.values
            number = max(1, round(share * record.value_messages))
            yield _alike(number, entries, codec.value_type, share * record.value_tensors, mask)


def _mask(record: LinkRecord, codec: Codec) -> tuple[float, int]:
    """Bits of all pieces of the masks that travel in a burst, and bytes of each index in a list."""
    if codec.masks == "lists":
        return 0.0, INDEX_BYTES
    if codec.masks == "bitmaps":
        return float(record.mask_coordinates), 0
    return 8.0 * record.mask_bytes, 0


def _alike(
    number: int,
    entries: int,
    value_type: ValueType | None,
    tensors: float,
    mask: tuple[float, int],
) -> _Group:
    """So many messages with equal parts of these sums."""
    mask_bits, index_bytes = mask
    each = Counts(entries / number, value_type, tensors / number, mask_bits / number, index_bytes)
    return _Group(number, each)
