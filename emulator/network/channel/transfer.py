"""One transfer as input of the loss models, and the walk of its tries through the coherence blocks.

A broadcast try is one try for all receivers. Shapes: P packets of one transfer, in order; W of them, from
the one that is sent next; R receivers.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from emulator.core.rng import Stream, stream
from emulator.core.types.arrays import BoolArray, DoubleArray, IndexArray

Symmetry = Literal["independent", "joint"]


@dataclass(frozen=True)
class Block:
    """A coherence block: the SNR [R], and the bits of the transfer that have been sent at its end.

    threshold_db: the SNR at which one code block in ten is lost under the modulation and coding in use,
    if the rate law states it.
    """

    snr_R: DoubleArray
    threshold_db: float | None
    end_bits: float


@dataclass(frozen=True, eq=False)
class Transfer:
    """Packets sent back to back, each repeated until all receivers have it or it is given up.

    limits_P: largest number of tries of each packet (0: it is not sent). bits_P: bits of one try.
    room_P: largest number of bits of each packet on the air if a deadline cuts a try; otherwise inf.
    blocks(): the coherence blocks from the first one on. flow: see `core.types.transmission.Grant`;
    transfers of one link and exchange with different flows have independent draws.
    """

    seed: int
    exchange_index: int
    sender: int
    receivers: tuple[int, ...]
    limits_P: IndexArray
    bits_P: DoubleArray
    room_P: DoubleArray
    blocks: Callable[[], Iterator[Block]]
    flow: tuple[int, ...] = ()

    def draws(self, purpose: str, symmetry: Symmetry, receiver: int) -> Stream:
        """A random generator for one link of the transfer; with `joint` both directions get the same one."""
        ends = (self.sender, receiver)
        if symmetry == "joint":
            purpose, ends = f"joint_{purpose}", (min(ends), max(ends))
        return stream(self.seed, purpose, self.exchange_index, *ends, *self.flow)

    def log_uniform(self, symmetry: Symmetry) -> DoubleArray:
        """ln u [R, P], with one uniform u in (0, 1] for each packet, independent of the packets after it."""
        count = self.limits_P.size
        draws = [self.draws("loss", symmetry, receiver) for receiver in self.receivers]
        return np.log(1.0 - np.stack([each.random(count) for each in draws]))


@dataclass(frozen=True, eq=False)
class TransferOutcome:
    """The fate of the packets of one transfer.

    arrived [R, P] booleans; attempts [P]: tries made, between 1 and the limit (0 if the limit is 0).
    """

    arrived: BoolArray
    attempts: IndexArray

    @classmethod
    def of_needed(cls, needed_RP: DoubleArray, limits_P: IndexArray) -> "TransferOutcome":
        """The outcome if every packet is sent until the last receiver has it, or up to its limit.

        needed_RP: tries until each receiver has each packet.
        """
        attempts_P = np.minimum(needed_RP.max(axis=0, initial=0.0), limits_P)
        return cls(needed_RP <= limits_P, attempts_P.astype(np.int64))


def tries_needed(log_uniform: DoubleArray, log_loss: DoubleArray | float) -> DoubleArray:
    """The first try n with q^n < u, from ln u and ln q: 1 + floor(ln u / ln q); inf for q = 1.

    n has a geometric distribution, because P(n > k) = P(u <= q^k) = q^k.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        tries = 1.0 + np.floor(log_uniform / log_loss)
    return np.where(np.less(log_loss, 0.0), tries, np.inf)


LossLaw = Callable[[Block, DoubleArray], DoubleArray]
"""law(block, bits_W): the probability q [R, W] that one try of bits_W bits is lost in a block."""


