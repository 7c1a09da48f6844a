"""Retransmissions over a flow: the tries of packets, their times, and the effect of a deadline or a rate of 0.

Shapes: P packets of one transfer, in order.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from emulator.core.types.arrays import BoolArray, DoubleArray
from emulator.network.channel.flow import Flow
from emulator.network.channel.losses import Losses
from emulator.network.channel.transfer import Transfer, TransferOutcome

LATE_TOLERANCE = 1e-9
"""Relative tolerance of the deadline: least power meets it exactly, and rounding must not make it late."""

SAME_BITS = 1e-12
"""Relative tolerance of the bits of a flow: sums in another order may exceed it because of rounding."""


@dataclass(frozen=True, eq=False)
class Sent:
    """The result of a transfer. late: it did not end by the deadline.

    duration_s: until its last try ends, or until the sender gives up the packets that are lost; inf if
    the sender gave up before all reliable packets had been sent.
    """

    outcome: TransferOutcome
    duration_s: float
    late: bool


def send_and_wait(
    transfer: Transfer, losses: Losses, flow: Flow, deadline_s: float, reliable_P: BoolArray
) -> Sent:
    """Make all tries, for as long as they take; packets left when the sender gives up are lost."""
    outcome = losses.draw_outcome(transfer)
    ends_P = _ends_s(transfer, outcome, flow)
    duration_s = float(ends_P[-1]) if ends_P.size else 0.0
    if math.isfinite(duration_s):
        return Sent(outcome, duration_s, is_late(duration_s, deadline_s))
    cut_P = ~reliable_P & np.isposinf(ends_P)
    return _sent_but_for(cut_P, transfer, outcome, losses, flow, math.inf)


def send_or_lose(
    transfer: Transfer, losses: Losses, flow: Flow, deadline_s: float, reliable_P: BoolArray
) -> Sent:
    """Make tries until the deadline, which cuts the current try off; then send only reliable_P on.

    A try that is cut off delivers nothing. If the rate is 0, or another device has the slot, just before
    the deadline, the transfer still ends at the deadline, because until then the sender could have
    continued. Reliable packets after the cut leave earlier than without a deadline, and may meet other
    fading blocks, so their tries are repeated with the same draws.
    """
    budget_bits = flow.bits_within(deadline_s)
    hopeless_P = ~reliable_P & (np.cumsum(transfer.bits_P) - transfer.bits_P >= budget_bits)
    transfer = replace(transfer, limits_P=np.where(hopeless_P, 0, transfer.limits_P))
    outcome = losses.draw_outcome(transfer)
    ends_P = _ends_s(transfer, outcome, flow)
    duration_s = float(ends_P[-1]) if ends_P.size else 0.0
    if not is_late(duration_s, deadline_s) and not hopeless_P.any():
        return Sent(outcome, duration_s, late=False)
    cut_P = hopeless_P | ~reliable_P & (ends_P > deadline_s * (1.0 + LATE_TOLERANCE))
    return _sent_but_for(cut_P, transfer, outcome, losses, flow, deadline_s)


def is_late(time_s: float, deadline_s: float) -> bool:
    """Whether a time is after the deadline, rounding aside."""
    return time_s > deadline_s * (1.0 + LATE_TOLERANCE)


def _sent_but_for(
    cut_P: BoolArray,
    transfer: Transfer,
    outcome: TransferOutcome,
    losses: Losses,
    flow: Flow,
    due_s: float,
) -> Sent:
    """The result of a transfer whose packets cut_P are sent only until due_s.

    The sender keeps them until then, or until it gives up before.
    """
    budget_bits = flow.bits_within(due_s)
    sent_P = outcome.attempts * transfer.bits_P
    shorter = _cut_short(transfer, cut_P, sent_P, budget_bits)
    outcome = losses.draw_outcome(shorter)
    # A try that is cut off delivers nothing, but a try before it may have reached some of the receivers.
    whole_P = np.floor(shorter.room_P[cut_P] / shorter.bits_P[cut_P] + LATE_TOLERANCE)
    limits_P = shorter.limits_P.copy()
    limits_P[cut_P] = whole_P.astype(np.int64)
    in_time = losses.draw_outcome(replace(shorter, limits_P=limits_P)).arrived
    arrived = np.where(cut_P, in_time, outcome.arrived)
    total_bits = float(np.where(cut_P, shorter.room_P, outcome.attempts * transfer.bits_P).sum())
    if total_bits <= budget_bits * (1.0 + SAME_BITS):
        total_bits = min(total_bits, budget_bits)
    duration_s = float(flow.finish_times_s(np.array([total_bits]))[0])
    if cut_P.any():
        duration_s = max(duration_s, flow.given_up_s(due_s))
    return Sent(TransferOutcome(arrived, outcome.attempts), duration_s, late=True)


def _ends_s(transfer: Transfer, outcome: TransferOutcome, flow: Flow) -> DoubleArray:
    """When the last try of each packet ends [s], [P]."""
    return flow.finish_times_s(np.cumsum(outcome.attempts * transfer.bits_P))


def _cut_short(
    transfer: Transfer, cut_P: BoolArray, sent_P: DoubleArray, budget_bits: float
) -> Transfer:
    """The transfer with the packets cut_P limited to the bits that are sent by the deadline.

    All packets before the first of them were sent in full; nothing is left for those after it.
    """
    before_P = np.cumsum(sent_P) - sent_P
    room_P = np.where(cut_P, np.clip(budget_bits - before_P, 0.0, sent_P), np.inf)
    started_P = np.ceil(room_P[cut_P] / transfer.bits_P[cut_P] - LATE_TOLERANCE)
    limits_P = transfer.limits_P.copy()
    limits_P[cut_P] = started_P.astype(np.int64)
    return replace(transfer, limits_P=limits_P, room_P=room_P)
