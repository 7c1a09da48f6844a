"""Exact times of a transfer over a changing rate."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from emulator.core.errors import EmulatorError
from emulator.network.channel.access import Slots
from emulator.network.channel.flow import MAX_BLOCKS, BlockFlow, Blocks


def test_transfer_at_a_constant_rate():
    bits = np.array([0.0, 50.0, 250.0])
    assert BlockFlow(lambda block: 100.0, Blocks(math.inf)).finish_times_s(bits).tolist() == [
        0.0,
        0.5,
        2.5,
    ]
    assert BlockFlow(lambda block: 100.0, Blocks(1.0)).finish_times_s(bits) == pytest.approx(
        [0.0, 0.5, 2.5]
    )
    assert BlockFlow(lambda block: 100.0, Blocks(1.0)).finish_times_s(np.zeros(0)).size == 0


def test_transfer_across_blocks():
    # 2 s each at 10, 0, 40 bit/s: 20 bits by 2 s, none until 4 s, then 40 bit/s.
    rates = [10.0, 0.0, 40.0]
    bits = np.array([5.0, 20.0, 20.0, 21.0, 100.0])
    assert BlockFlow(lambda block: rates[block], Blocks(2.0)).finish_times_s(bits).tolist() == [
        0.5, 2.0, 2.0, 4.025, 6.0,
    ]  # fmt: skip


def test_a_linearly_growing_rate_has_a_closed_form():
    # R = k+1 in block k of 1 s: n(n+1)/2 bits are through after n blocks.
    blocks = np.arange(1, 400)
    times = BlockFlow(lambda block: block + 1.0, Blocks(1.0)).finish_times_s(
        blocks * (blocks + 1) / 2.0
    )
    assert times == pytest.approx(blocks, rel=1e-12)


@given(
    st.lists(st.floats(0.0, 1e6), min_size=1, max_size=30),
    st.floats(1e-3, 10.0),
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=10),
)
def test_the_integral_of_the_rate_up_to_the_end_is_the_bits(rates, block_s, shares):
    assume(max(rates) > 1.0)
    whole = sum(rates) * block_s
    bits = np.sort(np.array(shares)) * whole * (1.0 - 1e-9)
    times = BlockFlow(lambda block: rates[block], Blocks(block_s)).finish_times_s(bits)
    assert np.all(np.diff(times) >= 0.0)
    padded = [*rates, 0.0]
    for end_s, wanted in zip(times, bits, strict=True):
        carried = BlockFlow(lambda block: padded[block], Blocks(block_s)).bits_within(float(end_s))
        assert carried == pytest.approx(wanted, rel=1e-9, abs=1e-9 * whole)


def test_a_link_that_carries_nothing_is_no_endless_loop():
    never = BlockFlow(lambda block: 0.0, Blocks(math.inf))
    assert never.finish_times_s(np.array([0.0, 1.0])).tolist() == [0.0, math.inf]
    assert (never.bits_within(math.inf), never.given_up_s(math.inf)) == (0.0, math.inf)
    with pytest.raises(EmulatorError, match="has lasted 1000000 coherence blocks"):
        BlockFlow(lambda block: 1e-9, Blocks(1e-3)).finish_times_s(np.array([1.0]))


def test_bits_within_counts_partial_blocks():
    assert (
        BlockFlow(lambda block: 10.0 * (block + 1), Blocks(1.0)).bits_within(2.5)
        == 10.0 + 20.0 + 15.0
    )
    assert BlockFlow(lambda block: 10.0, Blocks(math.inf)).bits_within(2.5) == 25.0


def test_block_ends_are_where_the_exact_times_have_them():
    rates = [10.0, 0.0, 40.0, 7.0]
    flow = BlockFlow(lambda block: rates[block % 4], Blocks(0.3))
    ends = [bits for bits, _ in zip(flow.bits_at_block_ends(), range(50), strict=False)]
    assert np.all(np.diff(ends) >= 0.0)
    assert flow.finish_times_s(np.array(ends[2:3])) == pytest.approx([0.9])
    assert ends == pytest.approx([flow.bits_within(0.3 * block) for block in range(1, 51)])


def test_block_ends_come_to_an_end():
    assert list(BlockFlow(lambda block: 5.0, Blocks(math.inf)).bits_at_block_ends()) == [math.inf]
    assert list(BlockFlow(lambda block: 0.0, Blocks(math.inf)).bits_at_block_ends()) == [0.0]
    with pytest.raises(EmulatorError, match=f"lasted {MAX_BLOCKS} coherence blocks of 1 s"):
        sum(BlockFlow(lambda block: 0.0, Blocks(1.0)).bits_at_block_ends())


# ── blocks of a run ──────────────────────────────────────────────────────────────────────────────


@given(st.floats(1e-3, 10.0), st.floats(0.0, 1e4), st.integers(1, 50))
def test_blocks_of_a_run_begin_at_the_same_times_for_all_transfers(block_s, start_s, block):
    blocks = Blocks.over_time(block_s, start_s)
    assert 0.0 < blocks.lasts_s(0) <= block_s
    begins_s = start_s + blocks.start_s(block)
    assert begins_s == pytest.approx((blocks.first + block) * block_s, rel=1e-9)
    assert blocks.at(blocks.start_s(block) + 0.5 * block_s) == block
    assert blocks.at(0.0) == 0


def test_a_transfer_that_starts_at_the_end_of_a_block_starts_in_the_next():
    late = 0.1 * 3  # 0.30000000000000004, and 0.3 // 0.1 is 2
    for start_s in (0.3, late):
        assert Blocks.over_time(0.1, start_s).first == 3
    assert Blocks.over_time(0.1, 0.25) == Blocks(0.1, 2, pytest.approx(0.05))
    assert Blocks.over_time(math.inf, 17.0) == Blocks(math.inf)


@given(
    st.lists(st.sampled_from([0.0, 3.0, 20.0]), min_size=1, max_size=30),
    st.floats(0.0, 20.0),
    st.floats(0.1, 100.0),
)
def test_a_transfer_that_starts_within_a_block_gets_the_rest_of_it(rates, start_s, bits):
    rates = [*rates, 7.0]

    def rate(block):
        return rates[block % len(rates)]

    blocks = Blocks.over_time(0.7, start_s)
    flow = BlockFlow(lambda block: rate(blocks.first + block), blocks, start_s=start_s)
    (end_s,) = flow.finish_times_s(np.array([bits]))
    edges_s = 0.7 * np.arange(math.floor(start_s / 0.7 + 1e-9), (start_s + end_s) / 0.7 + 2)
    spans_s = np.diff(np.clip(edges_s, start_s, start_s + end_s))
    first = round(edges_s[0] / 0.7)
    carried = [rate(first + k) * span_s for k, span_s in enumerate(spans_s)]
    assert sum(carried) == pytest.approx(bits, rel=1e-6)
    sending_s = sum(span_s for k, span_s in enumerate(spans_s) if rate(first + k) > 0.0)
    assert flow.airtime_s(end_s) == pytest.approx(sending_s, abs=1e-6)


# ── blocks without a rate ────────────────────────────────────────────────────────────────────────


def test_no_device_transmits_at_rate_0():
    rates = [10.0, 0.0, 0.0, 40.0]
    flow = BlockFlow(lambda block: rates[block % 4], Blocks(2.0))
    assert flow.finish_times_s(np.array([20.0, 60.0])).tolist() == [2.0, 7.0]
    assert [flow.airtime_s(t) for t in (0.0, 1.0, 2.0, 5.0, 7.0, 8.0)] == [0, 1, 2, 2, 3, 4]
    assert [flow.bit_per_s_at(t) for t in (0.0, 1.0, 5.0, 6.0, 6.5)] == [0, 10, 10, 10, 40]


def test_own_slots_in_blocks_of_rate_0_stay_empty():
    # Slots of 1 s in every 4; blocks of 2 s: one in two holds a slot.
    rates = [10.0, 0.0, 0.0, 0.0, 10.0, 0.0]
    flow = BlockFlow(lambda block: rates[block % 6], Blocks(2.0), Slots(0.0, 1.0, 4.0))
    (end_s,) = flow.finish_times_s(np.array([15.0]))
    assert end_s == 8.5
    assert flow.airtime_s(end_s) == 1.5


def test_a_sender_that_waits_too_long_gives_up():
    rates = [10.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 10.0]
    flow = BlockFlow(lambda block: rates[block % 8], Blocks(1.0), max_wait_s=2.5)
    assert flow.finish_times_s(np.array([5.0, 15.0, 25.0])).tolist() == [0.5, 3.5, math.inf]
    assert [flow.given_up_s(t) for t in (math.inf, 100.0, 6.5, 5.0, 0.2)] == [
        6.5,
        6.5,
        6.5,
        5.0,
        0.2,
    ]
    assert flow.bits_within(math.inf) == flow.bits_within(100.0) == 20.0
    assert list(flow.bits_at_block_ends())[-1] == 20.0
    assert flow.airtime_s(6.5) == 2.0
    longer = BlockFlow(lambda block: rates[block % 8], Blocks(1.0), max_wait_s=3.0)
    assert longer.finish_times_s(np.array([25.0])).tolist() == [7.5]


def test_waiting_for_a_turn_is_no_waiting_for_a_rate():
    turns = Slots(0.0, 1.0, 10.0)
    flow = BlockFlow(lambda block: 10.0, Blocks(1.0), turns, max_wait_s=2.0)
    assert flow.finish_times_s(np.array([35.0])).tolist() == [30.5]
    dead = BlockFlow(lambda block: float(block != 10), Blocks(1.0), turns, max_wait_s=2.0)
    assert dead.finish_times_s(np.array([0.5, 1.5])).tolist() == [0.5, math.inf]
    assert dead.given_up_s(math.inf) == 3.0