def walk_blocks(transfer: Transfer, law: LossLaw, symmetry: Symmetry) -> TransferOutcome:
    """Make the tries one after the other; each is lost with the q of the block in which its first bit leaves.

    There is one u for each packet, which arrives at the first try n with q_1 ··· q_n < u. With `joint`
    both directions of a link have the same u, so they lose the same packets where they have the same q.
    If the blocks end too early, all tries of the remaining packets fail.
    """
    walk = _Walk(transfer, law, symmetry)
    for block in transfer.blocks():
        if walk.turn == transfer.limits_P.size:
            break
        if walk.now_bits < block.end_bits:
            walk.go_through(block)
    walk.attempts_P[walk.turn :] = transfer.limits_P[walk.turn :]
    return TransferOutcome(walk.arrived_RP, walk.attempts_P)


class _Walk:
    """The state of a walk: packet `turn` makes its next try after now_bits have been sent."""

    def __init__(self, transfer: Transfer, law: LossLaw, symmetry: Symmetry) -> None:
        self._transfer = transfer
        self._law = law
        self._log_uniform_RP = transfer.log_uniform(symmetry)
        last_try_P = transfer.room_P - (transfer.limits_P - 1) * transfer.bits_P
        least_P = np.minimum(transfer.bits_P, last_try_P) * (transfer.limits_P > 0)
        self._earliest_P = np.cumsum(least_P) - least_P
        self.attempts_P = np.zeros_like(transfer.limits_P)
        self.arrived_RP = np.zeros(self._log_uniform_RP.shape, dtype=np.bool_)
        self.turn = 0
        self.now_bits = 0.0

    def go_through(self, block: Block) -> None:
        """Make all tries that start in a block: packets that end in it, then one that continues after it."""
        within = self._find_starters(block)
        bits_W = self._transfer.bits_P[within]
        with np.errstate(divide="ignore"):
            log_loss_RW = np.log(self._law(block, bits_W))
        needed_RW = tries_needed(self._log_uniform_RP[:, within], log_loss_RW)
        needed_RW[self.arrived_RP[:, within]] = 0.0  # received in an earlier block
        left_W = self._transfer.limits_P[within] - self.attempts_P[within]
        tries_W = np.minimum(needed_RW.max(axis=0), left_W)
        room_W = self._transfer.room_P[within] - self.attempts_P[within] * bits_W
        ends_W = self.now_bits + np.cumsum(np.minimum(tries_W * bits_W, room_W))
        starts_W = np.concatenate([[self.now_bits], ends_W])
        last_try_W = starts_W[:-1] + np.maximum(tries_W - 1.0, 0.0) * bits_W
        decided = int(np.searchsorted(last_try_W, block.end_bits, side="left"))
        done = slice(self.turn, self.turn + decided)
        self.attempts_P[done] += tries_W[:decided].astype(np.int64)
        self.arrived_RP[:, done] |= (needed_RW <= left_W)[:, :decided]
        self.turn += decided
        self.now_bits = float(starts_W[decided])
        if decided < tries_W.size and self.now_bits < block.end_bits:
            self._fail_until_end(
                block, log_loss_RW[:, decided], needed_RW[:, decided], float(tries_W[decided])
            )

    def _find_starters(self, block: Block) -> slice:
        """The packets from `turn` on that can start in a block, if all before them need the fewest bits."""
        reach_bits = self._earliest_P[self.turn] + block.end_bits - self.now_bits
        return slice(self.turn, int(np.searchsorted(self._earliest_P, reach_bits, side="left")))

    def _fail_until_end(
        self, block: Block, log_loss_R: DoubleArray, needed_R: DoubleArray, tries: float
    ) -> None:
        """Make the failed tries of the current packet until the block ends: fewer than it needs."""
        bits = float(self._transfer.bits_P[self.turn])
        failed = min(math.ceil((block.end_bits - self.now_bits) / bits), int(tries) - 1)
        self.attempts_P[self.turn] += failed
        self.now_bits += failed * bits
        self.arrived_RP[:, self.turn] |= needed_R <= failed
        # ln u must stay at most 0 in spite of rounding, because these tries were not enough.
        left_R = self._log_uniform_RP[:, self.turn] - failed * log_loss_R
        self._log_uniform_RP[:, self.turn] = np.minimum(left_R, 0.0)
