"""What a change of codec, access or reliability would have cost a run: from its ledger, without a run.

Every alternative changes one thing and assumes that all else stayed as it was: who says what to whom,
and how often it took to arrive. Bytes are those of `bytes.total`: what is on the air, acknowledgements
included. Airtime and energy would change too, but a ledger does not know the gains of the links.
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

NOT_TOLD = "an older ledger does not tell"
AS_IT_WAS = "as it was"
ALIKE = "repetitions in proportion"
NEGLIGIBLE = 1e-12
"""Where a sum over ever less probable rounds of tries ends."""


def alternatives(records: Sequence[LinkRecord], wire: WireFormat) -> list[Alternative]:
    """All of them. `wire` is the section of the run's scenario."""
    return [
        *_of_values(records, wire),
        *_of_masks(records, wire),
        *_of_access(records),
        *_of_reliability(records),
    ]


def _total(records: Sequence[LinkRecord]) -> int:
    return sum(r.air_bytes + r.ack_bytes for r in records)


# ── another codec ────────────────────────────────────────────────────────────────────────────────


def _of_values(records: Sequence[LinkRecord], wire: WireFormat) -> Iterator[Alternative]:
    used = Codec(wire.room_bytes, wire.number_type)
    for name in ("float32", "bfloat16", "float16", "int8"):
        label = f"values as {name}"
        scales = "a scale for each tensor in each packet; " if name == "int8" else ""
        if _untold(records):
            yield Alternative(label, None, NOT_TOLD)
        elif name == wire.value_type:
            yield Alternative(label, _total(records), AS_IT_WAS)
        elif not any(r.values for r in records):
            yield Alternative(label, _total(records), "no adapter values were sent")
        else:
            other = replace(used, value_type=ValueType[name.upper()])
            yield Alternative(label, _recoded(records, used, other), f"{scales}{ALIKE}")


def _of_masks(records: Sequence[LinkRecord], wire: WireFormat) -> Iterator[Alternative]:
    used = Codec(wire.room_bytes, wire.number_type)
    travelled = sum(r.mask_entries for r in records)
    lists = ("masks as COO int32", replace(used, masks="lists"), "4 bytes an entry")
    bitmaps = ("masks as bitmaps", replace(used, masks="bitmaps"), "a bit for each coordinate")
    for label, other, cost in (lists, bitmaps):
        if _untold(records):
            yield Alternative(label, None, NOT_TOLD)
        elif not travelled:
            yield Alternative(label, _total(records), "no mask was on the air")
        elif other.masks == "bitmaps" and wire.mask_codec == "bitmap":
            yield Alternative(label, _total(records), AS_IT_WAS)
        else:
            yield Alternative(label, _recoded(records, used, other), f"{cost}; {ALIKE}")
    label = "masks with every message"
    known = sum(r.known_entries for r in records)
    if _untold(records):
        yield Alternative(label, None, NOT_TOLD)
    elif not known:
        yield Alternative(label, _total(records), "no mask was known already")
    else:
        bits = random_mask_bits(known / sum(r.known_coordinates for r in records))
        source = "as a random one of that density"
        if travelled:
            bits = 8 * sum(r.mask_bytes for r in records) / travelled
            source = "as those on the air"
        other = replace(used, known_mask_bits=bits)
        assumes = f"{bits:.2f} bits an entry, {source}; the setup's stay; {ALIKE}"
        yield Alternative(label, _recoded(records, used, other), assumes)


def _untold(records: Sequence[LinkRecord]) -> bool:
    return any(r.values == UNRECORDED for r in records)


def _recoded(records: Sequence[LinkRecord], used: Codec, other: Codec) -> int:
    return round(math.fsum(recoded_bytes(record, used, other) for record in records))


# ── another access ───────────────────────────────────────────────────────────────────────────────


def _of_access(records: Sequence[LinkRecord]) -> Iterator[Alternative]:
    broadcast = any(not r.on_air for r in records)
    label = "unicast: once for each receiver"
    if broadcast:
        total = sum(r.sent_bytes + r.ack_bytes for r in records)
        yield Alternative(label, total, "each repeated as often as now for all; at most")
    else:
        yield Alternative(label, _total(records), AS_IT_WAS)
    label = "broadcast: once for all told the same"
    if broadcast:
        yield Alternative(label, _total(records), AS_IT_WAS)
        return
    total = 0
    for alike in _told_the_same(records):
        total += alike[0].sent_bytes - alike[0].retransmitted_bytes
        total += max(r.retransmitted_bytes for r in alike)
        total += len(alike) * max(r.ack_bytes for r in alike)
    assumes = "equal bytes by class mean equal messages; repeated as for the worst; at least"
    yield Alternative(label, total, assumes)


def _told_the_same(records: Sequence[LinkRecord]) -> list[list[LinkRecord]]:
    """Bursts of one sender in one exchange with equal bytes of every class, and equal counts.

    Of what it passes on: those of one origin and hop.
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


def _of_reliability(records: Sequence[LinkRecord]) -> Iterator[Alternative]:
    if any(r.retransmitted_bytes and not r.on_air for r in records):
        return  # a broadcast was repeated: who had it already lost nothing, but nobody counted that
    loss_of = _loss_by_link(records)
    attempts = sum(r.attempts for r in records)
    lost = sum(_tries_lost(r) for r in records) / attempts if attempts else 0.0
    once = sum(r.air_bytes - r.retransmitted_bytes for r in records if r.on_air)
    seen = f"{100 * lost:.2f} % of tries"
    yield Alternative(
        "everything once", once, f"no acknowledgements; {seen} would be lost, as they were"
    )
    label = "everything until it arrives"
    if any(loss == 1.0 for loss in loss_of.values()):
        yield Alternative(label, None, "some link brought nothing over at all")
        return
    broadcast = any(not r.on_air for r in records)
    groups = _told_the_same(records) if broadcast else [[r] for r in records]
    total = math.fsum(_until_all_arrived(group, loss_of) for group in groups)
    assumes = f"expected; tries lost independently, by link ({seen})"
    if any(r.packets_lost and not r.last_hop for r in records):
        assumes += "; at least: later hops carry what reached them"
    yield Alternative(label, round(total), assumes)


def _tries_lost(record: LinkRecord) -> int:
    return record.attempts - (record.packets - record.packets_lost)


def _loss_by_link(records: Sequence[LinkRecord]) -> dict[tuple[int, int], float]:
    """The share of tries on each link that brought nothing."""
    tries: dict[tuple[int, int], int] = {}
    lost: dict[tuple[int, int], int] = {}
    for r in records:
        link = (r.sender, r.receiver)
        tries[link] = tries.get(link, 0) + r.attempts
        lost[link] = lost.get(link, 0) + _tries_lost(r)
    return {link: lost[link] / tries[link] if tries[link] else 0.0 for link in tries}


def _until_all_arrived(
    group: Sequence[LinkRecord], loss_of: Mapping[tuple[int, int], float]
) -> float:
    """Expected bytes if all packets of a transmission are repeated until each receiver has them.

    Packets that a deadline kept off the air are as large as the others of their burst.
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
    """E of the largest of `packets` tries needed by each receiver: Σ_k≥0 1 - Π (1 - p^k)^packets.

    One packet and one receiver: 1 / (1 - p).
    """
    if not packets:
        return 0.0
    total, k, more = 0.0, 0, 1.0
    while more > NEGLIGIBLE:
        total += more
        k += 1
        more = 1.0 - math.prod((1.0 - loss**k) ** packets for loss in losses)
    return total
