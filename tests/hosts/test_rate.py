"""A network of 20 Mbit/s and the paced clock at the rate of that network take the same time."""

import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))

from network import Network, Process, RefusedError, finish  # noqa: E402

from emulator.exchange.frames import FRAME_BYTES, HEADER_BYTES  # noqa: E402

pytestmark = pytest.mark.hosts

NETWORK_BIT_PER_S = 20e6
BUCKET_BYTES = 16 * 1024  # what tbf lets through at once
SEGMENT_BYTES, SEGMENT_OVERHEAD = 1448, 66  # Ethernet 14, IPv4 20, TCP with time stamps 32
PAYLOAD_BIT_PER_S = NETWORK_BIT_PER_S * SEGMENT_BYTES / (SEGMENT_BYTES + SEGMENT_OVERHEAD)

PACKETS, PACKET_DATA, PACKET_AIR = 2000, 1472, 1500
DATA_BYTES = PACKETS * PACKET_DATA
TRIES = 3

SLACK = 1.15
"""How much longer the best of all tries may take, for the machine may be busy; idle it is 1.01."""


@pytest.fixture(scope="module")
def took(network: Network, tmp_path_factory) -> dict[str, list[dict[str, float]]]:
    """All tries over the shaped network, and of the paced clock between two other hosts meanwhile."""
    command = [sys.executable, str(HERE / "one_burst.py"), str(PACKETS), str(TRIES)]
    link_bit_per_s = PAYLOAD_BIT_PER_S * PACKET_AIR / PACKET_DATA
    shaped, paced = network.hosts[:2], network.hosts[2:]
    try:
        for host in shaped:
            host.shape("20mbit")
    except RefusedError as reason:
        pytest.skip(f"no slow network on this machine: {reason}")
    try:
        started = {
            "network": network.launch(command, shaped, tmp_path_factory.mktemp("network")),
            "clock": network.launch(
                [*command, repr(link_bit_per_s)], paced, tmp_path_factory.mktemp("clock")
            ),
        }
        return {name: tries_of(pair) for name, pair in started.items()}
    finally:
        network.end_processes()
        for host in shaped:
            host.unshape()


def tries_of(pair: list[Process]) -> list[dict[str, float]]:
    """From the sender's start to the receiver's last byte."""
    sender, receiver = map(lines_of, finish(pair, timeout_s=300.0))
    assert len(sender) == len(receiver) == TRIES
    return [
        {"took_s": end["ended_s"] - start["began_s"], "emulated_s": start["emulated_s"]}
        for start, end in zip(sender, receiver, strict=True)
    ]


def lines_of(said: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def test_the_network_takes_what_its_rate_says(took) -> None:
    """Never less than its frames need, and hardly more than 19.1 Mbit/s of payload."""
    stream = DATA_BYTES + HEADER_BYTES + 96 * -(-DATA_BYTES // FRAME_BYTES)
    wire = stream + SEGMENT_OVERHEAD * -(-stream // SEGMENT_BYTES)
    least_s = 8 * (wire - BUCKET_BYTES) / NETWORK_BIT_PER_S
    times_s = [one["took_s"] for one in took["network"]]
    assert min(times_s) >= least_s
    assert min(times_s) <= SLACK * 8 * DATA_BYTES / PAYLOAD_BIT_PER_S


def test_the_paced_clock_takes_what_the_channel_says(took) -> None:
    """Never less than the emulated link, which is as fast as that network's payload."""
    said_s = 8 * DATA_BYTES / PAYLOAD_BIT_PER_S
    for one in took["clock"]:
        assert one["emulated_s"] == pytest.approx(said_s, rel=1e-9)
        assert one["took_s"] >= one["emulated_s"]
    assert min(one["took_s"] for one in took["clock"]) <= SLACK * said_s


def test_both_take_the_same_time(took) -> None:
    network_s, clock_s = (min(one["took_s"] for one in took[kind]) for kind in ("network", "clock"))
    assert clock_s == pytest.approx(network_s, rel=SLACK - 1.0)
