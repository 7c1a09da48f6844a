"""A real run, every device on a host of its own: files, ledger, TCP and interfaces agree to the byte.

Four counts of the same bytes, from inside to outside: the ledger (what arrives on the emulated air), what
is given to torch.distributed, what the kernel counts on gloo's connections, what the interfaces count.
"""

import json
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "support")]

from network import ADDRESSES, STORE_PORT, Network, finish  # noqa: E402
from processes import LIMIT_S  # noqa: E402
from small import SCENARIO  # noqa: E402
from written import files_of  # noqa: E402

from emulator.core.records import read_ledger  # noqa: E402
from emulator.core.types.packet import IP_UDP_BYTES  # noqa: E402
from emulator.core.types.records import LinkRecord  # noqa: E402
from emulator.core.types.transmission import Burst  # noqa: E402
from emulator.runtime.transport.frames import HEADER_BYTES, build_frames  # noqa: E402
from emulator.runtime.transport.process_group import BURST_TAG, GATHER_TAG  # noqa: E402

pytestmark = [pytest.mark.hosts, pytest.mark.slow]

ROOT = HERE.parents[1]
DEVICES = len(ADDRESSES)
LINKS = sorted(permutations(range(DEVICES), 2))

# gloo: each message is announced and then sent, each receive is announced, by a header each; whoever
# makes a connection first sends its number.
GLOO_HEADER, GLOO_HELLO = 48, 8

# Ethernet 14, IPv4 20, TCP 20, and 12 of options (time stamps) or, in a SYN, 20; a reset has none.
SEGMENT, SYN, RESET = 66, 74, 54
SEGMENT_PAYLOAD = 1448
UNEXPLAINED = 1e-3
"""Share of an interface's bytes: room for what few segments add (selective acknowledgements, 12 B)."""


class Watched:
    """What a run on four hosts left behind: its folder, and what was counted beside it."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "hosts"
        self.ledger = read_ledger(self.out / "ledger.parquet")
        self.seen = [json.loads((folder / f"{d}.json").read_text()) for d in range(DEVICES)]

    def bursts(self, sender: int, receiver: int) -> list[LinkRecord]:
        return [r for r in self.ledger if (r.sender, r.receiver) == (sender, receiver)]

    def given(self, what: str, device: int, peer: int, tag: int) -> int:
        """What a device asked of torch.distributed, with a peer."""
        return self.seen[device][what].get(f"{tag}/{peer}", 0)

    def connections(self, device: int, peer: int) -> list[dict[str, Any]]:
        """TCP connections of a device to a peer on another host."""
        found = self.seen[device]["connections"]
        return [each for each in found if each["peer"][0] == ADDRESSES[peer]]

    def gloo(self, device: int, peer: int) -> dict[str, Any]:
        """The one that gloo made: none of the store's."""
        (one,) = [
            each
            for each in self.connections(device, peer)
            if STORE_PORT not in (each["local"][1], each["peer"][1])
        ]
        return one

    def was_called(self, device: int, connection: dict[str, Any]) -> bool:
        """Whether the other side made the connection."""
        return connection["local"][1] in self.seen[device]["listening"]

    def wire_bytes(self, sender: int, receiver: int) -> int:
        """Ethernet bytes from host to host, from what the sender's kernel counted of its connections.

        Segments of a connection are all it sent, but neither the SYN of who is called nor calls that
        no process answered: devices call the store before it is there.
        """
        total = 0
        for each in self.connections(sender, receiver):
            total += SEGMENT * each["segments_out"] + each["bytes_sent"]
            total += SYN if self.was_called(sender, each) else SYN - SEGMENT
        failed = {d: self.seen[d]["tcp"]["AttemptFails"] for d in (sender, receiver)}
        total += SYN * failed[sender] if receiver == 0 else 0
        return total + (RESET * failed[receiver] if sender == 0 else 0)


def data_bytes(burst: LinkRecord) -> int:
    """What of a burst arrived, in bytes that are really sent."""
    return burst.delivered_bytes - IP_UDP_BYTES * (burst.packets - burst.packets_lost)


def messages_of(burst: LinkRecord) -> int:
    """How many messages it is to torch.distributed."""
    return len(build_frames(Burst(burst.sender, burst.receiver, 0, 0.0, bytes(data_bytes(burst)))))


