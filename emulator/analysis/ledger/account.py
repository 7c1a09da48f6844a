"""Sums over a ledger: bytes by class, airtime, spectrum, energy and packets, in total and by group.

Every burst belongs to one link, one round and one kind of traffic. A broadcast is transmitted once,
and delivered or lost at each of its receivers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from emulator.core.types.records import LinkRecord

BYTE_CLASSES = ("payload", "mask", "header", "checksum", "ack", "retransmitted")
"""The classes of the bytes that are transmitted."""

PARTS = {
    "setup": "setup",
    "in_cluster": "rounds",
    "inter_cluster": "final exchange",
    "control": "agreement on the end",
}
"""The kinds of traffic as the ledger names them, and their labels in tables, in the order of a run."""


@dataclass(frozen=True)
class Account:
    """Sums over bursts.

    Delivered and lost bytes count at every receiver; all other sums count a transmission once. hz_s:
    bandwidth times airtime [Hz·s]; the infinite band of ideal access counts as 0. Airtime, spectrum and
    energy include acknowledgements; the fields `ack_...` hold their part. packets: all that were to be
    sent; attempts: the transmissions of packets.
    """

    payload_bytes: int
    mask_bytes: int
    header_bytes: int
    checksum_bytes: int
    ack_bytes: int
    retransmitted_bytes: int
    delivered_bytes: int
    lost_bytes: int
    airtime_s: float
    ack_airtime_s: float
    hz_s: float
    energy_j: float
    ack_energy_j: float
    bursts: int
    late_bursts: int
    packets: int
    attempts: int
    packets_lost: int

    @property
    def total_bytes(self) -> int:
        """All bytes that were transmitted."""
        total: int = sum(getattr(self, f"{name}_bytes") for name in BYTE_CLASSES)
        return total

    def as_json(self) -> dict[str, float]:
        """Return the sums by field name, total_bytes first."""
        sums = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"total_bytes": self.total_bytes, **sums}


def account_of(records: Sequence[LinkRecord]) -> Account:
    """Sum these bursts up."""
    aired = [r for r in records if r.on_air]
    return Account(
        payload_bytes=sum(r.payload_bytes for r in aired),
        mask_bytes=sum(r.mask_bytes for r in aired),
        header_bytes=sum(r.header_bytes for r in aired),
        checksum_bytes=sum(r.checksum_bytes for r in aired),
        ack_bytes=sum(r.ack_bytes for r in records),
        retransmitted_bytes=sum(r.retransmitted_bytes for r in aired),
        delivered_bytes=sum(r.delivered_bytes for r in records),
        lost_bytes=sum(r.lost_bytes for r in records),
        airtime_s=math.fsum(r.airtime_s + r.ack_airtime_s for r in records),
        ack_airtime_s=math.fsum(r.ack_airtime_s for r in records),
        hz_s=math.fsum(_hz_s(r, r.airtime_s + r.ack_airtime_s) for r in records),
        energy_j=math.fsum(r.energy_j + r.ack_energy_j for r in records),
        ack_energy_j=math.fsum(r.ack_energy_j for r in records),
        bursts=len(records),
        late_bursts=sum(r.late for r in records),
        packets=sum(r.packets for r in aired),
        attempts=sum(r.attempts for r in aired),
        packets_lost=sum(r.packets_lost for r in records),
    )


def _hz_s(record: LinkRecord, on_air_s: float) -> float:
    """Bandwidth times transmission time [Hz·s]; 0 on an infinite band."""
    return record.bandwidth_hz * on_air_s if math.isfinite(record.bandwidth_hz) else 0.0


def sum_by_traffic(records: Sequence[LinkRecord]) -> dict[str, Account]:
    """Sum bursts up by kind of traffic, in the order of a run."""
    order = [*PARTS, *sorted({r.traffic for r in records} - PARTS.keys())]
    groups = _group(records, lambda r: (order.index(r.traffic),))
    return {PARTS.get(order[i], order[i]): account_of(of) for (i,), of in groups.items()}


def sum_by_link(records: Sequence[LinkRecord]) -> dict[str, Account]:
    """Sum bursts up by sender and receiver. A broadcast counts at the first of its receivers."""
    groups = _group(records, lambda r: (r.sender, r.receiver))
    return {f"{s} -> {r}": account_of(of) for (s, r), of in groups.items()}


def sum_by_round(records: Sequence[LinkRecord]) -> dict[str, Account]:
    """Sum bursts up by round, from the setup to the exchange after the last round."""
    accounts = {}
    for (index,), of_round in _group(records, lambda r: (r.round_index,)).items():
        parts = {r.traffic for r in of_round}
        name = PARTS.get(parts.pop(), "") if len(parts) == 1 else ""
        accounts[str(index) if name in ("", "rounds") else name] = account_of(of_round)
    return accounts


def sum_by_device(records: Sequence[LinkRecord]) -> dict[str, Account]:
    """Sum bursts up by device: what it transmitted, and what it received or missed.

    Bursts and packets count for the sender; delivered and lost bytes count for the receiver. Airtime,
    spectrum and energy cover the transmissions of the device itself: its bursts and its
    acknowledgements. Messages that a device relays count as received and as transmitted.
    """
    devices = sorted({r.sender for r in records} | {r.receiver for r in records})
    accounts = {}
    for device in devices:
        own = [r for r in records if r.sender == device]
        others = [r for r in records if r.receiver == device]
        sent, received = account_of(own), account_of(others)
        accounts[str(device)] = replace(
            sent,
            airtime_s=sent.airtime_s - sent.ack_airtime_s + received.ack_airtime_s,
            ack_airtime_s=received.ack_airtime_s,
            hz_s=math.fsum(_hz_s(r, r.airtime_s) for r in own)
            + math.fsum(_hz_s(r, r.ack_airtime_s) for r in others),
            energy_j=sent.energy_j - sent.ack_energy_j + received.ack_energy_j,
            ack_energy_j=received.ack_energy_j,
            ack_bytes=received.ack_bytes,
            delivered_bytes=received.delivered_bytes,
            lost_bytes=received.lost_bytes,
            packets_lost=received.packets_lost,
        )
    return accounts


GROUPINGS: Mapping[str, Callable[[Sequence[LinkRecord]], dict[str, Account]]] = {
    "link": sum_by_link,
    "device": sum_by_device,
    "round": sum_by_round,
    "traffic": sum_by_traffic,
}
"""The groups into which a ledger can be split, by the value of --by."""


def _group(
    records: Sequence[LinkRecord], key: Callable[[LinkRecord], tuple[int, ...]]
) -> dict[tuple[int, ...], list[LinkRecord]]:
    """Group bursts by key, sorted by key."""
    groups: dict[tuple[int, ...], list[LinkRecord]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return dict(sorted(groups.items()))
