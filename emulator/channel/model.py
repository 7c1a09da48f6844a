"""The air: what becomes of the packets of a grant, built from one object of each component.

`Wireless` is what a scenario fills; `bind(devices, seed)` places the devices and gives the channel
of one run. All that follows is pure: same packets and grant, same reception.
Shapes: M devices, P packets, G grants.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from emulator.channel.energy import LeastPower, Power, transmit_energy_j
from emulator.channel.fading import Fading, RayleighFading
from emulator.channel.gains import FileGain
from emulator.channel.geometry import Geometry
from emulator.channel.line_of_sight import AlwaysLineOfSight, LineOfSight
from emulator.channel.losses import Losses, Lossless
from emulator.channel.mobility import Mobility, Static, Trajectories
from emulator.channel.pathloss import PathLoss, PowerLawPathLoss
from emulator.channel.placement import DiscPlacement, Placement
from emulator.channel.rates import Rate, ShannonRate, bits_within, finish_times_s
from emulator.channel.shadowing import NoShadowing, Shadowing
from emulator.channel.snapshot import WirelessSnapshot
from emulator.errors import EmulatorError, ProtocolError, ScenarioError
from emulator.state import DoubleArray, Grant, Packet, Reception, Request
from emulator.units import bits_from_bytes, noise_w

MAX_RELIABLE_TRIES = 1000
"""A reliable packet that so many tries do not bring over ends the run."""

MOVING_BLOCK_S = 1.0
"""How often the gain of a transfer follows who moves, where no fading has blocks of its own."""

LATE_TOLERANCE = 1e-9
"""Least power meets the deadline exactly, so rounding must not make it late."""


class Wireless(BaseModel):
    """Geometry, fading, noise, a rate law, losses and a power policy. Defaults are the paper's.

    Source: arXiv 2602.20492, system model and simulation setup.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["wireless"] = "wireless"
    placement: Placement = Field(
        default_factory=DiscPlacement, description="Where the devices stand."
    )
    mobility: Mobility = Field(default_factory=Static, description="How the devices move.")
    path_loss: PathLoss = Field(
        default_factory=PowerLawPathLoss, description="Mean gain over distance."
    )
    line_of_sight: LineOfSight = Field(
        default_factory=AlwaysLineOfSight, description="Which pairs see each other."
    )
    shadowing: Shadowing = Field(default_factory=NoShadowing, description="Large-scale fading.")
    gain: FileGain | None = Field(
        default=None, description="Mean gains from a file instead of the geometry; none if absent."
    )
    fading: Fading = Field(default_factory=RayleighFading, description="Small-scale fading.")
    rate: Rate = Field(default_factory=ShannonRate, description="Bits per second over SNR.")
    losses: Losses = Field(default_factory=Lossless, description="Packet losses.")
    power: Power = Field(default_factory=LeastPower, description="Transmit power policy.")
    max_power_w: FiniteFloat = Field(
        default=0.2, gt=0, description="p_max: transmit power limit of a device [W]."
    )
    circuit_power_w: FiniteFloat = Field(
        default=0.0, ge=0, description="Power of the transmitter's circuits while on the air [W]."
    )
    noise_figure_db: FiniteFloat = Field(
        default=0.0, ge=0, description="Receiver noise figure over -174 dBm/Hz [dB]."
    )
    deadline_s: FiniteFloat = Field(
        default=1.0, gt=0, description="Γ: time a transfer may take, from its start [s]."
    )
    late: Literal["wait", "lose"] = Field(
        default="wait",
        description="What becomes of unreliable packets after the deadline: late, or lost.",
    )
    arq_max_tries: int = Field(
        default=1, ge=1, le=1000, description="Tries of an unreliable packet before it is lost."
    )

    @model_validator(mode="after")
    def _powers_make_sense(self) -> Self:
        if self.power.kind == "fixed" and self.power.power_w > self.max_power_w:
            raise ValueError(
                f"power.power_w: got {self.power.power_w}, "
                f"wanted at most max_power_w = {self.max_power_w}"
            )
        if self.power.kind == "least_power" and self.rate.kind == "fixed":
            raise ValueError(
                "power.kind: got least_power with rate.kind fixed, "
                "wanted power.kind fixed (the rate does not depend on the power)"
            )
        return self

    def bind(self, devices: int, seed: int) -> "WirelessChannel":
        """The channel of one run: places and mean gains depend on (devices, seed, time) only."""
        trajectories = self.mobility.bind(self.placement, devices, seed)
        gains: Gains
        if self.gain is not None:
            gains = self.gain.bind(devices)
        else:
            line_of_sight = self.line_of_sight.bind(seed)
            shadows = self.shadowing.bind(self.path_loss, seed)
            gains = Geometry(trajectories, line_of_sight, self.path_loss, shadows)
        return WirelessChannel(self, seed, trajectories, gains, gains.mean_gain(0.0))


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
        return np.full(len(self.gain_at_start), self.model.max_power_w)

    @property
    def deadline_s(self) -> float:
        """Γ [s]."""
        return self.model.deadline_s

    def at(self, time_s: float) -> WirelessSnapshot:
        """The network at an emulated time."""
        model = self.model
        return WirelessSnapshot(
            self.trajectories.positions_m(time_s),
            self.gains.mean_gain(time_s) if self.gains.moving else self.gain_at_start,
            model.rate,
            model.noise_figure_db,
            model.deadline_s,
            model.max_power_w,
        )

    def set_powers(self, grants: Sequence[Grant], requests: Sequence[Request]) -> tuple[Grant, ...]:
        """The concurrent grants of one sender with their powers, together at most max_power_w.

        The sender knows the channel: Eq 25 uses the fading of the first block of the exchange.
        """
        needed_G = [self._log_needed(*pair) for pair in zip(grants, requests, strict=True)]
        powers_G = self.model.power.powers_w(np.array(needed_G), self.model.max_power_w)
        return tuple(
            replace(grant, tx_power_w=float(power_w))
            for grant, power_w in zip(grants, powers_G, strict=True)
        )

    def snr(self, grant: Grant, block: int) -> float:
        """Received power over noise (of the granted band) and interference, in one block."""
        noise = noise_w(grant.bandwidth_hz, self.model.noise_figure_db) + grant.interference_w
        return grant.tx_power_w * self._gain(grant, block) / noise

    def transmit(self, packets: Sequence[Packet], grant: Grant) -> Reception:
        """What becomes of the packets, sent one after the other, each until through or given up.

        Reliable packets are repeated until they arrive (EmulatorError after MAX_RELIABLE_TRIES),
        others at most arq_max_tries times. `late`: the transfer does not end by the deadline; with
        `late: lose` its unreliable rest is then lost and only reliable packets go on.
        """
        model = self.model
        reliable_P = np.array([packet.reliable for packet in packets], dtype=np.bool_)
        bits_P = np.array([bits_from_bytes(p.air_bytes) for p in packets], dtype=np.float64)
        limits_P = np.where(reliable_P, MAX_RELIABLE_TRIES, model.arq_max_tries).astype(np.int64)
        receiver = _only_receiver(grant)
        outcome = model.losses.outcome(
            limits_P, self.seed, grant.exchange_index, grant.sender, receiver
        )
        arrived_P, attempts_P = outcome.arrived, outcome.attempts
        if bool((reliable_P & ~arrived_P).any()):
            raise EmulatorError(
                f"link {grant.sender} -> {receiver}: a reliable packet was lost "
                f"{MAX_RELIABLE_TRIES} times in exchange {grant.exchange_index}"
            )
        rate = functools.cache(lambda block: self._bit_per_s(grant, block))
        sent_P = attempts_P * bits_P
        ends_P = self._finish_times_s(grant, np.cumsum(sent_P), rate)
        airtime_s = float(ends_P[-1]) if packets else 0.0
        limit_s = model.deadline_s * (1.0 + LATE_TOLERANCE)
        late = airtime_s > limit_s
        if late and model.late == "lose":
            cut_P = ~reliable_P & (ends_P > limit_s)
            room_P = self._room_before_deadline(sent_P, rate)
            started_P = np.ceil(room_P / bits_P - LATE_TOLERANCE).astype(np.int64)
            arrived_P = arrived_P & ~cut_P
            attempts_P = np.where(cut_P, started_P, attempts_P)
            total = np.array([np.where(cut_P, room_P, sent_P).sum()])
            airtime_s = float(self._finish_times_s(grant, total, rate)[0])
        return Reception(arrived_P, attempts_P, grant.start_s + airtime_s, airtime_s, late)

    def energy_j(self, grant: Grant, reception: Reception) -> float:
        """What the sender spent on a grant [J]."""
        return transmit_energy_j(grant.tx_power_w, self.model.circuit_power_w, reception.airtime_s)

    def _room_before_deadline(
        self, sent_P: DoubleArray, rate: Callable[[int], float]
    ) -> DoubleArray:
        """Bits [P] that each packet has on the air before the deadline, at most its own.

        Right for packets that are cut: whatever precedes the first of them was sent in full, and
        those after it find nothing left.
        """
        before_P = np.cumsum(sent_P) - sent_P
        budget = bits_within(self.model.deadline_s, rate, self._block_s)
        return np.clip(budget - before_P, 0.0, sent_P)

    def _finish_times_s(
        self, grant: Grant, bits_K: DoubleArray, rate: Callable[[int], float]
    ) -> DoubleArray:
        """When so many bits are through [K], or the error with the name of the link."""
        try:
            return finish_times_s(bits_K, rate, self._block_s)
        except ScenarioError:
            raise
        except EmulatorError as error:
            link = f"link {grant.sender} -> {grant.receivers[0]}"
            raise EmulatorError(f"{link}: {error}") from error

    def _gain(self, grant: Grant, block: int) -> float:
        """Power gain of the granted link in a coherence block, as it is at the block's start."""
        sender, receiver = grant.sender, _only_receiver(grant)
        fading = self.model.fading.power(self.seed, grant.exchange_index, block, sender, receiver)
        if not self.gains.moving:
            return float(self.gain_at_start[sender, receiver]) * fading
        time_s = grant.start_s + (block * self._block_s if block else 0.0)
        return self.gains.gain(sender, receiver, time_s) * fading

    @property
    def _block_s(self) -> float:
        """How long rate and losses hold [s]; a moving device does not wait for the fading's draws."""
        held_s = self.model.fading.block_s
        return MOVING_BLOCK_S if self.gains.moving and math.isinf(held_s) else held_s

    def _bit_per_s(self, grant: Grant, block: int) -> float:
        return self.model.rate.bit_per_s(self.snr(grant, block), grant.bandwidth_hz)

    def _log_needed(self, grant: Grant, request: Request) -> float:
        """ln of the power [W] that Eq 25 asks for, or of what the highest rate needs."""
        wanted = bits_from_bytes(request.num_bytes) / self.model.deadline_s
        reachable = self.model.rate.reachable_bit_per_s(wanted, grant.bandwidth_hz)
        log_snr = self.model.rate.log_snr(reachable, grant.bandwidth_hz)
        if log_snr == -math.inf:
            return -math.inf
        noise = noise_w(grant.bandwidth_hz, self.model.noise_figure_db) + grant.interference_w
        return log_snr + math.log(noise) - math.log(self._gain(grant, 0))


def _only_receiver(grant: Grant) -> int:
    """The one receiver of a grant; several need an access scheme that broadcasts."""
    if len(grant.receivers) != 1:
        raise ProtocolError(
            f"device {grant.sender}: got a grant for receivers {grant.receivers}, wanted one"
        )
    return grant.receivers[0]
