"""Packets over a flow: tries, the moment each of them ends, and what a deadline or a dead link cuts off.

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
"""Least power meets the deadline exactly, so rounding must not make it late."""

SAME_BITS = 1e-12
"""Bits that were added up in another order may exceed what a flow carries by so much."""


@dataclass(frozen=True, eq=False)
class Sent:
    """What became of a transfer. late: not over by the deadline.

    duration_s: until its last try ends, or until the sender gives up the packets that it loses; inf where
    the link was given up before all reliable packets were through.
    """

    outcome: TransferOutcome
    duration_s: float
    late: bool


def send_and_wait(
    transfer: Transfer, losses: Losses, flow: Flow, deadline_s: float, reliable_P: BoolArray
) -> Sent:
    """All tries, however long they take; what is not through when the link is given up is lost."""
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
    """Tries until the deadline; what is on the air then is cut off, and only reliable_P go on.

    Cut tries bring nothing. Where the rate is 0, or another device has the slot, until the deadline, the
    transfer ends there nevertheless: until then the sender might have gone on. The reliable ones after them leave earlier than without a deadline, so in
    other fades perhaps: their tries are made anew, with the same luck.
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
    """A transfer whose packets cut_P have no more than what flows until they are due.

    Their sender holds on to them until then, or until it gives up before.
    """
    budget_bits = flow.bits_within(due_s)
    sent_P = outcome.attempts * transfer.bits_P
    shorter = _cut_short(transfer, cut_P, sent_P, budget_bits)
    outcome = losses.draw_outcome(shorter)
    # A try that is cut brings nothing, but one before it may have reached some of several receivers.
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
    """When the last try of each packet ends [P]."""
    return flow.finish_times_s(np.cumsum(outcome.attempts * transfer.bits_P))


def _cut_short(
    transfer: Transfer, cut_P: BoolArray, sent_P: DoubleArray, budget_bits: float
) -> Transfer:
    """The transfer whose packets cut_P have no more than the bits that are through by the deadline.

    What precedes the first of them was sent in full; those after it find nothing left.
    """
    before_P = np.cumsum(sent_P) - sent_P
    room_P = np.where(cut_P, np.clip(budget_bits - before_P, 0.0, sent_P), np.inf)
    started_P = np.ceil(room_P[cut_P] / transfer.bits_P[cut_P] - LATE_TOLERANCE)
    limits_P = transfer.limits_P.copy()
    limits_P[cut_P] = started_P.astype(np.int64)
    return replace(transfer, limits_P=limits_P, room_P=room_P)
