"""No device transmits at rate 0: no airtime, no energy, and a limit of waiting."""

import sys
from pathlib import Path

import numpy as np
import pytest

from emulator.core.errors import EmulatorError
from emulator.core.types.packet import air_bytes
from emulator.core.types.transmission import Grant, Request
from emulator.core.units import linear_from_db, noise_w
from emulator.network.channel.access import OfdmaAccess, Slots, TdmaAccess
from emulator.network.channel.aloha import AlohaAccess
from emulator.network.channel.energy import FixedPower
from emulator.network.channel.fading import NoFading, RayleighFading
from emulator.network.channel.losses import BernoulliLoss, LogisticLoss, Lossless
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import NoPathLoss
from emulator.network.channel.rates import FixedRate, NrCqiRate

sys.path.append(str(Path(__file__).parents[4] / "support"))

from toy_air import BAND_HZ, PACKET_BITS, packets_of

BLOCK_S = 0.05


def _power_w(snr_db):
    """The power that gives a mean SNR over a gain of 1."""
    return linear_from_db(snr_db) * noise_w(BAND_HZ, 0.0)


def _air(devices=2, snr_db=-9.0, **fields):
    """Links of a low mean SNR under CQI: without a rate most of the time."""
    fields = {"fading": RayleighFading(coherence_s=BLOCK_S), "acks": "free"} | fields
    return Wireless(
        path_loss=NoPathLoss(),
        rate=NrCqiRate(),
        power=FixedPower(power_w=_power_w(snr_db)),
        circuit_power_w=1e-3,
        **fields,
    ).bind(devices, seed=1)


def _grant(channel, access, packets, receivers=(1,), start_s=0.013):
    request = Request(0, receivers, air_bytes(packets), start_s, 0)
    (grant,) = channel.set_powers(access.plan([request]), [request])
    return grant


def _usable(channel, grant, times_s):
    """Whether the link has a rate at times after the start of a grant."""
    rate = channel.model.rate
    blocks = ((grant.start_s + times_s) / BLOCK_S).astype(int) - int(grant.start_s / BLOCK_S)
    rates = [
        rate.bit_per_s(float(channel.signal.snr(grant, block).min()), BAND_HZ)
        for block in range(blocks.max() + 1)
    ]
    return np.array(rates)[blocks] > 0.0


def _own(grant, times_s):
    """Whether the sender's own time runs at times after the start of a grant, collisions included."""
    if grant.slots is None:
        return np.ones(times_s.shape, dtype=bool)
    step_s = times_s[1] - times_s[0]
    edges_s = grant.start_s + np.append(times_s - step_s / 2, times_s[-1] + step_s / 2)
    passed = [grant.slots.carrying_s(t) + grant.slots.in_vain_s(t) for t in edges_s.tolist()]
    return np.diff(passed) > 0.5 * step_s


ALL_IN_RANGE = ~np.eye(4, dtype=bool)
ACCESSES = {
    "ofdma": OfdmaAccess(bandwidth_hz=BAND_HZ),
    "broadcast": OfdmaAccess(bandwidth_hz=BAND_HZ, cast="broadcast"),
    "tdma": TdmaAccess(bandwidth_hz=BAND_HZ).bind(ALL_IN_RANGE, 0),
    "aloha": AlohaAccess(bandwidth_hz=BAND_HZ, send_probability=0.3).bind(ALL_IN_RANGE, 0),
}


@pytest.mark.parametrize("late", ["wait", "lose"])
@pytest.mark.parametrize("kind", ACCESSES)
def test_airtime_is_own_time_in_blocks_with_a_rate(kind, late):
    channel = _air(4, late=late, deadline_s=0.9)
    receivers = (1, 2) if kind == "broadcast" else (1,)
    packets = packets_of(4, size=272)
    grant = _grant(channel, ACCESSES[kind], packets, receivers)
    reception = channel.transmit(packets, grant)[0]
    lasts_s = reception.arrival_s - grant.start_s
    times_s = (np.arange(40_000) + 0.5) * lasts_s / 40_000
    usable, own = _usable(channel, grant, times_s), _own(grant, times_s)
    assert 0.05 < usable.mean() < 0.9
    on_air_s = (usable & own).mean() * lasts_s
    assert reception.airtime_s == pytest.approx(on_air_s, rel=5e-3)
    assert reception.airtime_s < 0.9 * own.mean() * lasts_s
    spent_j = (_power_w(-9.0) + 1e-3) * reception.airtime_s
    assert channel.energy_j(grant, reception) == pytest.approx(spent_j)


