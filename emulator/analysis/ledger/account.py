"""A ledger summed up: bytes by class, airtime, spectrum, energy, packets; as a whole and by part.

Every burst belongs to one link, one round and one part of the life. A broadcast is on the air once,
and delivered or lost at each of its receivers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from emulator.core.types.records import LinkRecord

BYTE_CLASSES = ("payload", "mask", "header", "checksum", "ack", "retransmitted")
"""What the bytes on the air are made of."""

PARTS = {
    "setup": "setup",
    "in_cluster": "rounds",
    "inter_cluster": "final exchange",
    "control": "agreement on the end",
}
"""How a ledger names the parts of a life, and what they are called."""


@dataclass(frozen=True)
class Account:
    """Sums over bursts. delivered and lost are counted at every receiver, all else on the air once.

    hz_s: bandwidth times airtime [Hz·s], the endless band of ideal access counted as none. Airtime,
    spectrum and energy include acknowledgements, whose own parts are named so.
    attempts: transmissions of packets; packets: those that were to be sent.
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
        """All that was on the air."""
        total: int = sum(getattr(self, f"{name}_bytes") for name in BYTE_CLASSES)
        return total

    def as_json(self) -> dict[str, float]:
        """The sums by name, total_bytes first."""
        sums = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"total_bytes": self.total_bytes, **sums}


def account_of(records: Sequence[LinkRecord]) -> Account:
    """Sums over these bursts."""
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
    """Spectrum that a time on the air takes [Hz·s]; none of an endless band."""
    return record.bandwidth_hz * on_air_s if math.isfinite(record.bandwidth_hz) else 0.0


def by_traffic(records: Sequence[LinkRecord]) -> dict[str, Account]:
    """By part of the life, in the order of a life."""
    order = [*PARTS, *sorted({r.traffic for r in records} - PARTS.keys())]
    groups = _grouped(records, lambda r: (order.index(r.traffic),))
    return {PARTS.get(order[i], order[i]): account_of(of) for (i,), of in groups.items()}


def by_link(records: Sequence[LinkRecord]) -> dict[str, Account]:
    """By sender and receiver. What is on the air once for several stands at the first of them."""
    groups = _grouped(records, lambda r: (r.sender, r.receiver))
    return {f"{s} -> {r}": account_of(of) for (s, r), of in groups.items()}


def by_round(records: Sequence[LinkRecord]) -> dict[str, Account]:
    """By round, from the setup to the exchange after the last one."""
    accounts = {}
    for (index,), of_round in _grouped(records, lambda r: (r.round_index,)).items():
        parts = {r.traffic for r in of_round}
        name = PARTS.get(parts.pop(), "") if len(parts) == 1 else ""
        accounts[str(index) if name in ("", "rounds") else name] = account_of(of_round)
    return accounts


def by_device(records: Sequence[LinkRecord]) -> dict[str, Account]:
    """By device: what it put on the air, its acknowledgements with it, and what came or was lost to it.

    Bursts and packets are those of the sender; what is delivered and lost, the receiver's. Airtime,
    spectrum and energy are those of the device: of its own bursts, and of what it acknowledged. What a
    device passes on counts with what it sends itself, and on its way with what came.
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
    "link": by_link,
    "device": by_device,
    "round": by_round,
    "traffic": by_traffic,
}
"""What a ledger can be broken down by."""


def _grouped(
    records: Sequence[LinkRecord], key: Callable[[LinkRecord], tuple[int, ...]]
) -> dict[tuple[int, ...], list[LinkRecord]]:
    """Bursts by key, sorted by it."""
    groups: dict[tuple[int, ...], list[LinkRecord]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return dict(sorted(groups.items()))
