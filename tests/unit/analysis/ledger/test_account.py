"""Sums over a ledger: the groups of every grouping add up to the total."""

import math
from dataclasses import fields

import pytest

from emulator.analysis.ledger.account import (
    GROUPINGS,
    Account,
    account_of,
    sum_by_device,
    sum_by_round,
    sum_by_traffic,
)

ACKED = {"ack_airtime_s": 0.25, "ack_energy_j": 0.025}


@pytest.fixture
def run(burst):
    """Two devices: a setup, a round with a loss and a repetition, a broadcast, a final exchange."""
    return [
        burst(0, 1, traffic="setup", round_index=-1, payload_bytes=16),
        burst(0, 1, lost_bytes=48, retransmitted_bytes=48, attempts=3, late=True, **ACKED),
        burst(1, 0, exchange_index=1, packets_lost=1, lost_bytes=248, bandwidth_hz=math.inf),
        burst(0, 1, exchange_index=2, round_index=1, bandwidth_hz=2e6),
        burst(0, 2, exchange_index=2, round_index=1, on_air=False, airtime_s=0.0, energy_j=0.0),
        burst(1, 0, exchange_index=3, round_index=2, traffic="inter_cluster", mask_bytes=40),
    ]


def test_sums_of_a_run(run):
    assert account_of(run) == Account(
        payload_bytes=816,
        mask_bytes=40,
        header_bytes=5 * 146,
        checksum_bytes=5 * 8,
        ack_bytes=6 * 49,
        retransmitted_bytes=48,
        delivered_bytes=170 + 4 * 354 + 394 - 248,
        lost_bytes=48 + 248,
        airtime_s=2.5 + 0.25,
        ack_airtime_s=0.25,
        hz_s=0.5e6 + 0.5e6 + 1e6 + 0.5e6 + 0.25e6,
        energy_j=pytest.approx(0.25 + 0.025),
        ack_energy_j=pytest.approx(0.025),
        bursts=6,
        late_bursts=1,
        packets=10,
        attempts=11,
        packets_lost=1,
    )
    assert account_of(run).total_bytes == 816 + 40 + 730 + 40 + 294 + 48


@pytest.mark.parametrize("by", GROUPINGS)
def test_groups_add_up_to_the_total(by, run):
    whole, parts = account_of(run), GROUPINGS[by](run)
    for field in fields(Account):
        total = math.fsum(getattr(part, field.name) for part in parts.values())
        assert total == pytest.approx(getattr(whole, field.name)), field.name


def test_kinds_of_traffic_are_in_the_order_of_a_run(run):
    assert list(sum_by_traffic(run)) == ["setup", "rounds", "final exchange"]
    assert list(sum_by_round(run)) == ["setup", "0", "1", "final exchange"]
    assert list(GROUPINGS["link"](run)) == ["0 -> 1", "0 -> 2", "1 -> 0"]


def test_a_device_sends_its_own_and_receives_the_others(run):
    devices = sum_by_device(run)
    assert list(devices) == ["0", "1", "2"]
    assert devices["2"].total_bytes == devices["2"].ack_bytes == 49
    assert devices["2"].delivered_bytes == 354
    assert devices["1"].retransmitted_bytes == 0
    assert devices["1"].lost_bytes == 48
    assert devices["0"].lost_bytes == 248
    assert (devices["1"].ack_airtime_s, devices["1"].ack_energy_j) == (0.25, 0.025)
    assert devices["1"].airtime_s == 2 * 0.5 + 0.25
    assert devices["0"].ack_airtime_s == devices["0"].ack_energy_j == 0.0
    assert devices["0"].energy_j == pytest.approx(3 * 0.05)


def test_no_burst_sums_up_to_zero():
    assert account_of([]).total_bytes == 0
    assert all(grouping([]) == {} for grouping in GROUPINGS.values())