def test_what_a_steady_link_needs_on_the_air_it_needs_in_fades_of_the_same_rate():
    """Airtime is bits over the rates in use: waiting adds nothing to it."""
    channel, packets = _air(), packets_of(12)
    grant = Grant(0, (1,), 0.0, BAND_HZ, _power_w(-9.0), 0)
    (reception,) = channel.transmit(packets, grant)
    lowest_bit_per_s = 0.1523 * BAND_HZ
    assert reception.airtime_s <= 12 * PACKET_BITS / lowest_bit_per_s
    assert reception.arrival_s > 1.5 * reception.airtime_s


# ── an end to waiting ────────────────────────────────────────────────────────────────────────────


def _dead_from_s(channel, grant):
    """When the first wait of 1 s without a rate begins, after the start of a grant."""
    usable = _usable(channel, grant, (np.arange(4_000) + 0.5) * BLOCK_S)
    runs = np.flatnonzero(np.convolve(~usable, np.ones(21, dtype=int), mode="valid") == 21)
    return float(runs[0]) * BLOCK_S


@pytest.mark.parametrize("late", ["wait", "lose"])
def test_what_waits_too_long_is_lost(late):
    channel = _air(snr_db=-11.0, max_wait_s=1.0, late=late, deadline_s=1e3)
    grant = Grant(0, (1,), 0.0, BAND_HZ, _power_w(-11.0), 0)
    dead_s = _dead_from_s(channel, grant)
    packets = packets_of(20)
    (reception,) = channel.transmit(packets, grant)
    assert reception.late
    assert not reception.arrived.all()
    assert dead_s > 0.0
    assert reception.arrival_s == pytest.approx(dead_s + 1.0)
    assert reception.airtime_s < dead_s
    longer = _air(snr_db=-11.0, max_wait_s=1e4, late=late, deadline_s=1e3).transmit(packets, grant)
    assert longer[0].arrived.all()
    through = int(reception.arrived.sum())
    assert reception.arrived.tolist() == [True] * through + [False] * (20 - through)


@pytest.mark.parametrize(
    ("max_wait_s", "ends_s"), [(60.0, 2.0), (2.0, 2.0), (0.5, 0.5), (None, 2.0)]
)
@pytest.mark.parametrize("kind", ["ofdma", "broadcast", "tdma", "aloha"])
def test_packets_lost_at_rate_0_are_held_until_the_deadline_or_given_up_before(
    kind, max_wait_s, ends_s
):
    """On a link that carries nothing, no bit has been sent at 0 s."""
    dead = {"fading": NoFading(), "late": "lose", "deadline_s": 2.0, "max_wait_s": max_wait_s}
    channel, packets = _air(4, snr_db=-40.0, **dead), packets_of(3)
    receivers = (1, 2) if kind == "broadcast" else (1,)
    grant = _grant(channel, ACCESSES[kind], packets, receivers)
    for reception in channel.transmit(packets, grant):
        assert not reception.arrived.any()
        assert reception.attempts.tolist() == [0, 0, 0]
        assert reception.arrival_s - grant.start_s == pytest.approx(ends_s)
        assert (reception.late, reception.airtime_s) == (True, 0.0)
        assert channel.energy_j(grant, reception) == 0.0


def test_a_link_that_falls_silent_ends_its_transfer_at_the_deadline():
    """Packets that arrived before count, and the transfer does not end with their last bit."""
    channel, packets = _air(snr_db=-11.0, late="lose", deadline_s=1e3), packets_of(400, size=40)
    grant = Grant(0, (1,), 0.0, BAND_HZ, _power_w(-11.0), 0)
    dead_s = _dead_from_s(channel, grant)
    cut = _air(snr_db=-11.0, late="lose", deadline_s=dead_s + 0.6)
    (reception,) = cut.transmit(packets, grant)
    assert 0 < reception.arrived.sum() < 400
    assert reception.arrival_s == pytest.approx(dead_s + 0.6)
    assert reception.airtime_s < dead_s


