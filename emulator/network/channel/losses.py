"""Loss models: which packets arrive, and after how many tries.

Every packet has its own limit of tries; it is repeated until it arrives or the limit is reached. All
models have `draw_outcome(transfer)`. Those that depend on the SNR (outage, logistic) walk through the
coherence blocks of the transfer; the others do not use them. With `symmetry: joint` both directions of a
link share their draws, and so lose the same packets; models that depend on the SNR do so if SNR (equal
power and band) and packet sizes are equal in both directions. Shapes: P packets of one transfer; T tries of
a transfer (and at most as many stays in a state); W packets of a block, see `transfer.py`.
"""

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.core.types.arrays import BoolArray, DoubleArray, IndexArray
from emulator.core.units import linear_from_db
from emulator.network.channel.transfer import (
    Block,
    Symmetry,
    Transfer,
    TransferOutcome,
    tries_needed,
    walk_blocks,
)

CODE_BLOCK_BITS = 1024.0
"""Size of the code blocks whose error rate `logistic` describes [bit]."""

MAX_TRIES = 1_000_000
"""A number larger than any limit of tries."""

SYMMETRY: Any = Field(
    default="independent",
    description="Whether the two directions of a link have independent draws or share them (joint): equal "
    "packets at equal SNR are then lost in both directions or in none.",
)


class Lossless(BaseModel):
    """Every packet arrives at the first try."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["lossless"] = "lossless"

    def draw_outcome(self, transfer: Transfer) -> TransferOutcome:
        """All arrive, one attempt each."""
        return _at_once(transfer)

    def loss_probability(self, block: Block, bits_W: DoubleArray) -> DoubleArray:
        """Zeros [R, W]: no try is lost."""
        return np.zeros((block.snr_R.size, bits_W.size))


class BernoulliLoss(BaseModel):
    """Each try of each packet is lost independently with the same probability p.

    The number of the first successful try has a geometric distribution: 1 + floor(ln u / ln p) for a
    uniform u in (0, 1]. There is one u per packet, in packet order, so the fate of packet k depends
    neither on its limit nor on the number of packets after it. With `symmetry: joint` both directions
    of a link share the draws, and lose the same packets.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["bernoulli"] = "bernoulli"
    probability: float = Field(ge=0, lt=1, description="Probability that one try is lost.")
    symmetry: Symmetry = SYMMETRY

    def draw_outcome(self, transfer: Transfer) -> TransferOutcome:
        """Arrivals and attempts of the packets of one transfer."""
        if self.probability == 0.0:
            return _at_once(transfer)
        needed_RP = tries_needed(transfer.log_uniform(self.symmetry), math.log(self.probability))
        return TransferOutcome.of_needed(needed_RP, transfer.limits_P)

    def loss_probability(self, block: Block, bits_W: DoubleArray) -> DoubleArray:
        """p [R, W] of one try, whatever its bits."""
        return np.full((block.snr_R.size, bits_W.size), self.probability)


class GilbertElliottLoss(BaseModel):
    """Losses in bursts: a Markov chain of a good and a bad state, one step for each try.

    The chain is stationary from the first try. P(good→bad) = p, P(bad→good) = r; a try succeeds with
    probability k in the good state and h in the bad state. The bad state lasts 1/r tries on average and
    has the share p/(p+r). Every transfer has its own chain; with `symmetry: joint` both directions of a
    link share it.
    Source: Gilbert, Bell System Technical Journal 39 (1960); Elliott, ibid. 42 (1963).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["gilbert_elliott"] = "gilbert_elliott"
    p: float = Field(gt=0, le=1, description="Probability of good to bad, for each try.")
    r: float = Field(gt=0, le=1, description="Probability of bad to good, for each try.")
    k: float = Field(
        default=1.0, gt=0, le=1, description="Probability of success in the good state."
    )
    h: float = Field(
        default=0.0, ge=0, le=1, description="Probability of success in the bad state."
    )
    symmetry: Symmetry = SYMMETRY

    def draw_outcome(self, transfer: Transfer) -> TransferOutcome:
        """Arrivals and attempts of the packets of one transfer."""
        most = int(transfer.limits_P.sum())
        tries = min(2 * transfer.limits_P.size, most)
        while (outcome := _in_turn(self.successes(transfer, tries), transfer.limits_P)) is None:
            tries = min(4 * tries, most)
        return outcome

    def loss_probability(self, block: Block, bits_W: DoubleArray) -> DoubleArray:
        """The mean over both states [R, W], for any number of bits."""
        bad = self.p / (self.p + self.r)
        lost = (1.0 - bad) * (1.0 - self.k) + bad * (1.0 - self.h)
        return np.full((block.snr_R.size, bits_W.size), lost)

    def successes(self, transfer: Transfer, tries: int) -> BoolArray:
        """Which of the first `tries` tries of a transfer succeed [R, T]; a larger number only appends tries."""
        links = [self._successes(transfer, receiver, tries) for receiver in transfer.receivers]
        return np.stack(links)

    def _successes(self, transfer: Transfer, receiver: int, tries: int) -> BoolArray:
        """Which of the first tries to one receiver succeed [T]."""
        uniform_T = 1.0 - transfer.draws("loss_state", self.symmetry, receiver).random(tries + 1)
        starts_bad = bool(uniform_T[0] <= self.p / (self.p + self.r))
        # The two states alternate, and each stay lasts a geometric number of tries.
        bad_T = np.arange(tries) % 2 == int(not starts_bad)
        with np.errstate(divide="ignore"):
            log_stay_T = np.log1p(-np.where(bad_T, self.r, self.p))
        ends_T = np.cumsum(tries_needed(np.log(uniform_T[1:]), log_stay_T))
        stay_T = np.searchsorted(ends_T, np.arange(tries), side="right")
        draws_T = transfer.draws("loss", self.symmetry, receiver).random(tries)
        return draws_T < np.where(bad_T[stay_T], self.h, self.k)


class OutageLoss(BaseModel):
    """A try is lost if Rayleigh fading takes the SINR below m: q = 1 - exp(-m (I + B N0) / (P h)).

    h is the mean gain. This model contains the fading, with an independent draw for each try, and
    therefore needs `fading.kind: none`. Source: Chen et al., arXiv 1909.07972.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["outage"] = "outage"
    threshold_db: FiniteFloat = Field(description="m: the SINR that a try needs [dB].")
    symmetry: Symmetry = SYMMETRY

    def draw_outcome(self, transfer: Transfer) -> TransferOutcome:
        """Arrivals and attempts of the packets of one transfer."""
        return walk_blocks(transfer, self.loss_probability, self.symmetry)

    def loss_probability(self, block: Block, bits_W: DoubleArray) -> DoubleArray:
        """q of one try [R, W], for any number of bits."""
        with np.errstate(divide="ignore"):
            margin_R = linear_from_db(self.threshold_db) / block.snr_R
        return np.repeat(-np.expm1(-margin_R)[:, None], bits_W.size, axis=1)


