"""Exact times of a transfer over a changing rate."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from emulator.channel.flow import MAX_BLOCKS, BlockFlow
from emulator.errors import EmulatorError


def test_transfer_at_a_constant_rate():
    bits = np.array([0.0, 50.0, 250.0])
    assert BlockFlow(lambda block: 100.0, math.inf).finish_times_s(bits).tolist() == [0.0, 0.5, 2.5]
    assert BlockFlow(lambda block: 100.0, 1.0).finish_times_s(bits) == pytest.approx(
        [0.0, 0.5, 2.5]
    )
    assert BlockFlow(lambda block: 100.0, 1.0).finish_times_s(np.zeros(0)).size == 0


def test_transfer_across_blocks():
    # 2 s each at 10, 0, 40 bit/s: 20 bits by 2 s, none until 4 s, then 40 bit/s.
    rates = [10.0, 0.0, 40.0]
    bits = np.array([5.0, 20.0, 20.0, 21.0, 100.0])
    assert BlockFlow(lambda block: rates[block], 2.0).finish_times_s(bits).tolist() == [
        0.5, 2.0, 2.0, 4.025, 6.0,
    ]  # fmt: skip


def test_a_linearly_growing_rate_has_a_closed_form():
    # R = k+1 in block k of 1 s: n(n+1)/2 bits are through after n blocks.
    blocks = np.arange(1, 400)
    times = BlockFlow(lambda block: block + 1.0, 1.0).finish_times_s(blocks * (blocks + 1) / 2.0)
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
    times = BlockFlow(lambda block: rates[block], block_s).finish_times_s(bits)
    assert np.all(np.diff(times) >= 0.0)
    padded = [*rates, 0.0]
    for end_s, wanted in zip(times, bits, strict=True):
        carried = BlockFlow(lambda block: padded[block], block_s).bits_within(float(end_s))
        assert carried == pytest.approx(wanted, rel=1e-9, abs=1e-9 * whole)


def test_a_link_that_carries_nothing_is_an_error_not_an_endless_loop():
    with pytest.raises(EmulatorError, match="does not carry"):
        BlockFlow(lambda block: 0.0, math.inf).finish_times_s(np.array([1.0]))
    with pytest.raises(EmulatorError, match="does not carry"):
        BlockFlow(lambda block: 1e-9, 1e-3).finish_times_s(np.array([1.0]))


def test_bits_within_counts_partial_blocks():
    assert BlockFlow(lambda block: 10.0 * (block + 1), 1.0).bits_within(2.5) == 10.0 + 20.0 + 15.0
    assert BlockFlow(lambda block: 10.0, math.inf).bits_within(2.5) == 25.0


def test_block_ends_are_where_the_exact_times_have_them():
    rates = [10.0, 0.0, 40.0, 7.0]
    flow = BlockFlow(lambda block: rates[block % 4], 0.3)
    ends = [bits for bits, _ in zip(flow.bits_at_block_ends(), range(50), strict=False)]
    assert np.all(np.diff(ends) >= 0.0)
    assert flow.finish_times_s(np.array(ends[2:3])) == pytest.approx([0.9])
    assert ends == pytest.approx([flow.bits_within(0.3 * block) for block in range(1, 51)])


def test_block_ends_come_to_an_end():
    assert list(BlockFlow(lambda block: 5.0, math.inf).bits_at_block_ends()) == [math.inf]
    assert list(BlockFlow(lambda block: 0.0, math.inf).bits_at_block_ends()) == [0.0]
    assert sum(1 for _ in BlockFlow(lambda block: 0.0, 1.0).bits_at_block_ends()) == MAX_BLOCKS
