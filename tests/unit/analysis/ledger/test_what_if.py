"""What could have been: known answers from made-up bursts, and against what the shim does."""

import math
from dataclasses import fields

import numpy as np
import pytest

from emulator.analysis.ledger.what_if import list_alternatives
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import Kind, Known, Message, Traffic, ValueType
from emulator.core.types.records import UNRECORDED, LinkRecord
from emulator.core.types.steps import Send
from emulator.network.channel.access import IdealAccess
from emulator.network.channel.energy import FixedPower
from emulator.network.channel.fading import NoFading
from emulator.network.channel.losses import BernoulliLoss
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import NoPathLoss
from emulator.network.channel.rates import FixedRate
from emulator.network.shim import Shim
from emulator.network.wire import WireFormat

LAYOUT = AdapterLayout(("a", "b"), ((40, 50), (1000,)))
HEAD = 48  # of a packet on the air: 20 ours, 28 IPv4 and UDP
FIRST = 106  # a message header packet on the air


def what_if(records, **wire):
    """Total bytes by label."""
    return {a.label: a.total_bytes for a in list_alternatives(records, WireFormat(**wire))}


def emitted(*messages, probability=0.0, exchanges=1, wire=None, tries=1):
    """The bursts of device 0, over a lossy link."""
    channel = Wireless(
        path_loss=NoPathLoss(),
        fading=NoFading(),
        rate=FixedRate(link_bit_per_s=1e6),
        losses=BernoulliLoss(probability=probability),
        power=FixedPower(power_w=0.1),
        arq_max_tries=tries,
    ).bind(4, 7)
    shim = Shim(0, wire or WireFormat(), IdealAccess(), channel)
    send = Send(0.0, messages, (), Known())
    return [r for exchange in range(exchanges) for r in shim.emit(send, exchange)[1]]


def message(density=1.0, seed=0, **changes):
    """A message of device 0 about some coordinates of LAYOUT."""
    draws = np.random.default_rng(seed)
    mask = Mask.from_dense(draws.random(LAYOUT.size) < density)
    values_n = draws.standard_normal(mask.count).astype(np.float32)
    fields = {
        "kind": Kind.VALUES, "traffic": Traffic.IN_CLUSTER, "source": 0, "origin": 0,
        "round_index": 0, "receivers": (1, 2), "layout": LAYOUT, "mask": mask, "values": values_n,
        "value_type": ValueType.BFLOAT16, "mask_known": True, "reliable": False,
    } | changes  # fmt: skip
    return Message(**fields)


def spent(records):
    return sum(r.air_bytes + r.ack_bytes for r in records)


# ── values ───────────────────────────────────────────────────────────────────────────────────────


def test_values_by_hand(burst):
    got = what_if([burst()])
    assert got["values as bfloat16"] == got["values as float16"] == FIRST + HEAD + 200 + 49
    assert got["values as float32"] == FIRST + HEAD + 400 + 49
    assert got["values as int8"] == FIRST + HEAD + 2 + 4 + 100 + 49


def test_more_bytes_need_more_packets_by_hand(burst):
    got = what_if([burst(values=726, payload_bytes=1452)])
    assert got["values as float32"] == FIRST + 2 * HEAD + 2904 + 49
    assert got["values as int8"] == FIRST + HEAD + 2 + 4 + 726 + 49


def test_packets_follow_the_mtu(burst):
    records = [burst(values=100, payload_bytes=200)]
    assert what_if(records, mtu_bytes=256)["values as float32"] == FIRST + 2 * HEAD + 400 + 49


def test_repetitions_stay_in_proportion(burst):
    once = FIRST + HEAD + 200
    record = burst(retransmitted_bytes=once, lost_bytes=once, attempts=4, ack_bytes=98)
    assert what_if([record])["values as float32"] == 2 * (once + 200) + 98


def test_packets_that_a_deadline_kept_back_stay_unsent(burst):
    """Half of 726 values in two packets of one message left no time to try the second."""
    record = burst(values=1452, packets=3, packets_lost=1, payload_bytes=1452)
    once = FIRST + HEAD + 1452
    more = 2904 + 2 * HEAD
    assert what_if([record])["values as float32"] == round(once + 2 / 3 * more) + 49


def test_other_types_are_not_touched(burst):
    introduction = burst(values=0, value_messages=0, value_tensors=0)
    for label, total in what_if([introduction]).items():
        if label.startswith(("values", "masks")):
            assert total == FIRST + HEAD + 200 + 49


@pytest.mark.parametrize("used", ["float32", "bfloat16", "float16", "int8"])
@pytest.mark.parametrize("other", ["float32", "bfloat16", "float16", "int8"])
@pytest.mark.parametrize("density", [0.1, 1.0])
def test_values_are_those_of_the_shim_that_does_it(used, other, density):
    def sent_as(name):
        value_type = ValueType[name.upper()]
        reliable = message(density, 1, value_type=value_type, kind=Kind.EXPERT, reliable=True)
        statistics = message(kind=Kind.STATISTICS, value_type=ValueType.FLOAT32)
        wire = WireFormat(value_type=name)
        return [
            r
            for sent in (message(density, value_type=value_type), reliable, statistics)
            for r in emitted(sent, wire=wire)
        ]

    predicted = what_if(sent_as(used), value_type=used)[f"values as {other}"]
    assert predicted == spent(sent_as(other))


# ── masks ────────────────────────────────────────────────────────────────────────────────────────