@pytest.fixture(scope="module")
def folder(network: Network, tmp_path_factory) -> Path:
    """The run on four hosts, in `hosts`; the same in one process, at the same time, in `one`."""
    place = tmp_path_factory.mktemp("hosts")
    scenario = place / "hosts.yaml"
    scenario.write_text(SCENARIO)
    order = ["run", str(scenario), "--quiet", "--out"]
    alone = subprocess.Popen(
        [sys.executable, "-m", "emulator", *order, str(place / "one"), "--driver", "one_process"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    try:
        rank = [sys.executable, str(HERE / "observed_rank.py"), str(place)]
        processes = network.launch([*rank, *order, str(place / "hosts")], network.hosts, place)
        finish(processes, timeout_s=LIMIT_S)
        _, complaint = alone.communicate(timeout=LIMIT_S)
        assert alone.returncode == 0, complaint
    finally:
        network.end_processes()
        alone.kill()
        alone.communicate()
    return place


@pytest.fixture(scope="module")
def run(folder: Path) -> Watched:
    return Watched(folder)


def test_four_hosts_write_the_files_of_one_process(folder: Path) -> None:
    assert files_of(folder / "hosts") == files_of(folder / "one")


def test_what_arrives_is_what_torch_distributed_carries(run: Watched) -> None:
    """By link: the surviving bytes of each burst behind one header, in frames; some were lost."""
    assert sum(burst.packets_lost for burst in run.ledger) > 0
    for sender, receiver in LINKS:
        bursts = run.bursts(sender, receiver)
        carried = run.given("bytes", sender, receiver, BURST_TAG)
        assert carried == sum(HEADER_BYTES + data_bytes(burst) for burst in bursts)
        messages = run.given("messages", sender, receiver, BURST_TAG)
        assert messages == sum(messages_of(burst) for burst in bursts) > len(bursts)


def test_tcp_carries_that_and_gloos_framing_and_nothing_else(run: Watched) -> None:
    """By connection and direction, to the byte: n + 96 a message, 48 a receive, 8 as a greeting."""
    delivered = {}
    for device, peer in LINKS:
        connection = run.gloo(device, peer)
        sent = connection["bytes_sent"] - connection["bytes_repeated"]
        assert sent == run.gloo(peer, device)["bytes_received"]
        tags = (BURST_TAG, GATHER_TAG)
        messages = sum(run.given("messages", device, peer, tag) for tag in tags)
        receives = sum(run.given("receives", device, peer, tag) for tag in tags)
        framing = GLOO_HEADER * (2 * messages + receives)
        if not run.was_called(device, connection):
            framing += GLOO_HELLO
        headers = HEADER_BYTES * len(run.bursts(device, peer))
        gathered = run.given("bytes", device, peer, GATHER_TAG)
        delivered[device, peer] = sent - framing - headers - gathered
    assert delivered == {
        link: sum(data_bytes(burst) for burst in run.bursts(*link)) for link in LINKS
    }


def test_a_receive_is_announced_for_every_message_and_for_few_others(run: Watched) -> None:
    """Receives posted ahead: at the end each device waits in vain for one more burst like the last."""
    for device, peer in LINKS:
        receives = run.given("receives", device, peer, BURST_TAG)
        vain = receives - run.given("messages", peer, device, BURST_TAG)
        assert 0 < vain <= max(messages_of(burst) for burst in run.bursts(peer, device))


def test_interfaces_count_what_segments_explain(run: Watched) -> None:
    """66 bytes a segment of at most 1448, acknowledgements and connections counted, within 0.1 %."""
    wire = {link: run.wire_bytes(*link) for link in LINKS}
    for device in range(DEVICES):
        peers = [peer for peer in range(DEVICES) if peer != device]
        counted = run.seen[device]["interface"]
        out = counted["bytes_out"] - sum(wire[device, peer] for peer in peers)
        into = counted["bytes_in"] - sum(wire[peer, device] for peer in peers)
        assert 0 <= out <= UNEXPLAINED * counted["bytes_out"]
        assert 0 <= into <= UNEXPLAINED * counted["bytes_in"]
        for peer in peers:
            connection = run.gloo(device, peer)
            assert connection["data_segments_out"] * SEGMENT_PAYLOAD >= connection["bytes_sent"]
