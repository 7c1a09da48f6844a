"""The air of one run: what becomes of the packets of a grant. Pure: same packets and grant, same reception.

Shapes: M devices, P packets, G grants, R receivers of a grant.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from emulator.channel.energy import transmit_energy_j
from emulator.channel.flow import BlockFlow, Flow, require_band
from emulator.channel.mobility import Trajectories
from emulator.channel.presence import all_there_s
from emulator.channel.sending import Sent, send_and_wait, send_or_lose
from emulator.channel.snapshot import WirelessSnapshot
from emulator.channel.transfer import Block, Transfer
from emulator.errors import EmulatorError, ScenarioError
from emulator.state import BoolArray, DoubleArray, Grant, Packet, Reception, Request
from emulator.units import bits_from_bytes, db_from_linear, noise_w

if TYPE_CHECKING:
    from emulator.channel.model import Wireless

MAX_RELIABLE_TRIES = 1000
"""A reliable packet that so many tries do not bring over ends the run."""

MOVING_BLOCK_S = 1.0
"""How often the gain of a transfer follows who moves, where no fading has blocks of its own."""


class Gains(Protocol):
    """Linear power gains without small-scale fading, whatever they come from."""

    @property
    def moving(self) -> bool:
        """Whether they ever change."""
        ...

    def mean_gain(self, time_s: float) -> DoubleArray:
        """Between all devices at a time [M, M], symmetric, diagonal 0."""
        ...

    def gain(self, first: int, second: int, time_s: float) -> float:
        """Of one pair. Law: mean_gain(time_s)[first, second]."""
        ...


@dataclass(frozen=True, eq=False)
class WirelessChannel:
    """`Wireless` with its devices. gain_at_start [M, M]: the mean gains at time 0, computed once."""

    model: Wireless
    seed: int
    trajectories: Trajectories
    gains: Gains
    gain_at_start: DoubleArray

    @property
    def max_power_w(self) -> DoubleArray:
        """[M] the power limit of each device [W]."""
        return np.full(len(self.gain_at_start), self._most_w)

    @property
    def splits_power_equally(self) -> bool:
        """Whether grants at once have equal powers, whatever each of them needs."""
        return self.model.power.kind == "fixed"

    @property
    def _most_w(self) -> float:
        """The power that a device has under its policy [W]."""
        return self.model.power.most_w(self.model.max_power_w)

    @property
    def deadline_s(self) -> float:
        """Γ [s]."""
        return self.model.deadline_s

    def at(self, time_s: float) -> WirelessSnapshot:
        """The network at an emulated time."""
        model = self.model
        return WirelessSnapshot(
            self.trajectories.positions_m(time_s),
            lambda: self.gains.mean_gain(time_s) if self.gains.moving else self.gain_at_start,
            model.rate,
            model.noise_figure_db,
            model.interference_w,
            model.deadline_s,
            self._most_w,
        )

    def set_powers(self, grants: Sequence[Grant], requests: Sequence[Request]) -> tuple[Grant, ...]:
        """The grants of one sender with their powers: together, or in slots each, at most max_power_w.

        The sender knows the channel: Eq 25 uses the fading of the first block of the exchange. Who is
        away puts off the start.
        """
        grants = [self._when_all_are_there(grant) for grant in grants]
        needed_G = np.array(
            [
                self.log_needed_w(grant, request.num_bytes)
                for grant, request in zip(grants, requests, strict=True)
            ]
        )
        in_turn = any(grant.slots is not None for grant in grants)
        groups = needed_G[:, None] if in_turn else [needed_G]
        powers_w = self.model.power.powers_w
        powers_G = [p for group in groups for p in powers_w(group, self.model.max_power_w)]
        return tuple(
            replace(grant, tx_power_w=float(power_w))
            for grant, power_w in zip(grants, powers_G, strict=True)
        )

    def snr(self, grant: Grant, block: int) -> DoubleArray:
        """[R] received power over noise (of the granted band) and interference, in one block.

        Interferers count with all the power they may have: who shares a slot does not know when the
        others are silent.
        """
        gain_R = np.array([self._gain(grant, block, grant.sender, r) for r in grant.receivers])
        return grant.tx_power_w * gain_R / self._disturbance_w(grant, block)

    def transmit(self, packets: Sequence[Packet], grant: Grant) -> tuple[Reception, ...]:
        """What becomes of the packets at each receiver, sent one after the other until all have them.

        Reliable packets are repeated until they arrive (EmulatorError after MAX_RELIABLE_TRIES),
        others at most arq_max_tries times. `late`: the transfer does not end by the deadline; with
        `late: lose` its unreliable rest is then lost and only reliable packets go on. The deadline
        counts also while somebody is away.
        """
        model, deadline_s = self.model, self.model.deadline_s - grant.wait_s
        flow = self._flow(grant)
        reliable_P = np.array([packet.reliable for packet in packets], dtype=np.bool_)
        transfer = self._transfer(packets, reliable_P, grant, flow)
        link = f"link {grant.sender} -> {', '.join(map(str, grant.receivers))}"
        try:
            if model.late == "wait":
                sent = send_and_wait(transfer, model.losses, flow, deadline_s)
            else:
                sent = send_or_lose(transfer, model.losses, flow, deadline_s, reliable_P)
        except ScenarioError:
            raise
        except EmulatorError as error:
            snr = float(self.snr(grant, 0).min())
            told = f"{link}, SNR {db_from_linear(snr):.1f} dB" if snr > 0.0 else link
            raise EmulatorError(f"{told}: {error}") from error
        if bool((reliable_P & ~sent.outcome.arrived).any()):
            raise EmulatorError(
                f"{link}: a reliable packet was lost "
                f"{MAX_RELIABLE_TRIES} times in exchange {grant.exchange_index}"
            )
        arrival_s, airtime_s = _end_and_airtime_s(grant, sent, deadline_s)
        return tuple(
            Reception(arrived_P, sent.outcome.attempts, arrival_s, airtime_s, sent.late)
            for arrived_P in sent.outcome.arrived
        )

    def energy_j(self, grant: Grant, reception: Reception) -> float:
        """What the sender spent on a grant [J]."""
        return transmit_energy_j(grant.tx_power_w, self.model.circuit_power_w, reception.airtime_s)

    def _transfer(
        self, packets: Sequence[Packet], reliable_P: BoolArray, grant: Grant, flow: Flow
    ) -> Transfer:
        """The packets of a grant as the losses see them."""
        limits_P = np.where(reliable_P, MAX_RELIABLE_TRIES, self.model.arq_max_tries)
        return Transfer(
            seed=self.seed,
            exchange_index=grant.exchange_index,
            sender=grant.sender,
            receivers=grant.receivers,
            limits_P=limits_P.astype(np.int64),
            bits_P=np.array([bits_from_bytes(p.air_bytes) for p in packets], dtype=np.float64),
            room_P=np.full(len(packets), math.inf),
            blocks=lambda: self._blocks(grant, flow),
        )

    def _when_all_are_there(self, grant: Grant) -> Grant:
        """The grant, put off while its sender or a receiver is away."""
        ends = (grant.sender, *grant.receivers)
        start_s = all_there_s(self.model.offline, ends, grant.start_s)
        return replace(grant, start_s=start_s, wait_s=start_s - grant.start_s)

    def _flow(self, grant: Grant) -> Flow:
        """What the sender brings over from the start of the grant on; the weakest sets its rate."""
        rate, block_s = self.model.rate, self._block_s
        if rate.kind == "trace":
            return rate.flow(grant.start_s, block_s)

        @functools.cache
        def bit_per_s(block: int) -> float:
            return rate.bit_per_s(float(self.snr(grant, block).min()), grant.bandwidth_hz)

        return BlockFlow(bit_per_s, block_s, grant.slots, grant.start_s)

    def _blocks(self, grant: Grant, flow: Flow) -> Iterator[Block]:
        """The coherence blocks of a transfer, for losses that depend on the SNR."""
        require_band(grant.bandwidth_hz)
        rate = self.model.rate
        for block, end_bits in enumerate(flow.bits_at_block_ends()):
            snr_R = self.snr(grant, block)
            weakest = float(snr_R.min())
            threshold_db = rate.threshold_db(weakest) if rate.kind == "nr_cqi" else None
            yield Block(snr_R, threshold_db, end_bits)

    def _gain(self, grant: Grant, block: int, sender: int, receiver: int) -> float:
        """Power gain of a link in a coherence block of a grant, as it is at the block's start."""
        fade = block // self._blocks_of_a_fade if self._blocks_of_a_fade else 0
        fading = self.model.fading.power(self.seed, grant.exchange_index, fade, sender, receiver)
        if not self.gains.moving:
            return float(self.gain_at_start[sender, receiver]) * fading
        time_s = grant.start_s + (block * self._block_s if block else 0.0)
        return self.gains.gain(sender, receiver, time_s) * fading

    def _disturbance_w(self, grant: Grant, block: int) -> DoubleArray:
        """[R] noise and interference at each receiver."""
        noise = noise_w(grant.bandwidth_hz, self.model.noise_figure_db) + self.model.interference_w
        heard_R = [
            sum(self._gain(grant, block, i, r) for i in grant.interferers if i != r)
            for r in grant.receivers
        ]
        return noise + self._most_w * np.array(heard_R, dtype=np.float64)

    @functools.cached_property
    def _blocks_of_a_fade(self) -> int:
        """Blocks for which one draw of the fading holds; 0: it holds for the whole exchange."""
        held_s = self.model.fading.block_s
        if math.isinf(held_s):
            return 0
        return math.ceil(held_s / MOVING_BLOCK_S) if self.gains.moving else 1

    @functools.cached_property
    def _block_s(self) -> float:
        """How long rate and losses hold [s]: as the fading, but for who moves MOVING_BLOCK_S at most."""
        held_s = self.model.fading.block_s
        if math.isinf(held_s):
            return MOVING_BLOCK_S if self.gains.moving else held_s
        return held_s / self._blocks_of_a_fade

    def log_needed_w(self, grant: Grant, num_bytes: int) -> float:
        """ln of the power [W] that Eq 25 asks for, or of what the highest rate needs."""
        bandwidth_hz = grant.bandwidth_hz
        left_s = self.model.deadline_s - grant.wait_s
        if grant.slots is not None:
            until_s = grant.start_s + left_s
            left_s = grant.slots.carrying_s(until_s) - grant.slots.carrying_s(grant.start_s)
        if left_s <= 0.0:  # too late in any case: as fast as it can
            return math.inf
        wanted = bits_from_bytes(num_bytes) / left_s
        reachable = self.model.rate.reachable_bit_per_s(wanted, bandwidth_hz)
        log_snr = self.model.rate.log_snr(reachable, bandwidth_hz)
        if log_snr == -math.inf:
            return -math.inf
        gains = [self._gain(grant, 0, grant.sender, receiver) for receiver in grant.receivers]
        disturbances_w = self._disturbance_w(grant, 0).tolist()
        return max(
            log_snr + math.log(disturbance_w) - math.log(gain) if gain else math.inf
            for disturbance_w, gain in zip(disturbances_w, gains, strict=True)
        )


def _end_and_airtime_s(grant: Grant, sent: Sent, deadline_s: float) -> tuple[float, float]:
    """When the sender is done, and how long it was on the air until then [s].

    Who is cut off by the deadline has tried until then, even if it was in vain.
    """
    slots, end_s = grant.slots, grant.start_s + sent.duration_s
    if slots is None:
        return end_s, sent.duration_s
    given_up_s = grant.start_s + deadline_s
    if sent.late and slots.in_vain_s(given_up_s) > slots.in_vain_s(end_s):
        end_s = given_up_s
    carrying_s = slots.carrying_s(end_s) - slots.carrying_s(grant.start_s)
    return end_s, carrying_s + slots.in_vain_s(end_s) - slots.in_vain_s(grant.start_s)