def test_masks_by_hand(burst):
    """A mask of 100 of 800 coordinates in 60 bytes, and 100 values whose mask is known."""
    no_values = {"values": 0, "value_messages": 0, "value_tensors": 0, "payload_bytes": 0}
    mask = burst(mask_bytes=60, mask_entries=100, mask_coordinates=800, **no_values)
    values = burst(known_entries=100, known_coordinates=800)
    got = what_if([mask, values])
    rest = 2 * (FIRST + HEAD + 49) + 200
    assert got["masks as COO int32"] == rest + 400
    assert got["masks as bitmaps"] == rest + 100
    assert got["masks with every message"] == rest + 60 + 60
    assert what_if([mask, values], mask_codec="bitmap")["masks as bitmaps"] == rest + 60


def test_a_mask_that_was_not_sent_costs_what_a_random_one_would(burst):
    got = what_if([burst(known_entries=100, known_coordinates=200)])
    assert got["masks with every message"] == FIRST + HEAD + 200 + 49 + 200 // 8
    assert got["masks as COO int32"] == FIRST + HEAD + 200 + 49


@pytest.mark.parametrize("density", [0.05, 0.2])
@pytest.mark.parametrize("codec", ["smallest", "bitmap"])
def test_masks_are_those_of_the_shim_that_does_it(density, codec):
    def sent_with(mask_codec, *, mask_known=True):
        wire = WireFormat(mask_codec=mask_codec)
        mask = message(density, values=None, mask_known=False, kind=Kind.MASK, reliable=True)
        values = message(density, mask_known=mask_known)
        return [*emitted(mask, wire=wire), *emitted(values, wire=wire)]

    records = sent_with(codec)
    if codec == "smallest":
        bitmaps = what_if(records)["masks as bitmaps"]
        assert bitmaps == pytest.approx(spent(sent_with("bitmap")), rel=5e-3)
    every = what_if(records, mask_codec=codec)["masks with every message"]
    assert every == pytest.approx(spent(sent_with(codec, mask_known=False)), rel=5e-3)


def test_an_older_ledger_has_no_counts_of_values_and_masks(burst):
    columns = [f.name for f in fields(LinkRecord) if f.default == UNRECORDED]
    assert len(columns) == 12
    got = what_if([burst(**dict.fromkeys(columns, UNRECORDED))])
    for label, total in got.items():
        assert (total is None) == label.startswith(("values", "masks")), label


# ── access ───────────────────────────────────────────────────────────────────────────────────────


def test_a_broadcast_serves_all_receivers_of_equal_messages(burst):
    records = [burst(0, 1), burst(0, 2), burst(0, 3, payload_bytes=210), burst(1, 0)]
    got = what_if(records)
    once = FIRST + HEAD + 200
    assert got["unicast: once for each receiver"] == 4 * (once + 49) + 10
    assert got["broadcast: once for all receivers of equal messages"] == 3 * once + 10 + 4 * 49


def test_a_broadcast_repeats_as_for_the_worst(burst):
    worst = {"retransmitted_bytes": 248, "lost_bytes": 248, "attempts": 3, "ack_bytes": 98}
    got = what_if([burst(0, 1), burst(0, 2, **worst)])
    assert (
        got["broadcast: once for all receivers of equal messages"]
        == FIRST + HEAD + 200 + 248 + 2 * 98
    )


def test_unicast_is_once_for_each_receiver_of_a_broadcast(burst):
    got = what_if([burst(0, 1), burst(0, 2, on_air=False, airtime_s=0.0, energy_j=0.0)])
    once = FIRST + HEAD + 200
    assert got["broadcast: once for all receivers of equal messages"] == once + 2 * 49
    assert got["unicast: once for each receiver"] == 2 * (once + 49)


# ── reliability ──────────────────────────────────────────────────────────────────────────────────


def test_everything_once_has_neither_repetitions_nor_acknowledgements(burst):
    record = burst(retransmitted_bytes=106, lost_bytes=106, attempts=3, ack_bytes=98)
    assert what_if([record])["everything once"] == FIRST + HEAD + 200


def test_everything_until_it_arrives_by_hand(burst):
    """Half of all tries lost: twice the bytes; two packets need 8/3 rounds in the mean."""
    record = burst(packets_lost=1, lost_bytes=HEAD + 200)
    expected = 2 * (FIRST + HEAD + 200) + 8 / 3 * 49
    assert what_if([record])["everything until it arrives"] == round(expected)


def test_without_losses_only_acknowledgements_are_more():
    records = emitted(message(), message(0.5, 1))
    more = sum(math.ceil(r.packets / 8) - math.ceil(r.reliable_packets / 8) for r in records)
    assert what_if(records)["everything until it arrives"] == spent(records) + more


@pytest.mark.parametrize("tries", [1, 3])
def test_reliability_is_that_of_the_shim_that_does_it(tries):
    """60 bursts to each of two receivers; 5 % is some four standard deviations."""
    once = emitted(message(), probability=0.3, exchanges=60, tries=tries)
    reliable = emitted(message(reliable=True), probability=0.3, exchanges=60)
    predicted = what_if(once)["everything until it arrives"]
    assert predicted == pytest.approx(spent(reliable), rel=0.05)
    assert predicted == pytest.approx(what_if(reliable)["everything until it arrives"], rel=0.05)
    assert what_if(once)["everything once"] == what_if(reliable)["everything once"]


def test_a_link_that_delivers_nothing_has_no_expected_bytes(burst):
    dead = burst(packets_lost=2, lost_bytes=FIRST + HEAD + 200, delivered_bytes=0)
    assert what_if([dead])["everything until it arrives"] is None


def test_no_burst_costs_nothing_under_any_alternative():
    assert set(what_if([]).values()) == {0}
    assert {a.change_percent(0) for a in list_alternatives([], WireFormat())} == {None}
