"""Packets over a flow: tries, the moment each of them ends, and what a deadline cuts off.

Shapes: P packets of one transfer, in order.
"""

from dataclasses import dataclass, replace

import numpy as np

from emulator.channel.flow import Flow
from emulator.channel.losses import Losses
from emulator.channel.transfer import Outcome, Transfer
from emulator.state import BoolArray, DoubleArray

LATE_TOLERANCE = 1e-9
"""Least power meets the deadline exactly, so rounding must not make it late."""


@dataclass(frozen=True, eq=False)
class Sent:
    """What became of a transfer. duration_s: until its last try ends; late: after the deadline."""

    outcome: Outcome
    duration_s: float
    late: bool


def send_and_wait(transfer: Transfer, losses: Losses, flow: Flow, deadline_s: float) -> Sent:
    """All tries, however long they take."""
    outcome = losses.outcome(transfer)
    ends_P = _ends_s(transfer, outcome, flow)
    duration_s = float(ends_P[-1]) if ends_P.size else 0.0
    return Sent(outcome, duration_s, duration_s > deadline_s * (1.0 + LATE_TOLERANCE))


def send_or_lose(
    transfer: Transfer, losses: Losses, flow: Flow, deadline_s: float, reliable_P: BoolArray
) -> Sent:
    """Tries until the deadline; what is on the air then is cut off, and only reliable_P go on.

    Cut tries bring nothing. The reliable ones after them leave earlier than without a deadline, so in
    other fades perhaps: their tries are made anew, with the same luck.
    """
    budget_bits = flow.bits_within(deadline_s)
    hopeless_P = ~reliable_P & (np.cumsum(transfer.bits_P) - transfer.bits_P >= budget_bits)
    transfer = replace(transfer, limits_P=np.where(hopeless_P, 0, transfer.limits_P))
    waited = send_and_wait(transfer, losses, flow, deadline_s)
    if not waited.late and not hopeless_P.any():
        return waited
    ends_P = _ends_s(transfer, waited.outcome, flow)
    cut_P = hopeless_P | ~reliable_P & (ends_P > deadline_s * (1.0 + LATE_TOLERANCE))
    sent_P = waited.outcome.attempts * transfer.bits_P
    shorter = _cut_short(transfer, cut_P, sent_P, budget_bits)
    outcome = losses.outcome(shorter)
    # A try that is cut brings nothing, but one before it may have reached some of several receivers.
    whole_P = np.floor(shorter.room_P[cut_P] / shorter.bits_P[cut_P] + LATE_TOLERANCE)
    limits_P = shorter.limits_P.copy()
    limits_P[cut_P] = whole_P.astype(np.int64)
    in_time = losses.outcome(replace(shorter, limits_P=limits_P)).arrived
    arrived = np.where(cut_P, in_time, outcome.arrived)
    total_bits = np.where(cut_P, shorter.room_P, outcome.attempts * transfer.bits_P).sum()
    duration_s = float(flow.finish_times_s(np.array([total_bits]))[0])
    return Sent(Outcome(arrived, outcome.attempts), duration_s, late=True)


def _ends_s(transfer: Transfer, outcome: Outcome, flow: Flow) -> DoubleArray:
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
