"""One transfer as the losses see it, and the walk of its tries through the coherence blocks.

A try that is cast to several receivers is one try for all of them. Shapes: P packets of one transfer,
in order; W of them, from the one whose turn it is; R receivers.
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
    """A coherence block: the SNR [R], and the bits of the transfer that are through at its end.

    threshold_db: where one code block in ten is lost under the modulation and coding in use, if the
    rate law says so.
    """

    snr_R: DoubleArray
    threshold_db: float | None
    end_bits: float


@dataclass(frozen=True, eq=False)
class Transfer:
    """Packets that leave back to back, each repeated until all receivers have it or it is given up.

    limits_P: most tries of each packet (0: it stays off the air). bits_P: bits of one try.
    room_P: most bits on the air, where a deadline cuts a try; otherwise inf. blocks(): from the first.
    flow: see `state.Grant`; transfers of one link and exchange with another flow have other luck.
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
        """A generator of one link of the transfer; with `joint` both its directions get the same."""
        ends = (self.sender, receiver)
        if symmetry == "joint":
            purpose, ends = f"joint_{purpose}", (min(ends), max(ends))
        return stream(self.seed, purpose, self.exchange_index, *ends, *self.flow)

    def log_luck(self, symmetry: Symmetry) -> DoubleArray:
        """ln u [R, P] of one uniform u in (0, 1] for each packet, the same whatever follows it."""
        count = self.limits_P.size
        draws = [self.draws("loss", symmetry, receiver) for receiver in self.receivers]
        return np.log(1.0 - np.stack([each.random(count) for each in draws]))


@dataclass(frozen=True, eq=False)
class TransferOutcome:
    """arrived [R, P] booleans; attempts [P] tries made, at most the limit, at least 1 unless that is 0."""

    arrived: BoolArray
    attempts: IndexArray

    @classmethod
    def of_needed(cls, needed_RP: DoubleArray, limits_P: IndexArray) -> "TransferOutcome":
        """Every packet is tried until the last receiver has it, or to its limit."""
        attempts_P = np.minimum(needed_RP.max(axis=0, initial=0.0), limits_P)
        return cls(needed_RP <= limits_P, attempts_P.astype(np.int64))


def tries_needed(log_luck: DoubleArray, log_loss: DoubleArray | float) -> DoubleArray:
    """The first try n with q^n < u, from ln u and ln q: 1 + floor(ln u / ln q); inf for q = 1.

    It is geometric, since P(n > k) = P(u <= q^k) = q^k.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        tries = 1.0 + np.floor(log_luck / log_loss)
    return np.where(np.less(log_loss, 0.0), tries, np.inf)


LossLaw = Callable[[Block, DoubleArray], DoubleArray]
"""law(block, bits_W): the probability q [R, W] that one try of so many bits is lost in a block."""


def walk_blocks(transfer: Transfer, law: LossLaw, symmetry: Symmetry) -> TransferOutcome:
    """Tries one after the other; each is lost with the q of the block in which its first bit leaves.

    One u for each packet: it is through at the first try n with q_1 ··· q_n < u. With `joint` both
    directions of a link have the same u; so they lose the same where they meet the same q. Where the
    blocks end too early, the packets left over make all their tries in vain.
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
    """Where a walk stands: packet `turn` makes its next try when now_bits are through."""

    def __init__(self, transfer: Transfer, law: LossLaw, symmetry: Symmetry) -> None:
        self._transfer = transfer
        self._law = law
        self._log_luck_RP = transfer.log_luck(symmetry)
        last_try_P = transfer.room_P - (transfer.limits_P - 1) * transfer.bits_P
        least_P = np.minimum(transfer.bits_P, last_try_P) * (transfer.limits_P > 0)
        self._earliest_P = np.cumsum(least_P) - least_P
        self.attempts_P = np.zeros_like(transfer.limits_P)
        self.arrived_RP = np.zeros(self._log_luck_RP.shape, dtype=np.bool_)
        self.turn = 0
        self.now_bits = 0.0

    def go_through(self, block: Block) -> None:
        """All tries that start in a block: packets decided in it, then one that goes on after it."""
        within = self._who_may_start(block)
        bits_W = self._transfer.bits_P[within]
        with np.errstate(divide="ignore"):
            log_loss_RW = np.log(self._law(block, bits_W))
        needed_RW = tries_needed(self._log_luck_RP[:, within], log_loss_RW)
        needed_RW[self.arrived_RP[:, within]] = 0.0  # who has got it in an earlier block
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
            self._try_in_vain(
                block, log_loss_RW[:, decided], needed_RW[:, decided], float(tries_W[decided])
            )

    def _who_may_start(self, block: Block) -> slice:
        """The packets from `turn` that start in a block if each before them takes the least it can."""
        reach_bits = self._earliest_P[self.turn] + block.end_bits - self.now_bits
        return slice(self.turn, int(np.searchsorted(self._earliest_P, reach_bits, side="left")))

    def _try_in_vain(
        self, block: Block, log_loss_R: DoubleArray, needed_R: DoubleArray, tries: float
    ) -> None:
        """The packet whose turn it is tries until the block ends, fewer times than it would need."""
        bits = float(self._transfer.bits_P[self.turn])
        failed = min(math.ceil((block.end_bits - self.now_bits) / bits), int(tries) - 1)
        self.attempts_P[self.turn] += failed
        self.now_bits += failed * bits
        self.arrived_RP[:, self.turn] |= needed_R <= failed
        # Rounding must not use up more luck than there is: so many tries were not enough.
        luck_R = self._log_luck_RP[:, self.turn] - failed * log_loss_R
        self._log_luck_RP[:, self.turn] = np.minimum(luck_R, 0.0)
