"""The walk of tries through coherence blocks, against a walk that makes one try at a time."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.network.channel.losses import BernoulliLoss
from emulator.network.channel.transfer import (
    Block,
    Transfer,
    TransferOutcome,
    tries_needed,
    walk_blocks,
)


def _law(block, bits_W):
    """Any law over SNR and size will do."""
    return 1.0 - np.exp(-bits_W / block.snr_R[:, None])


def _block(snr, end_bits, receivers=1) -> Block:
    """Each receiver has a higher SNR than the one before."""
    return Block(snr * 1.5 ** np.arange(receivers), None, end_bits)


def _transfer(limits, bits, blocks, exchange_index=0, room=None, receivers=1) -> Transfer:
    return Transfer(
        seed=5,
        exchange_index=exchange_index,
        sender=0,
        receivers=tuple(range(1, 1 + receivers)),
        limits_P=np.array(limits, dtype=np.int64),
        bits_P=np.array(bits, dtype=np.float64),
        room_P=np.full(len(limits), np.inf) if room is None else np.array(room),
        blocks=lambda: iter(blocks),
    )


def _one_try_at_a_time(transfer, blocks, law, symmetry) -> TransferOutcome:
    luck_RP = np.exp(transfer.log_uniform(symmetry))
    arrived, attempts, now = [], [], 0.0
    for luck_R, limit, bits, room in zip(
        luck_RP.T, transfer.limits_P, transfer.bits_P, transfer.room_P, strict=True
    ):
        made, lost_R, start = 0, np.ones(len(transfer.receivers)), now
        while made < limit and not np.all(lost_R < luck_R):
            block = next(block for block in blocks if now < block.end_bits)
            lost_R = lost_R * law(block, np.array([bits]))[:, 0]
            made += 1
            now = min(now + bits, start + room)
        arrived.append(lost_R < luck_R)
        attempts.append(made)
    arrived_RP = np.array(arrived, dtype=bool).reshape(-1, len(transfer.receivers)).T
    return TransferOutcome(arrived_RP, np.array(attempts, dtype=np.int64))


block_lists = st.lists(
    st.tuples(st.integers(0, 6000).map(lambda half: half / 2), st.floats(1.0, 2000.0)),
    min_size=1,
    max_size=12,
)
packet_lists = st.lists(
    st.tuples(st.integers(0, 8), st.integers(1, 500), st.booleans()), max_size=30
)


@settings(max_examples=200, deadline=None)
@given(
    block_lists,
    packet_lists,
    st.integers(0, 10**6),
    st.integers(1, 3),
    st.sampled_from(["independent", "joint"]),
)
def test_the_walk_is_that_of_one_try_at_a_time(
    lengths, packets, exchange_index, receivers, symmetry
):
    ends = np.cumsum([bits for bits, _ in lengths]).tolist()
    blocks = [_block(snr, end, receivers) for end, (_, snr) in zip(ends, lengths, strict=True)]
    blocks.append(_block(700.0, math.inf, receivers))
    limits = [limit for limit, _, _ in packets]
    bits = [float(bits) for _, bits, _ in packets]
    room = [(limit - 0.5) * bits if cut and limit else math.inf for limit, bits, cut in packets]
    transfer = _transfer(limits, bits, blocks, exchange_index, room, receivers)
    quick = walk_blocks(transfer, _law, symmetry)
    slow = _one_try_at_a_time(transfer, blocks, _law, symmetry)
    assert np.array_equal(quick.arrived, slow.arrived)
    assert np.array_equal(quick.attempts, slow.attempts)


@given(st.integers(0, 60), st.integers(1, 5), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_a_constant_probability_is_the_geometric_law(count, tries, probability, exchange_index):
    blocks = [_block(1.0, 1000.0 * (1 + index)) for index in range(20)]
    blocks.append(_block(1.0, math.inf))
    transfer = _transfer([tries] * count, [300.0] * count, blocks, exchange_index)
    walked = walk_blocks(
        transfer, lambda block, bits_W: np.full((1, bits_W.size), probability), "independent"
    )
    geometric = BernoulliLoss(probability=probability).draw_outcome(transfer)
    assert np.array_equal(walked.arrived, geometric.arrived)
    assert np.array_equal(walked.attempts, geometric.attempts)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 4))
def test_the_fate_of_a_packet_does_not_depend_on_later_packets(few, more, tries):
    blocks = [_block(900.0 + 100.0 * (n % 7), 1500.0 * (n + 1)) for n in range(100)]
    blocks.append(_block(900.0, math.inf))
    short, long = (
        walk_blocks(_transfer([tries] * count, [400.0] * count, blocks), _law, "independent")
        for count in (few, few + more)
    )
    assert np.array_equal(short.arrived, long.arrived[:, :few])
    assert np.array_equal(short.attempts, long.attempts[:few])


def test_a_try_belongs_to_the_block_in_which_it_starts():
    def all_or_nothing(block, bits_W):
        return np.full((1, bits_W.size), float(block.snr_R[0] < 0.5))

    # The first block loses everything, the second nothing: the boundary itself is the second's.
    blocks = [_block(0.1, 250.0), _block(0.9, math.inf)]
    transfer = _transfer([9, 9, 9], [100.0] * 3, blocks)
    walked = walk_blocks(transfer, all_or_nothing, "independent")
    assert walked.attempts.tolist() == [4, 1, 1]  # tries at 0, 100, 200 are lost, at 300 not
    transfer = _transfer([9, 9, 9], [125.0] * 3, blocks)
    walked = walk_blocks(transfer, all_or_nothing, "independent")
    assert walked.attempts.tolist() == [3, 1, 1]


def test_tries_of_packets_without_a_block_fail():
    walked = walk_blocks(
        _transfer([2, 3, 4], [100.0] * 3, [_block(1e9, 150.0)]),
        lambda block, bits_W: bits_W[None] * 0,
        "independent",
    )
    assert walked.arrived.tolist() == [[True, True, False]]
    assert walked.attempts.tolist() == [1, 1, 4]


def test_tries_needed_is_the_first_try_whose_product_is_below_u():
    luck = np.array([1.0, 0.5, 0.25, 0.2, 1e-9])
    tries = tries_needed(np.log(luck), math.log(0.5))
    assert tries.tolist() == [1.0, 2.0, 3.0, 3.0, 30.0]
    assert tries_needed(np.log(luck), -math.inf).tolist() == [1.0] * 5
    assert tries_needed(np.log(luck), 0.0).tolist() == [math.inf] * 5
