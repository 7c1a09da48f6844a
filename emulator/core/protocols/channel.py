"""What a channel offers: gains, rates, powers, and the reception of packets.

Shapes: M devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from emulator.core.types.arrays import BoolArray, DoubleArray, IndexArray
from emulator.core.types.packet import Packet
from emulator.core.types.transmission import Grant, Reception, Request


class ChannelModel(Protocol):
    """A kind of air as the scenario describes it.

    It may also have `doubts(bandwidth_hz) -> Sequence[str]`: notes on parts of it that fit badly.
    """

    def bind(self, devices: int, seed: int) -> BoundChannel:
        """The air between so many devices under one seed: positions and mean gains fixed."""
        ...


class Snapshot(Protocol):
    """The network as it lies at one moment. M devices."""

    @property
    def positions_m(self) -> DoubleArray:
        """Where the devices are [M, 2]."""
        ...

    @property
    def mean_gain(self) -> DoubleArray:
        """Linear power gain without small-scale fading [M, M], diagonal 0, symmetric.
        Law: where two moments have the same array (not a copy), nothing has changed between them."""
        ...

    def in_range(self, bandwidth_hz: float, time_share: float) -> BoolArray:
        """Which pairs can exchange one packet within the deadline [M, M]."""
        ...

    def bit_per_s(self, bandwidth_hz: float) -> DoubleArray:
        """Rate of i towards j on a band at the mean gain and full power [M, M]."""
        ...

    def required_power_w(
        self, num_bytes: int | IndexArray, bandwidth_hz: float, time_share: float
    ) -> DoubleArray:
        """Least power [M, M] that meets the deadline on a band in a share of the time."""
        ...


class BoundChannel(Protocol):
    """The air itself. Pure: same packets, grant and seed give the same reception."""

    @property
    def max_power_w(self) -> DoubleArray:
        """Transmit power limit of each device [M]."""
        ...

    @property
    def splits_power_equally(self) -> bool:
        """Whether grants at once have equal powers, whatever each of them needs."""
        ...

    @property
    def deadline_s(self) -> float:
        """Γ: the time that a transfer is planned to take [s]."""
        ...

    def at(self, time_s: float) -> Snapshot:
        """The network at an emulated time."""
        ...

    def set_powers(self, grants: Sequence[Grant], requests: Sequence[Request]) -> tuple[Grant, ...]:
        """The grants of one sender with their transmit powers, together at most max_power_w."""
        ...

    def transmit(self, packets: Sequence[Packet], grant: Grant) -> tuple[Reception, ...]:
        """What becomes of the packets of one grant, at each of its receivers."""
        ...

    def energy_j(self, grant: Grant, reception: Reception) -> float:
        """What the sender spent on it [J]."""
        ...
