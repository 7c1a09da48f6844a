"""A band that several devices share: broadcasts, slots, and interference within a slot."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from emulator.core.types.packet import air_bytes
from emulator.core.types.transmission import Grant, Request
from emulator.core.units import linear_from_db, noise_w
from emulator.network.channel.access import OfdmaAccess, Slots, TdmaAccess
from emulator.network.channel.energy import FixedPower
from emulator.network.channel.fading import NoFading, RayleighFading
from emulator.network.channel.flow import Blocks
from emulator.network.channel.losses import BernoulliLoss
from emulator.network.channel.mobility import RandomWaypoint
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import NoPathLoss
from emulator.network.channel.placement import FixedPlacement

CONFIGS = Path(__file__).resolve().parents[4] / "configs/channels"

sys.path.append(str(Path(__file__).parents[4] / "support"))

from toy_air import BAND_HZ, GRANT, PACKET_BITS, packets_of, send_by_access, slow_link  # noqa: E402

# ── several receivers ────────────────────────────────────────────────────────────────────────────


def test_the_weakest_receiver_sets_rate_and_power_of_a_broadcast():
    placement = FixedPlacement(positions_m=((0.0, 0.0), (100.0, 0.0), (0.0, 200.0)))
    channel = Wireless(placement=placement, fading=NoFading(), max_power_w=10.0).bind(3, seed=0)
    packets = packets_of(4)
    requests = [Request(0, (1, 2), air_bytes(packets), 10.0, 0)]
    access = OfdmaAccess(bandwidth_hz=BAND_HZ, cast="broadcast")
    (both,) = channel.set_powers(access.plan(requests), requests)
    (far,) = send_by_access(channel, 0, (2,), packets)
    assert both.tx_power_w == far.tx_power_w
    near, further = channel.transmit(packets, both)
    assert near.arrival_s == further.arrival_s == pytest.approx(11.0)
    assert channel.signal.snr(both, 0) == pytest.approx(
        channel.signal.snr(far, 0)[0] * np.array([4.0, 1.0])
    )


def test_a_broadcast_repeats_a_reliable_packet_until_all_receivers_have_it():
    channel = slow_link(1e6, 3, losses=BernoulliLoss(probability=0.5))
    packets = packets_of(200, reliable=tuple(range(0, 200, 2)))
    grant = replace(GRANT, receivers=(1, 2))
    first, second = channel.transmit(packets, grant)
    each = [channel.transmit(packets, replace(GRANT, receivers=(r,)))[0] for r in (1, 2)]
    assert np.array_equal(first.attempts, second.attempts)
    assert np.array_equal(first.attempts, np.maximum(each[0].attempts, each[1].attempts))
    assert np.array_equal(first.arrived, each[0].arrived)
    assert np.array_equal(second.arrived, each[1].arrived)


# ── slots ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("late", ["wait", "lose"])
@pytest.mark.parametrize("fading", [NoFading(), RayleighFading(coherence_s=0.07)])
def test_slots_carry_the_integral_of_the_rate_inside_them(late, fading):
    channel = Wireless(
        path_loss=NoPathLoss(),
        fading=fading,
        power=FixedPower(power_w=1e-13),
        noise_figure_db=0.0,
        deadline_s=0.9,
        late=late,
    ).bind(2, seed=3)
    slots = Slots(0.013, 0.005, 0.05)
    grant = Grant(0, (1,), 10.02, BAND_HZ, 1e-16, 0, slots)
    packets = packets_of(1, size=40) * 3
    (reception,) = channel.transmit(packets, grant)
    step_s = 1e-6
    elapsed_s = (np.arange(4_000_000) + 0.5) * step_s
    on_air = ((10.02 + elapsed_s) % 0.05 >= 0.013) & ((10.02 + elapsed_s) % 0.05 < 0.018)
    within = Blocks.over_time(fading.block_s, 10.02)
    blocks = np.minimum((elapsed_s + within.gone_s) // fading.block_s, 100).astype(int)
    law = channel.model.rate
    rates = [
        law.bit_per_s(channel.signal.snr(grant, b)[0], BAND_HZ) for b in range(blocks.max() + 1)
    ]
    through = np.cumsum(on_air * np.array(rates)[blocks] * step_s)
    done_s = np.searchsorted(through, 8.0 * 3 * 68) * step_s
    if late == "lose" and done_s > 0.9:
        assert not reception.arrived.all()
        done_s = 0.9
    assert reception.arrival_s - 10.02 == pytest.approx(
        done_s, abs=0.005 if late == "lose" else 1e-5
    )
    on_air_s = on_air[elapsed_s < reception.arrival_s - 10.02].sum() * step_s
    assert reception.airtime_s == pytest.approx(on_air_s, abs=1e-5)
    assert reception.late == (reception.arrival_s - 10.02 > 0.9)


def test_in_slots_every_grant_may_have_all_the_power():
    channel = Wireless(max_power_w=0.1, fading=NoFading(), power=FixedPower(power_w=0.1)).bind(3, 0)
    schedule = TdmaAccess(bandwidth_hz=1e6).bind(np.ones((3, 3), dtype=bool), 0)
    requests = [Request(0, (r,), 1000, 0.0, 0) for r in (1, 2)]
    grants = channel.set_powers(schedule.plan(requests), requests)
    assert [grant.tx_power_w for grant in grants] == [0.1, 0.1]


def test_least_power_in_slots_delivers_within_the_deadline():
    channel = Wireless(max_power_w=10.0, fading=NoFading()).bind(4, seed=1)
    schedule = TdmaAccess(bandwidth_hz=1e6, slot_s=0.001).bind(np.ones((4, 4), dtype=bool), 0)
    packets = packets_of(4)
    requests = [Request(2, (0,), air_bytes(packets), 0.0, 0)]
    (grant,) = channel.set_powers(schedule.plan(requests), requests)
    (reception,) = channel.transmit(packets, grant)
    assert reception.arrival_s == pytest.approx(1.0, abs=0.004)
    assert reception.airtime_s == pytest.approx(0.25, rel=1e-6)
    needed = channel.at(0.0).required_power_w(air_bytes(packets), *schedule.share(1))
    assert grant.tx_power_w == pytest.approx(needed[2, 0])


@pytest.mark.parametrize("start_s", [0.0, 0.05, 0.0007, 2.3])
def test_least_power_counts_the_own_slots_that_are_left(start_s):
    channel = Wireless(max_power_w=10.0, fading=NoFading()).bind(64, seed=1)
    schedule = TdmaAccess(bandwidth_hz=5e6).bind(np.ones((64, 64), dtype=bool), 0)
    packets = packets_of(4)
    request = Request(40, (0,), air_bytes(packets), start_s, 0)
    (grant,) = channel.set_powers(schedule.plan([request]), [request])
    (reception,) = channel.transmit(packets, grant)
    assert not reception.late
    assert (
        reception.arrival_s - start_s > 1.0 - 0.65
    )  # in the last own slot: no more power than needed


def test_a_packet_received_before_the_deadline_stays_received_where_another_receiver_lacks_it():
    fields = {"losses": BernoulliLoss(probability=0.5), "arq_max_tries": 3, "late": "lose"}
    packets = packets_of(8)
    lost = 0
    for seed in range(60):
        channel = replace(slow_link(PACKET_BITS, 3, deadline_s=7.5, **fields), seed=seed)
        both = channel.transmit(packets, replace(GRANT, receivers=(1, 2)))
        luck = [channel.transmit(packets, replace(GRANT, receivers=(r,)))[0] for r in (1, 2)]
        ends = np.cumsum(np.maximum(luck[0].attempts, luck[1].attempts))
        cut = int(np.searchsorted(ends, 7.5))  # the packet that is on the air at the deadline
        tries = 7 - (ends[cut - 1] if cut else 0)
        for reception, alone in zip(both, luck, strict=True):
            if cut < 8 and alone.arrived[cut] and alone.attempts[cut] <= tries:
                assert reception.arrived[cut]
                lost += 1
    assert lost > 10


def test_a_whole_exchange_has_one_fade_even_where_devices_move():
    walking = Wireless(
        mobility=RandomWaypoint(min_speed_m_per_s=0.001, max_speed_m_per_s=0.002),
        fading=RayleighFading(coherence_s=None),
    ).bind(3, seed=1)
    grant = Grant(0, (1,), 0.0, 1e6, 0.1, 0)
    assert walking.signal.snr(grant, 5)[0] == pytest.approx(
        walking.signal.snr(grant, 0)[0], rel=1e-3
    )
    slow = replace(walking, model=Wireless(fading=RayleighFading(coherence_s=2.5)))
    first, *others, last = (slow.signal.snr(grant, block)[0] for block in range(4))
    assert others == pytest.approx([first, first], rel=1e-3)  # three blocks of a fade
    assert last != pytest.approx(first, rel=1e-2)


def test_packets_that_a_slow_link_cannot_send_in_time_are_lost_without_a_try():
    channel = Wireless(
        path_loss=NoPathLoss(),
        fading=RayleighFading(coherence_s=1e-3),
        power=FixedPower(power_w=0.1),
        late="lose",
    ).bind(2, seed=1)
    packets = packets_of(1500, reliable=(0,))
    (reception,) = channel.transmit(packets, Grant(0, (1,), 0.0, 1e3, 1e-16, 0))
    assert reception.arrived.sum() < 20
    assert reception.arrived[0]
    assert reception.attempts[100:].max() == 0


def test_range_is_that_of_the_power_a_device_uses():
    near = {"placement": FixedPlacement(positions_m=((0.0, 0.0), (500.0, 0.0)))}
    full = Wireless(power=FixedPower(power_w=0.2), **near).bind(2, seed=0)
    weak = Wireless(power=FixedPower(power_w=1e-9), **near).bind(2, seed=0)
    assert full.at(0.0).in_range(2e4, 1.0).any()
    assert not weak.at(0.0).in_range(2e4, 1.0).any()
    assert weak.max_power_w.tolist() == [1e-9, 1e-9]


def test_interferers_of_a_slot_take_the_success_from_rayleigh_links(references):
    for row in references("closed_forms")["rayleigh_sinr_success"]["rows"]:
        devices = 2 + len(row["I"])
        channel = Wireless(path_loss=NoPathLoss(), power=FixedPower(power_w=1.0), max_power_w=1.0)
        bound = channel.bind(devices, seed=4)
        gain = np.ones((devices, devices))
        gain[2:, 1] = row["I"]
        bound = replace(bound, gain_at_start=gain)
        others = tuple(range(2, devices))
        noise_hz = row["N"] / noise_w(1.0, 0.0)
        good = 0
        for exchange in range(4000):
            grant = Grant(
                0, (1,), float(exchange), noise_hz, row["S"], exchange, interferers=others
            )
            good += bool(bound.signal.snr(grant, 0)[0] > linear_from_db(row["theta_dB"]))
        assert stats.binomtest(good, 4000, row["p_success"]).pvalue > 1e-3