@pytest.mark.parametrize("late", ["wait", "lose"])
@pytest.mark.parametrize("losses", [Lossless(), LogisticLoss()])
def test_a_reliable_packet_without_a_link_is_one_clear_line(late, losses):
    channel = _air(snr_db=-20.5, late=late, losses=losses)
    grant = Grant(0, (1,), 12.0, BAND_HZ, _power_w(-20.5), 7)
    wanted = (
        "link 0 -> 1, mean SNR -20.5 dB: no rate above 0 bit/s for 60 s (channel.max_wait_s) in "
        "exchange 7, for what must arrive; wanted a link in range: shorter, with more power or less "
        "noise, or not used by the topology, or a longer max_wait_s"
    )
    with pytest.raises(EmulatorError) as caught:
        channel.transmit(packets_of(3, reliable=(0,)), grant)
    assert str(caught.value) == wanted


def test_a_sender_without_max_wait_gives_up_if_the_rate_stays_0(monkeypatch):
    frozen = _air(fading=NoFading(), max_wait_s=None)
    grant = Grant(0, (1,), 0.0, BAND_HZ, _power_w(-9.0), 0)
    for reliable in [(), (0,)]:
        with pytest.raises(EmulatorError, match=r"mean SNR -9\.0 dB: no rate above 0 bit/s at all"):
            frozen.transmit(packets_of(1, reliable), grant)
    monkeypatch.setattr("emulator.network.channel.flow.MAX_BLOCKS", 500)
    with pytest.raises(
        EmulatorError, match=r"mean SNR -40\.0 dB: .* 500 coherence blocks of 0\.05"
    ):
        _air(max_wait_s=None).transmit(
            packets_of(1), Grant(0, (1,), 0.0, BAND_HZ, _power_w(-40.0), 0)
        )


def test_a_wait_that_has_an_end_may_have_any_number_of_blocks(monkeypatch):
    monkeypatch.setattr("emulator.network.channel.flow.MAX_BLOCKS", 5)
    silent = Grant(0, (1,), 0.0, BAND_HZ, _power_w(-40.0), 0)
    (reception,) = _air(snr_db=-40.0, max_wait_s=1.0).transmit(packets_of(2), silent)
    assert not reception.arrived.any()
    assert reception.arrival_s == 1.0


def test_round_trips_end_by_the_deadline_in_slots_with_collisions_too():
    """What is lost when late has its round trips before Γ, each of them once."""
    late = 0
    for exchange in range(40):
        channel = Wireless(
            path_loss=NoPathLoss(),
            fading=NoFading(),
            rate=FixedRate(link_bit_per_s=2e5),
            losses=BernoulliLoss(probability=0.4),
            power=FixedPower(power_w=0.1),
            late="lose",
            deadline_s=1.0,
            arq_max_tries=4,
        ).bind(4, seed=1)
        packets = packets_of(8)
        request = Request(0, (1,), air_bytes(packets), 0.0, exchange)
        (grant,) = channel.set_powers(ACCESSES["aloha"].plan([request]), [request])
        (reception,) = channel.transmit(packets, grant)
        assert reception.arrival_s <= 1.0 + 1e-9
        late += reception.late
    assert late > 10


def test_reliable_packets_after_lost_ones_need_the_link_too():
    channel = _air(fading=NoFading(), snr_db=-9.0)
    silent = Grant(0, (1,), 0.0, BAND_HZ, _power_w(-9.0), 0)
    (reception,) = channel.transmit(packets_of(2), silent)
    assert reception.attempts.tolist() == [0, 0]
    assert (reception.arrival_s, reception.airtime_s) == (60.0, 0.0)
    assert reception.late


def test_slots_of_others_are_no_wait():
    channel = _air(fading=NoFading(), snr_db=0.0, max_wait_s=1.0)
    grant = Grant(0, (1,), 0.5, BAND_HZ, _power_w(0.0), 0, Slots(0.0, 0.01, 30.0))
    packets = packets_of(1, size=40)
    (reception,) = channel.transmit(packets, grant)
    assert reception.arrived.all()
    assert reception.arrival_s > 30.0
