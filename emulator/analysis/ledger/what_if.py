"""Estimates, from the ledger alone, the bytes of a run under another codec, access or reliability.

Every alternative changes one setting and assumes that all else stays: the same messages between the same
devices, and the same number of tries. Bytes are those of `bytes.total`: all that is transmitted,
acknowledgements included. Airtime and energy would change too, but a ledger does not hold the gains of
the links.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

from emulator.analysis.ledger.tables import Alternative
from emulator.analysis.ledger.what_if_codec import Codec, recoded_bytes, tried_share
from emulator.core.types.message import ValueType
from emulator.core.types.packet import ack_bytes
from emulator.core.types.records import UNRECORDED, LinkRecord
from emulator.network.wire import WireFormat
from emulator.network.wire.sizes import random_mask_bits

NOT_RECORDED = "an older ledger does not record it"
UNCHANGED = "unchanged"
IN_PROPORTION = "repetitions in proportion"
NEGLIGIBLE = 1e-12
"""The probability below which a sum over rounds of tries ends."""


def list_alternatives(records: Sequence[LinkRecord], wire: WireFormat) -> list[Alternative]:
    """Return the alternatives to a run. wire: the section of its scenario."""
    return [
        *_recode_values(records, wire),
        *_recode_masks(records, wire),
        *_change_access(records),
        *_change_reliability(records),
    ]


def _total_bytes(records: Sequence[LinkRecord]) -> int:
    return sum(r.air_bytes + r.ack_bytes for r in records)


# ── another codec ────────────────────────────────────────────────────────────────────────────────


def _recode_values(records: Sequence[LinkRecord], wire: WireFormat) -> Iterator[Alternative]:
    used = Codec(wire.room_bytes, wire.number_type)
    for name in ("float32", "bfloat16", "float16", "int8"):
        label = f"values as {name}"
        scales = "a scale for each tensor in each packet; " if name == "int8" else ""
        if _is_unrecorded(records):
            yield Alternative(label, None, NOT_RECORDED)
        elif name == wire.value_type:
            yield Alternative(label, _total_bytes(records), UNCHANGED)
        elif not any(r.values for r in records):
            yield Alternative(label, _total_bytes(records), "no adapter values were sent")
        else:
            other = replace(used, value_type=ValueType[name.upper()])
            yield Alternative(
                label, _recoded_total_bytes(records, used, other), f"{scales}{IN_PROPORTION}"
            )


def _recode_masks(records: Sequence[LinkRecord], wire: WireFormat) -> Iterator[Alternative]:
    used = Codec(wire.room_bytes, wire.number_type)
    sent_entries = sum(r.mask_entries for r in records)
    lists = ("masks as COO int32", replace(used, masks="lists"), "4 bytes an entry")
    bitmaps = ("masks as bitmaps", replace(used, masks="bitmaps"), "a bit for each coordinate")
    for label, other, cost in (lists, bitmaps):
        if _is_unrecorded(records):
            yield Alternative(label, None, NOT_RECORDED)
        elif not sent_entries:
            yield Alternative(label, _total_bytes(records), "no mask was sent")
        elif other.masks == "bitmaps" and wire.mask_codec == "bitmap":
            yield Alternative(label, _total_bytes(records), UNCHANGED)
        else:
            yield Alternative(
                label, _recoded_total_bytes(records, used, other), f"{cost}; {IN_PROPORTION}"
            )
    label = "masks with every message"
    known = sum(r.known_entries for r in records)
    if _is_unrecorded(records):
        yield Alternative(label, None, NOT_RECORDED)
    elif not known:
        yield Alternative(label, _total_bytes(records), "no mask was known already")
    else:
        bits = random_mask_bits(known / sum(r.known_coordinates for r in records))
        source = "as in a random mask of that density"
        if sent_entries:
            bits = 8 * sum(r.mask_bytes for r in records) / sent_entries
            source = "as in the masks that were sent"
        other = replace(used, known_mask_bits=bits)
        assumes = (
            f"{bits:.2f} bits an entry, {source}; masks of the setup unchanged; {IN_PROPORTION}"
        )
        yield Alternative(label, _recoded_total_bytes(records, used, other), assumes)


def _is_unrecorded(records: Sequence[LinkRecord]) -> bool:
    return any(r.values == UNRECORDED for r in records)


def _recoded_total_bytes(records: Sequence[LinkRecord], used: Codec, other: Codec) -> int:
    return round(math.fsum(recoded_bytes(record, used, other) for record in records))


# ── another access ───────────────────────────────────────────────────────────────────────────────


def _change_access(records: Sequence[LinkRecord]) -> Iterator[Alternative]:
    broadcast = any(not r.on_air for r in records)
    label = "unicast: once for each receiver"
    if broadcast:
        total = sum(r.sent_bytes + r.ack_bytes for r in records)
        yield Alternative(label, total, "each repeated as often as the broadcast; an upper bound")
    else:
        yield Alternative(label, _total_bytes(records), UNCHANGED)
    label = "broadcast: once for all receivers of equal messages"
    if broadcast:
        yield Alternative(label, _total_bytes(records), UNCHANGED)
        return
    total = 0
    for alike in _group_equal_bursts(records):
        total += alike[0].sent_bytes - alike[0].retransmitted_bytes
        total += max(r.retransmitted_bytes for r in alike)
        total += len(alike) * max(r.ack_bytes for r in alike)
    assumes = "messages with equal bytes of each class count as equal; repeated as for the worst; a lower bound"
    yield Alternative(label, total, assumes)


def _group_equal_bursts(records: Sequence[LinkRecord]) -> list[list[LinkRecord]]:
    """Group the bursts of one sender in one exchange that have equal bytes of every class and equal counts.

    Relayed bursts are equal only if they have the same origin and hop.
    """
    groups: dict[tuple[int, ...], list[LinkRecord]] = {}
    for r in records:
        of_burst = (r.exchange_index, r.sender, r.messages, r.packets, r.reliable_packets)
        of_way = (r.origin, r.hop)
        of_bytes = (r.header_bytes, r.checksum_bytes, r.mask_bytes, r.payload_bytes)
        counts = (r.values, r.mask_entries, r.known_entries)
        groups.setdefault((*of_burst, *of_way, *of_bytes, *counts), []).append(r)
    return list(groups.values())


# ── other reliability ────────────────────────────────────────────────────────────────────────────


def _change_reliability(records: Sequence[LinkRecord]) -> Iterator[Alternative]:
    if any(r.retransmitted_bytes and not r.on_air for r in records):
        return  # repeated broadcasts: no record counts the repeats that a receiver did not need
    loss_of = _loss_by_link(records)
    attempts = sum(r.attempts for r in records)
    lost = sum(_tries_lost(r) for r in records) / attempts if attempts else 0.0
    once = sum(r.air_bytes - r.retransmitted_bytes for r in records if r.on_air)
    seen = f"{100 * lost:.2f} % of tries"
    yield Alternative("everything once", once, f"no acknowledgements; {seen} lost, as in the run")
    label = "everything until it arrives"
    if any(loss == 1.0 for loss in loss_of.values()):
        yield Alternative(label, None, "some link delivered nothing at all")
        return
    broadcast = any(not r.on_air for r in records)
    groups = _group_equal_bursts(records) if broadcast else [[r] for r in records]
    total = math.fsum(_expected_bytes(group, loss_of) for group in groups)
    assumes = f"expected; tries lost independently, by link ({seen})"
    if any(r.packets_lost and not r.last_hop for r in records):
        assumes += "; a lower bound: later hops carry what reached them"
    yield Alternative(label, round(total), assumes)


def _tries_lost(record: LinkRecord) -> int:
    return record.attempts - (record.packets - record.packets_lost)


def _loss_by_link(records: Sequence[LinkRecord]) -> dict[tuple[int, int], float]:
    """The share of tries on each link (sender, receiver) that were lost."""
    tries: dict[tuple[int, int], int] = {}
    lost: dict[tuple[int, int], int] = {}
    for r in records:
        link = (r.sender, r.receiver)
        tries[link] = tries.get(link, 0) + r.attempts
        lost[link] = lost.get(link, 0) + _tries_lost(r)
    return {link: lost[link] / tries[link] if tries[link] else 0.0 for link in tries}


def _expected_bytes(group: Sequence[LinkRecord], loss_of: Mapping[tuple[int, int], float]) -> float:
    """Expected bytes if all packets of a transmission are repeated until each receiver has them.

    Packets that were not sent because of a deadline count with the mean size of their burst.
    """
    losses = tuple(sorted(loss_of[r.sender, r.receiver] for r in group))
    total = 0.0
    for r in group:
        if r.on_air and r.packets:
            once = (r.sent_bytes - r.retransmitted_bytes) / (tried_share(r) or 1.0)
            total += once * _expected_rounds(losses, 1)
        total += ack_bytes(r.packets) * _expected_rounds(losses, r.packets)
    return total


@cache
def _expected_rounds(losses: tuple[float, ...], packets: int) -> float:
    """Expected number of rounds of tries until every receiver has every packet.

    Σ_k≥0 1 - Π (1 - p^k)^packets, the product over the receivers with loss rates p. For one packet and
    one receiver it is 1 / (1 - p).
    """
    if not packets:
        return 0.0
    total, k, more = 0.0, 0, 1.0
    while more > NEGLIGIBLE:
        total += more
        k += 1
        more = 1.0 - math.prod((1.0 - loss**k) ** packets for loss in losses)
    return total
