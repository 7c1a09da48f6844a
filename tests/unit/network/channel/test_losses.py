"""Loss laws: each against its formula, its closed form or its distribution."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from emulator.core.units import linear_from_db, noise_w
from emulator.network.channel.cqi import THRESHOLD_DB
from emulator.network.channel.losses import (
    BernoulliLoss,
    GilbertElliottLoss,
    LogisticLoss,
    Lossless,
    OutageLoss,
)
from emulator.network.channel.transfer import Block, Transfer

LEAST_P = 1e-3
LARGEST_Z = stats.norm.ppf(1 - LEAST_P / 2)


def _block(*snr: float, threshold_db: float | None = None) -> Block:
    """One without end."""
    return Block(np.array(snr), threshold_db, math.inf)


ENDLESS = _block(1.0)


@pytest.fixture(scope="module")
def closed_forms(references):
    return references("closed_forms")


def _limits(count: int, tries: int) -> np.ndarray:
    return np.full(count, tries, dtype=np.int64)


def _transfer(limits, key=(1, 0, 0, 1), block=ENDLESS) -> Transfer:
    bits = np.full(limits.size, 12_000.0)
    return Transfer(
        *key[:3], (key[3],), limits, bits, np.full(limits.size, np.inf), lambda: iter([block])
    )


def _outcome(losses, limits, key=(1, 0, 0, 1), block=ENDLESS):
    return losses.draw_outcome(_transfer(limits, key, block))


def _both_ways(losses, limits, block=ENDLESS):
    forth, back = ((1, 2, *ends) for ends in ((3, 4), (4, 3)))
    return _outcome(losses, limits, forth, block), _outcome(losses, limits, back, block)


# ── Bernoulli ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5, 0.9])
def test_bernoulli_loss_rate(probability):
    outcome = _outcome(BernoulliLoss(probability=probability), _limits(50_000, 1))
    lost = int(np.count_nonzero(~outcome.arrived))
    assert stats.binomtest(lost, 50_000, probability).pvalue > LEAST_P
    assert set(outcome.attempts) == {1}


def test_losses_of_successive_packets_are_independent():
    (lost,) = ~_outcome(BernoulliLoss(probability=0.3), _limits(50_000, 1)).arrived
    both = int(np.count_nonzero(lost[0::2] & lost[1::2]))
    assert stats.binomtest(both, 25_000, 0.09).pvalue > LEAST_P


def test_arq_attempts_and_residual_loss(closed_forms):
    count = 50_000
    for row in closed_forms["arq"]["rows"]:
        losses = BernoulliLoss(probability=row["p"])
        outcome = _outcome(losses, _limits(count, row["L"]), (5, 0, 0, 1))
        lost = int(np.count_nonzero(~outcome.arrived))
        assert stats.binomtest(lost, count, row["residual"]).pvalue > LEAST_P
        assert outcome.attempts.max() <= row["L"]
        error = max(outcome.attempts.std(), 1e-3) / math.sqrt(count)
        assert abs(outcome.attempts.mean() - row["E_tx"]) < 3.3 * error


def test_repeating_until_delivered_takes_one_over_one_minus_p():
    count, probability = 50_000, 0.2
    outcome = _outcome(BernoulliLoss(probability=probability), _limits(count, 1000), (9, 0, 0, 1))
    assert outcome.arrived.all()
    error = math.sqrt(probability) / (1 - probability) / math.sqrt(count)
    assert abs(outcome.attempts.mean() - 1 / (1 - probability)) < 3.3 * error


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 4), st.floats(0, 0.99))
def test_the_fate_of_a_packet_does_not_depend_on_later_packets(few, more, tries, probability):
    losses = BernoulliLoss(probability=probability)
    short = _outcome(losses, _limits(few, tries), (1, 2, 3, 4))
    long = _outcome(losses, _limits(few + more, tries), (1, 2, 3, 4))
    assert np.array_equal(short.arrived, long.arrived[:, :few])
    assert np.array_equal(short.attempts, long.attempts[:few])


def test_joint_losses_are_equal_in_both_directions_and_independent_ones_are_not():
    limits = _limits(300, 1)
    joint = BernoulliLoss(probability=0.3, symmetry="joint")
    forth, back = _both_ways(joint, limits)
    assert np.array_equal(forth.arrived, back.arrived)
    apart = BernoulliLoss(probability=0.3)
    forth, back = _both_ways(apart, limits)
    assert not np.array_equal(forth.arrived, back.arrived)


@pytest.mark.parametrize("losses", [Lossless(), BernoulliLoss(probability=0.0)])
def test_without_loss_every_packet_arrives_at_once(losses):
    outcome = _outcome(losses, _limits(7, 3))
    assert outcome.arrived.all()
    assert outcome.attempts.tolist() == [1] * 7


def test_a_packet_without_a_try_is_not_sent():
    limits = np.array([0, 1, 0, 5], dtype=np.int64)
    for losses in (Lossless(), BernoulliLoss(probability=0.1), GilbertElliottLoss(p=0.1, r=0.9)):
        outcome = _outcome(losses, limits)
        assert outcome.attempts[[0, 2]].tolist() == [0, 0]
        assert outcome.arrived[0, [0, 2]].tolist() == [False, False]
        assert outcome.attempts[[1, 3]].min() >= 1


# ── Gilbert-Elliott ──────────────────────────────────────────────────────────────────────────────


def _chains(row, transfers: int, tries: int) -> np.ndarray:
    """Losses of independent transfers, one row of booleans each."""
    losses = GilbertElliottLoss(p=row["p"], r=row["r"], k=1.0 - row["1-k"], h=1.0 - row["1-h"])
    return np.array(
        [
            ~_outcome(losses, _limits(tries, 1), (3, exchange, 0, 1)).arrived[0]
            for exchange in range(transfers)
        ]
    )


def test_gilbert_elliott_loss_rate_and_covariance(closed_forms):
    # Rows are independent, tries within a row are not: the spread of the rows is the error bar.
    for row in closed_forms["gilbert_elliott"]["rows"]:
        lost = _chains(row, transfers=200, tries=1000)
        error = math.sqrt(row["var_rate_per_packet_limit"] / lost.size)
        assert abs(lost.mean() - row["loss"]) < LARGEST_Z * error
        centred = lost - row["loss"]
        covariances = (centred[:, 1:] * centred[:, :-1]).mean(axis=1)
        error = covariances.std() / math.sqrt(covariances.size)
        assert abs(covariances.mean() - row["acov_lag1"]) < LARGEST_Z * error


def test_gilbert_elliott_starts_stationary(closed_forms):
    for row in closed_forms["gilbert_elliott"]["rows"][:2]:
        lost = int(_chains(row, transfers=4000, tries=1).sum())
        assert stats.binomtest(lost, 4000, row["loss"]).pvalue > LEAST_P


def test_gilbert_bursts_are_geometric(closed_forms):
    for row in closed_forms["gilbert_elliott"]["rows"]:
        if row["mean_loss_burst_simple_gilbert"] is None:
            continue
        lost = _chains(row, transfers=1, tries=200_000)[0].astype(np.int8)
        edges = np.diff(lost, prepend=0, append=0)
        bursts = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
        error = math.sqrt(1 - row["r"]) / row["r"] / math.sqrt(bursts.size)
        assert abs(bursts.mean() - row["mean_loss_burst_simple_gilbert"]) < LARGEST_Z * error


@given(
    st.lists(st.integers(0, 6), max_size=40),
    st.integers(0, 9),
    st.floats(0.05, 1.0),
    st.integers(1, 3),
)
def test_packets_take_turns_on_the_tries_of_the_chains(limits, exchange_index, r, receivers):
    losses = GilbertElliottLoss(p=0.4, r=r, k=0.9, h=0.1)
    limits_P = np.array(limits, dtype=np.int64)
    transfer = _transfer(limits_P, (1, exchange_index, 0, 1))
    transfer = replace(transfer, receivers=tuple(range(1, 1 + receivers)))
    outcome = losses.draw_outcome(transfer)
    passed = iter(losses.successes(transfer, int(limits_P.sum())).T)
    for limit, arrived, attempts in zip(limits, outcome.arrived.T, outcome.attempts, strict=True):
        made, through = 0, np.zeros(receivers, dtype=bool)
        while made < limit and not through.all():
            made, through = made + 1, through | next(passed)
        assert (arrived.tolist(), attempts) == (through.tolist(), made)


@given(st.integers(1, 100), st.integers(0, 100), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_the_chain_does_not_depend_on_how_much_of_it_is_used(few, more, p, r):
    losses = GilbertElliottLoss(p=p, r=r, k=0.9, h=0.2)
    transfer = _transfer(_limits(1, 1))
    assert np.array_equal(
        losses.successes(transfer, few), losses.successes(transfer, few + more)[:, :few]
    )


@pytest.mark.parametrize(
    "losses",
    [
        BernoulliLoss(probability=0.4),
        GilbertElliottLoss(p=0.3, r=0.5),
        OutageLoss(threshold_db=0.0),
    ],
)
def test_a_packet_for_several_is_tried_until_the_last_of_them_has_it(losses):
    alone = _transfer(_limits(200, 1000))
    block = _block(1.0, 1.0)
    both = replace(alone, receivers=(1, 2), blocks=lambda: iter([block]))
    together = losses.draw_outcome(both)
    assert together.arrived.all()
    if isinstance(losses, GilbertElliottLoss):  # a chain goes on while the other still needs tries
        return
    each = [losses.draw_outcome(replace(alone, receivers=(r,))).attempts for r in (1, 2)]
    assert np.array_equal(together.attempts, np.maximum(*each))
    few = losses.draw_outcome(replace(both, limits_P=_limits(200, 2)))
    assert np.array_equal(few.arrived, np.array(each) <= 2)


def test_joint_chains_are_shared_by_both_directions():
    forth, back = _both_ways(GilbertElliottLoss(p=0.1, r=0.3, symmetry="joint"), _limits(300, 1))
    assert np.array_equal(forth.arrived, back.arrived)
    forth, back = _both_ways(GilbertElliottLoss(p=0.1, r=0.3), _limits(300, 1))
    assert not np.array_equal(forth.arrived, back.arrived)


def test_a_chain_that_always_alternates():
    losses = GilbertElliottLoss(p=1.0, r=1.0)
    (arrived,) = _outcome(losses, _limits(50, 1)).arrived
    assert np.all(arrived[1:] != arrived[:-1])


# ── outage ───────────────────────────────────────────────────────────────────────────────────────


def test_outage_probability_against_the_references(closed_forms):
    for row in closed_forms["chen_per"]["rows"]:
        # As in the references: a gain of d^-alpha.
        disturbance_w = row["I_W"] + noise_w(row["B_Hz"], 0.0)
        snr = row["P_W"] * row["d_m"] ** -row["alpha"] / disturbance_w
        losses = OutageLoss(threshold_db=10 * math.log10(row["m"]))
        (q,) = losses.loss_probability(_block(snr), np.ones(3))
        assert q == pytest.approx([row["q"]] * 3, abs=1e-10)


def test_outage_loses_that_share():
    block = _block(2.0)
    outcome = _outcome(OutageLoss(threshold_db=0.0), _limits(50_000, 1), block=block)
    lost = int(np.count_nonzero(~outcome.arrived))
    assert stats.binomtest(lost, 50_000, 1 - math.exp(-0.5)).pvalue > LEAST_P


def test_outage_with_arq(closed_forms):
    for row in closed_forms["arq"]["rows"]:
        if row["p"] != 0.3:
            continue
        block = _block(-1 / math.log(0.7))
        outcome = _outcome(OutageLoss(threshold_db=0.0), _limits(50_000, row["L"]), block=block)
        error = max(outcome.attempts.std(), 1e-3) / math.sqrt(50_000)
        assert abs(outcome.attempts.mean() - row["E_tx"]) < LARGEST_Z * error
        lost = int(np.count_nonzero(~outcome.arrived))
        assert stats.binomtest(lost, 50_000, row["residual"]).pvalue > LEAST_P


@pytest.mark.parametrize(
    ("kind", "threshold_db"), [(OutageLoss, -3.0), (LogisticLoss, 0.0)], ids=["outage", "logistic"]
)
def test_joint_draws_lose_the_same_packets_both_ways_at_equal_snr(kind, threshold_db):
    limits, block = _limits(300, 2), _block(1.0)
    joint, apart = (
        kind(threshold_db=threshold_db, symmetry=symmetry) for symmetry in ("joint", "independent")
    )
    forth, back = _both_ways(joint, limits, block)
    assert np.array_equal(forth.arrived, back.arrived)
    assert np.array_equal(forth.attempts, back.attempts)
    assert 0 < np.count_nonzero(forth.arrived) < 300
    alone = _both_ways(apart, limits, block)
    assert not np.array_equal(alone[0].arrived, alone[1].arrived)
    assert np.array_equal(
        alone[0].arrived, _outcome(kind(threshold_db=threshold_db), limits, (1, 2, 3, 4)).arrived
    )
    # The draws are the same: with more power, more of the same packets arrive.
    stronger = _outcome(joint, limits, (1, 2, 4, 3), _block(1.05))
    assert np.all(stronger.arrived >= forth.arrived)


def test_without_power_every_try_is_lost():
    dead = _block(0.0)
    for losses in (OutageLoss(threshold_db=0.0), LogisticLoss(threshold_db=0.0)):
        assert losses.loss_probability(dead, np.ones(2)).tolist() == [[1.0, 1.0]]
        outcome = _outcome(losses, _limits(5, 3), block=dead)
        assert not outcome.arrived.any()
        assert outcome.attempts.tolist() == [3] * 5


# ── logistic ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("threshold_db", [-8.0, 0.0, 19.8])
def test_one_code_block_in_ten_is_lost_at_the_threshold(threshold_db):
    block = _block(linear_from_db(threshold_db))
    losses = LogisticLoss(threshold_db=threshold_db)
    (q,) = losses.loss_probability(block, np.array([1024.0, 10_240.0, 8 * 1452.0]))
    # Ten independent blocks lose 65 %, a packet of 1452 bytes a little more.
    assert q[:2] == pytest.approx([0.1, 1 - 0.9**10])
    assert 0.65 < q[2] < 0.70


def test_the_threshold_of_a_cqi_comes_before_the_own_one():
    for threshold_db in THRESHOLD_DB:
        block = _block(linear_from_db(threshold_db), threshold_db=threshold_db)
        (q,) = LogisticLoss().loss_probability(block, np.array([1024.0]))
        assert q == pytest.approx([0.1])


@given(st.floats(-40, 40), st.floats(0, 10), st.floats(1.0, 20_000.0))
def test_logistic_losses_fall_with_snr_and_grow_with_size(snr_db, more_db, bits):
    losses = LogisticLoss(threshold_db=3.0, slope_per_db=2.0)
    bits_W = np.array([bits, 2.0 * bits])
    (low,) = losses.loss_probability(_block(linear_from_db(snr_db)), bits_W)
    (high,) = losses.loss_probability(_block(linear_from_db(snr_db + more_db)), bits_W)
    assert np.all((high <= low + 1e-12) & (low <= 1.0) & (high >= 0.0))
    assert low[0] <= low[1]
    if snr_db > 0.0:
        bler = 1 / (1 + 9 * math.exp(2.0 * (snr_db - 3.0)))
        assert low[0] == pytest.approx(1 - (1 - bler) ** (bits / 1024), rel=1e-6, abs=1e-12)


def test_the_slope_is_that_of_the_simulation(references):
    rows = [row for row in references("nr_cqi")["thresholds"]["rows"] if "points" in row]
    slopes = [math.log(9.0) / (row["snr_dB@0.1"] - row["snr_dB@0.5"]) for row in rows]
    assert min(slopes) < LogisticLoss().slope_per_db < max(slopes)
    assert LogisticLoss().slope_per_db == pytest.approx(np.median(slopes), rel=0.1)
