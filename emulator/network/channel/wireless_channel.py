"""The wireless channel of one run: the reception of the packets of a grant.

It is pure: equal packets and grants give equal receptions.
Shapes: M devices, P packets, G grants, R receivers of a grant.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.core.types.arrays import BoolArray, DoubleArray
from emulator.core.types.packet import Packet
from emulator.core.types.transmission import Grant, Reception, Request
from emulator.core.units import bits_from_bytes, db_from_linear
from emulator.network.channel.acknowledgements import Acking
from emulator.network.channel.arq import Sent, is_late, send_and_wait, send_or_lose
from emulator.network.channel.availability import earliest_presence_s
from emulator.network.channel.energy import transmit_energy_j
from emulator.network.channel.flow import BlockFlow, Flow, require_band
from emulator.network.channel.mobility import Trajectories
from emulator.network.channel.signal import Gains, Signal
from emulator.network.channel.snapshot import WirelessSnapshot
from emulator.network.channel.transfer import Block, Transfer

if TYPE_CHECKING:
    from emulator.network.channel.model import Wireless

MAX_RELIABLE_TRIES = 1000
"""The run ends if a reliable packet is lost in this number of tries."""


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
        """Power limit of each device [W], [M]."""
        return np.full(len(self.gain_at_start), self._most_w)

    @property
    def splits_power_equally(self) -> bool:
        """Whether simultaneous grants get equal powers, whatever each of them needs."""
        return self.model.power.kind == "fixed"

    @property
    def _most_w(self) -> float:
        """The largest power of a device under the power policy [W]."""
        return self.model.power.most_w(self.model.max_power_w)

    @property
    def deadline_s(self) -> float:
        """Γ: the time within which a transfer should end [s]."""
        return self.model.deadline_s

    def power_keys(self, power_w: float) -> list[str]:
        """The scenario keys that limit the power of a device to less than power_w [W]."""
        keys = ["channel.max_power_w"] if self.model.max_power_w < power_w else []
        return keys + [f"channel.power.{key}" for key in self.model.power.keys_below(power_w)]

    @functools.cached_property
    def signal(self) -> Signal:
        """The power that arrives over its links."""
        return Signal(self.model, self.seed, self.gains, self.gain_at_start, self._most_w)

    def at(self, time_s: float) -> WirelessSnapshot:
        """The state of the network at an emulated time [s]."""
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
        """The grants of one sender with their powers.

        The sum of the powers is at most max_power_w; with slots, each power is. The sender knows the
        channel: Eq 25 uses the fading of the block in which it first transmits. Offline devices delay
        the start.
        """
        grants = [self._delay_for_offline(grant) for grant in grants]
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

    def transmit(self, packets: Sequence[Packet], grant: Grant) -> tuple[Reception, ...]:
        """The reception of the packets at each receiver. Each packet is sent until all receivers have it.

        Reliable packets are repeated until they arrive (EmulatorError after MAX_RELIABLE_TRIES, or if
        the link has no rate for max_wait_s), others at most arq_max_tries times. A transfer is late if it
        does not end by the deadline. With `late: lose` its remaining unreliable packets are then lost,
        and only reliable packets are sent on. A transfer that loses packets ends when the sender gives
        them up: after max_wait_s, or with `late: lose` at the deadline if that is earlier. The deadline
        also runs while a device is offline.
        """
        model, deadline_s = self.model, self.model.deadline_s - grant.wait_s
        flow = self._flow(grant)
        reliable_P = np.array([packet.reliable for packet in packets], dtype=np.bool_)
        repeated_P = reliable_P | (model.arq_max_tries > 1)
        turnaround_s = model.ack_turnaround_s if model.acks == "charged" else None
        acking = Acking(grant, repeated_P, turnaround_s, model.circuit_power_w)
        transfer = self._transfer(packets, reliable_P, grant, flow)
        try:
            sent = self._sent(transfer, flow, acking, deadline_s, reliable_P)
        except ScenarioError:
            raise
        except EmulatorError as error:
            raise EmulatorError(f"{self._link(grant)}: {error}") from error
        if math.isinf(sent.duration_s):
            raise EmulatorError(self._without_rate(grant))
        if bool((reliable_P & ~sent.outcome.arrived).any()):
            raise EmulatorError(
                f"{self._link(grant)}: a reliable packet was lost "
                f"{MAX_RELIABLE_TRIES} times in exchange {grant.exchange_index}"
            )
        bit_per_s = flow.bit_per_s_at(sent.duration_s)
        attempts_P = sent.outcome.attempts
        over_s = flow.add_own_time(sent.duration_s, acking.round_trips_s(attempts_P, bit_per_s))
        reception = Reception(
            arrived=sent.outcome.arrived[0],
            attempts=attempts_P,
            arrival_s=grant.start_s + over_s,
            airtime_s=flow.airtime_s(sent.duration_s),
            late=sent.late or is_late(over_s, deadline_s),
            acks=acking.acks(attempts_P, bit_per_s),
        )
        return tuple(replace(reception, arrived=arrived_P) for arrived_P in sent.outcome.arrived)

    def _sent(
        self,
        transfer: Transfer,
        flow: Flow,
        acking: Acking,
        deadline_s: float,
        reliable_P: BoolArray,
    ) -> Sent:
        """The tries of a transfer. Under `late: lose` the round trips of acknowledgements end by the
        deadline too."""
        losses, reserved_s = self.model.losses, 0.0
        if self.model.late == "wait":
            return send_and_wait(transfer, losses, flow, deadline_s, reliable_P)
        while True:
            due_s = flow.add_own_time(deadline_s, -reserved_s)
            sent = send_or_lose(transfer, losses, flow, due_s, reliable_P)
            bit_per_s = flow.bit_per_s_at(sent.duration_s)
            needed_s = acking.round_trips_s(sent.outcome.attempts, bit_per_s)
            if needed_s <= reserved_s or not math.isfinite(sent.duration_s):
                return sent
            reserved_s = needed_s

    def _link(self, grant: Grant) -> str:
        """The name of a link and its mean SNR, for messages."""
        snr = float(self.signal.mean_snr(grant).min())
        named = f"link {grant.sender} -> {', '.join(map(str, grant.receivers))}"
        return f"{named}, mean SNR {db_from_linear(snr):.1f} dB" if snr > 0.0 else named

    def _without_rate(self, grant: Grant) -> str:
        """The message for a reliable transfer that was given up."""
        waited_s = self.model.max_wait_s
        long = "no rate above 0 bit/s at all"
        if waited_s is not None:
            long = f"no rate above 0 bit/s for {waited_s:g} s (channel.max_wait_s)"
        return (
            f"{self._link(grant)}: {long} in exchange {grant.exchange_index}, for what must arrive; "
            "wanted a link in range: shorter, with more power or less noise, or not used by the topology"
            + ("" if waited_s is None else ", or a longer max_wait_s")
        )

    def energy_j(self, grant: Grant, reception: Reception) -> float:
        """The energy that the sender spends on a grant [J]."""
        return transmit_energy_j(grant.tx_power_w, self.model.circuit_power_w, reception.airtime_s)

    def _transfer(
        self, packets: Sequence[Packet], reliable_P: BoolArray, grant: Grant, flow: Flow
    ) -> Transfer:
        """The packets of a grant as input of the loss models."""
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
            flow=grant.flow,
        )

    def _delay_for_offline(self, grant: Grant) -> Grant:
        """The grant, delayed while its sender or a receiver is offline."""
        ends = (grant.sender, *grant.receivers)
        start_s = earliest_presence_s(self.model.offline, ends, grant.start_s)
        return replace(grant, start_s=start_s, wait_s=start_s - grant.start_s)

    def _flow(self, grant: Grant) -> Flow:
        """The bits that the link carries from the start of the grant on; the weakest receiver sets the rate."""
        rate, blocks = self.model.rate, self.signal.blocks(grant)
        if rate.kind == "trace":
            return rate.flow(grant.start_s, blocks)
        max_wait_s = math.inf if self.model.max_wait_s is None else self.model.max_wait_s

        @functools.cache
        def bit_per_s(block: int) -> float:
            if rate.kind == "fixed" and not self.signal.has_path(grant, block):
                return 0.0  # the other rate laws give 0 at an SNR of 0
            return rate.bit_per_s(float(self.signal.snr(grant, block).min()), grant.bandwidth_hz)

        return BlockFlow(bit_per_s, blocks, grant.slots, grant.start_s, max_wait_s)

    def _blocks(self, grant: Grant, flow: Flow) -> Iterator[Block]:
        """The coherence blocks of a transfer, for loss models that depend on the SNR."""
        require_band(grant.bandwidth_hz)
        rate = self.model.rate
        for block, end_bits in enumerate(flow.bits_at_block_ends()):
            snr_R = self.signal.snr(grant, block)
            weakest = float(snr_R.min())
            threshold_db = rate.threshold_db(weakest) if rate.kind == "nr_cqi" else None
            yield Block(snr_R, threshold_db, end_bits)

    def log_needed_w(self, grant: Grant, num_bytes: int) -> float:
        """ln of the power [W] that Eq 25 requires, or of the power for the highest rate if that is less."""
        bandwidth_hz = grant.bandwidth_hz
        left_s = self.model.deadline_s - grant.wait_s
        if grant.slots is not None:
            until_s = grant.start_s + left_s
            left_s = grant.slots.carrying_s(until_s) - grant.slots.carrying_s(grant.start_s)
        if left_s <= 0.0:  # late in any case: as fast as possible
            return math.inf
        wanted = bits_from_bytes(num_bytes) / left_s
        reachable = self.model.rate.reachable_bit_per_s(wanted, bandwidth_hz)
        log_snr = self.model.rate.log_snr(reachable, bandwidth_hz)
        if log_snr == -math.inf:
            return -math.inf
        return self.signal.log_power_w(grant, self.signal.first_block(grant), log_snr)
