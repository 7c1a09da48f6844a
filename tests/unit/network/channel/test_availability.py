"""Offline devices: transfers wait for both ends, deadlines do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from emulator.core.errors import ScenarioError
from emulator.core.types.packet import Packet
from emulator.core.types.transmission import Request
from emulator.network.channel.access import IdealAccess
from emulator.network.channel.availability import Offline, earliest_presence_s
from emulator.network.channel.energy import FixedPower
from emulator.network.channel.fading import NoFading
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import NoPathLoss
from emulator.network.channel.rates import FixedRate


def _away(device, from_s, to_s):
    return Offline(device=device, from_s=from_s, to_s=to_s)


def _channel(*offline, **fields):
    """1000 bit/s between three devices."""
    return Wireless(
        path_loss=NoPathLoss(),
        fading=NoFading(),
        rate=FixedRate(link_bit_per_s=1000.0),
        power=FixedPower(power_w=0.1),
        offline=offline,
        **fields,
    ).bind(3, seed=0)


def _sent(channel, packets, sender, receiver, start_s):
    """The reception of packets that are ready at a time."""
    request = Request(sender, (receiver,), 0, start_s, 0)
    grants = channel.set_powers(IdealAccess().plan([request]), [request])
    (reception,) = channel.transmit(packets, grants[0])
    return reception


def _packets(*reliable):
    """97 bytes each, with the headers of the air 125: a second."""
    return [Packet(bytes(97), 20, 4, 0, 73, each) for each in reliable]


def test_a_transfer_waits_for_both_ends_and_lasts_as_long_as_ever():
    channel = _channel(_away(1, 5.0, 8.0), _away(0, 7.0, 9.0), deadline_s=3.0)
    for start_s, arrival_s, late in [(3.0, 4.0, False), (4.5, 5.5, False), (6.0, 10.0, True)]:
        reception = _sent(channel, _packets(True), 0, 1, start_s)
        assert (reception.arrival_s, reception.airtime_s) == pytest.approx((arrival_s, 1.0))
        assert reception.late == late
    assert _sent(channel, _packets(True), 2, 0, 6.0).arrival_s == 7.0


def test_packets_late_because_a_device_was_offline_are_lost_like_others():
    channel = _channel(_away(1, 0.0, 4.5), deadline_s=6.0, late="lose")
    reception = _sent(channel, _packets(True, False, False), 0, 1, 0.0)
    assert reception.arrived.tolist() == [True, False, False]
    assert reception.arrival_s == pytest.approx(6.0)  # the second was cut half way
    gone = _channel(_away(1, 0.0, 60.0), deadline_s=6.0, late="lose")
    reception = _sent(gone, _packets(True, False), 0, 1, 0.0)
    assert reception.arrived.tolist() == [True, False]
    assert reception.attempts.tolist() == [1, 0]
    assert reception.arrival_s == pytest.approx(61.0)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20), st.integers(1, 9)), max_size=8),
    st.integers(0, 25),
)
def test_the_earliest_moment_at_which_all_are_there(absences, start):
    offline = [_away(device, from_s, from_s + lasts_s) for device, from_s, lasts_s in absences]

    def away(time_s):
        return any(o.device in (0, 1) and o.from_s <= time_s < o.to_s for o in offline)

    slow = next(time_s for time_s in range(start, 60) if not away(time_s))
    assert earliest_presence_s(offline, (0, 1), float(start)) == slow


def test_unknown_devices_and_times_that_run_backwards_are_refused():
    with pytest.raises(
        ScenarioError, match=r"channel\.offline: got devices \[3\], wanted some of 0"
    ):
        _channel(_away(3, 0.0, 1.0))
    with pytest.raises(ValidationError, match="to_s: got 1, wanted more than from_s = 2"):
        _away(0, 2.0, 1.0)