class LogisticLoss(BaseModel):
    """Block error rate over SNR: BLER = 1 / (1 + 9·e^(slope·(SNR − threshold))), 0.1 at the threshold.

    BLER is the error rate of a code block of 1024 bits; a packet of n bits is lost with probability
    1 - (1 - BLER)^(n/1024). The threshold is that of the CQI in use under `rate.kind: nr_cqi`, and
    `threshold_db` otherwise.
    Source: shape fitted to link-level simulation (5G LDPC, 1024 bits, AWGN): slopes of 3.5 (CQI 15) to
    7.5 (CQI 5) per dB between 50 and 10 % of errors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["logistic"] = "logistic"
    slope_per_db: FiniteFloat = Field(
        default=5.0, gt=0, description="Steepness of ln(BLER / (1 - BLER)) [1/dB]."
    )
    threshold_db: FiniteFloat | None = Field(
        default=None, description="SNR of BLER 0.1 [dB]; null with nr_cqi, which has its own."
    )
    symmetry: Symmetry = SYMMETRY

    def draw_outcome(self, transfer: Transfer) -> TransferOutcome:
        """Arrivals and attempts of the packets of one transfer."""
        return walk_blocks(transfer, self.loss_probability, self.symmetry)

    def loss_probability(self, block: Block, bits_W: DoubleArray) -> DoubleArray:
        """q of one try of packets of bits_W bits [R, W]."""
        threshold_db = self.threshold_db if block.threshold_db is None else block.threshold_db
        if threshold_db is None:
            return np.ones((block.snr_R.size, bits_W.size))
        with np.errstate(divide="ignore"):
            margin_R = 10.0 * np.log10(block.snr_R) - threshold_db
        log_pass_R = -np.logaddexp(0.0, -math.log(9.0) - self.slope_per_db * margin_R)
        return -np.expm1(log_pass_R[:, None] * (bits_W / CODE_BLOCK_BITS))


Losses = Annotated[
    Lossless | BernoulliLoss | GilbertElliottLoss | OutageLoss | LogisticLoss,
    Field(discriminator="kind"),
]


def _at_once(transfer: Transfer) -> TransferOutcome:
    """The outcome if the first try of every packet that is sent succeeds."""
    needed_RP = np.ones((len(transfer.receivers), transfer.limits_P.size))
    return TransferOutcome.of_needed(needed_RP, transfer.limits_P)


def _in_turn(passed_RT: BoolArray, limits_P: IndexArray) -> TransferOutcome | None:
    """The outcome if the packets use a row of tries one after the other; None if the row is too short."""
    receivers, tries = passed_RT.shape
    never = tries + MAX_TRIES
    next_RT = np.where(passed_RT, np.arange(tries), never)
    next_RT = np.minimum.accumulate(next_RT[:, ::-1], axis=1)[:, ::-1]
    next_success = np.hstack([next_RT, np.full((receivers, 1), never)]).T.tolist()
    needed: list[list[int]] = []
    now = 0
    # Each packet depends on the one before, so this is a loop: 10 000 packets take some milliseconds.
    for limit in limits_P.tolist():
        needed.append([success - now + 1 for success in next_success[now]])
        now += min(max(needed[-1]), limit)
        if now > tries:
            return None
    needed_RP = np.array(needed, dtype=np.float64).reshape(-1, receivers).T
    return TransferOutcome.of_needed(needed_RP, limits_P)
