"""Small lives for the drivers: each exchange moves bytes that depend on sender, receiver and index.

A life hashes everything that it receives, in order, so two runs agree only if every byte, arrival and order
agrees. Run as a script under a launcher, every device posts its fingerprint as one line on stdout.
"""

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from emulator.core.protocols.driver import Life
from emulator.core.types.message import Coordinate, Kind, Known, Received, Traffic
from emulator.core.types.records import LinkRecord, MetricRecord
from emulator.core.types.result import DeviceResult, Expert
from emulator.core.types.steps import Commit, Inbox, Send
from emulator.core.types.transmission import Burst
from emulator.runtime.drivers import many_processes, one_process
from emulator.runtime.drivers.lifecycle import LifeOutcome
from emulator.runtime.launchers import run_launched
from emulator.runtime.processes import ChildMain
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.peers import Timeouts

SIZES = (0, 1, 100, 65_504, 65_505, 70_000, 1_000_000)
EXCHANGES = 24

Graph = Callable[[int, int], tuple[int, ...]]
"""Who sends to a device in an exchange, sorted."""


def ring(devices: int) -> Graph:
    """Both neighbours."""
    return lambda device, _: tuple(
        sorted({(device - 1) % devices, (device + 1) % devices} - {device})
    )


def one_way(devices: int) -> Graph:
    """Only from the left."""
    return lambda device, _: ((device - 1) % devices,)


def complete(devices: int) -> Graph:
    """Return all devices."""
    return lambda device, _: tuple(d for d in range(devices) if d != device)


def changing(devices: int) -> Graph:
    """Another graph in every exchange; some devices neither send nor wait in some."""
    return lambda device, index: tuple(
        d for d in range(devices) if d != device and (d * 7 + device * 3 + index) % 3 == 0
    )


GRAPHS = {"ring": ring, "one_way": one_way, "complete": complete, "changing": changing}


@dataclass(frozen=True)
class ToyAir:
    """Sends to whoever waits for this device, by the graph."""

    device: int
    devices: int
    graph: Graph
    sizes: Sequence[int] = SIZES

    def emit(
        self, send: Send, exchange_index: int
    ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
        receivers = [d for d in range(self.devices) if self.device in self.graph(d, exchange_index)]
        bursts = tuple(
            Burst(
                self.device,
                receiver,
                exchange_index,
                send.now_s + (self.device * 5 + receiver + exchange_index) % 3 / 7,
                payload(self.device, receiver, exchange_index, self.sizes),
            )
            for receiver in receivers
        )
        return bursts, tuple(link_record(burst) for burst in bursts)

    def collect(self, send: Send, bursts: Sequence[Burst]) -> Inbox:
        return Inbox(tuple(received(burst) for burst in bursts), send.now_s + 0.1)


def payload(sender: int, receiver: int, index: int, sizes: Sequence[int]) -> bytes:
    size = sizes[(sender * 3 + receiver * 5 + index) % len(sizes)]
    seed = hashlib.blake2b(bytes((sender, receiver, index % 256)), digest_size=64).digest()
    return (seed * (size // 64 + 1))[:size]


def received(burst: Burst) -> Received:
    values = np.frombuffer(burst.data, dtype=np.uint8)
    status = np.full(values.size, Coordinate.RECEIVED, dtype=np.uint8)
    return Received(
        Kind.VALUES, Traffic.IN_CLUSTER, burst.sender, burst.sender, burst.exchange_index,
        burst.arrival_s, b"", values, status,
    )  # fmt: skip


def link_record(burst: Burst) -> LinkRecord:
    size = len(burst.data)
    return LinkRecord(
        exchange_index=burst.exchange_index, round_index=burst.exchange_index // 3,
        traffic="IN_CLUSTER", sender=burst.sender, receiver=burst.receiver, messages=1, packets=1,
        packets_lost=0, attempts=1, header_bytes=0, checksum_bytes=0, mask_bytes=0,
        payload_bytes=size, retransmitted_bytes=0, ack_bytes=0, lost_bytes=0, delivered_bytes=size,
        start_s=0.0, arrival_s=burst.arrival_s, airtime_s=0.1, bandwidth_hz=1.0, tx_power_w=1.0,
        energy_j=0.1, late=False,
    )  # fmt: skip


def live(device: int, graph: Graph, exchanges: int = EXCHANGES) -> Life:
    """Exchange, hash what was received, commit after every third exchange."""
    digest = hashlib.blake2b(digest_size=8)
    now_s = float(device)
    records: list[MetricRecord] = []
    for index in range(exchanges):
        inbox = yield Send(now_s, (), graph(device, index), Known())
        for message in inbox.received:
            digest.update(repr((message.source, message.arrival_s)).encode())
            digest.update(message.values.tobytes())
            now_s = max(now_s, message.arrival_s)
        if index % 3 == 2:
            value = float(int.from_bytes(digest.digest()[:6], "little"))
            record = MetricRecord(device, index // 3, "", "received", value)
            records.append(record)
            answer = yield Commit(index // 3, now_s, False, (record,), None)
            assert answer.received == ()
            assert answer.transmit_end_s == now_s
    return DeviceResult(
        device=device, own_expert=Expert("all", 1, 1.0, {}), experts=(), router={},
        records=tuple(records), links=(), clusters=(), emulated_s=now_s, compute_energy_j=0.0,
        train_cpu_s=0.0, rounds=1,
    )  # fmt: skip


def fingerprint(outcome: LifeOutcome) -> str:
    """Equal only for equal outcomes."""
    result = replace(outcome.result, router={}, experts=())
    text = repr((result.device, result.records, result.emulated_s, outcome.link_records))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def reference(devices: int, graph: Graph, exchanges: int = EXCHANGES) -> dict[int, str]:
    """The fingerprints of one_process."""
    outcomes = one_process.run_lives(
        {d: live(d, graph, exchanges) for d in range(devices)},
        {d: ToyAir(d, devices, graph) for d in range(devices)},
        lambda device, commit, records: None,
    )
    return {device: fingerprint(outcome) for device, outcome in outcomes.items()}


def child_main(graph: Graph, exchanges: int = EXCHANGES) -> ChildMain:
    """A device's run for the forked and the launched driver."""

    def main(transport: Transport, post: Callable[..., None]) -> None:
        air = ToyAir(transport.device, transport.devices, graph)

        def on_commit(device: int, commit: Commit, records: tuple[LinkRecord, ...]) -> None:
            post(commit.round_index, {"records": len(records)}, b"")

        outcome = many_processes.run_life(
            live(transport.device, graph, exchanges), air, transport, on_commit
        )
        sent = [0] * transport.devices
        for record in outcome.link_records:
            sent[record.receiver] += record.payload_bytes
        assert transport.data_bytes_to() == sent
        gathered = transport.gather(f"{transport.device}".encode() * (transport.device * 40_000))
        expected = [f"{d}".encode() * (d * 40_000) for d in range(transport.devices)]
        assert gathered == (expected if transport.device == 0 else [])
        post(exchanges // 3, {"fingerprint": fingerprint(outcome)}, b"blob" * 50_000)

    return main


if __name__ == "__main__":

    def on_message(device: int, header: dict[str, object], blob: bytes) -> None:
        if "fingerprint" in header:
            sys.stdout.write(f"device {device} {header['fingerprint']}\n")

    run_launched(child_main(GRAPHS[sys.argv[1]](int(sys.argv[2]))), on_message, Timeouts())
