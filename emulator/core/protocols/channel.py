"""The interface of a channel: gains, rates, powers, and the reception of packets.

Shapes: M devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from emulator.core.types.arrays import BoolArray, DoubleArray, IndexArray
from emulator.core.types.packet import Packet
from emulator.core.types.transmission import Grant, Reception, Request


class ChannelModel(Protocol):
    """A channel as the scenario describes it.

    It may also have `doubts(bandwidth_hz) -> Sequence[str]`: notes on parts that do not fit together.
    """

    def bind(self, devices: int, seed: int) -> BoundChannel:
        """The channel between the devices under one seed, which fixes positions and mean gains."""
        ...


class Snapshot(Protocol):
    """The state of the network at one moment."""

    @property
    def positions_m(self) -> DoubleArray:
        """Positions of the devices [m], [M, 2]."""
        ...

    @property
    def mean_gain(self) -> DoubleArray:
        """Linear power gain without small-scale fading [M, M], diagonal 0, symmetric.
        Law: if two moments have the same array (not a copy), nothing has changed between them."""
        ...

    def in_range(self, bandwidth_hz: float, time_share: float) -> BoolArray:
        """Whether i can send one packet to j within the deadline [M, M]."""
        ...

    def bit_per_s(self, bandwidth_hz: float) -> DoubleArray:
        """Rate [bit/s] from i to j on a band at the mean gain and full power [M, M]."""
        ...

    def required_power_w(
        self, num_bytes: int | IndexArray, bandwidth_hz: float, time_share: float
    ) -> DoubleArray:
        """Least power [W] from i to j that meets the deadline on a band in a share of the time [M, M]."""
        ...


class BoundChannel(Protocol):
    """The channel of one run. It is pure: equal packets, grant and seed give the same reception.

    It may also have `power_keys(power_w) -> Sequence[str]`: the scenario keys that limit the power of a
    device to less than power_w [W].
    """

    @property
    def max_power_w(self) -> DoubleArray:
        """Transmit power limit of each device [W], [M]."""
        ...

    @property
    def splits_power_equally(self) -> bool:
        """Whether simultaneous grants of one sender get equal powers, whatever each of them needs."""
        ...

    @property
    def deadline_s(self) -> float:
        """Γ: the time within which a transfer should end [s]."""
        ...

    def at(self, time_s: float) -> Snapshot:
        """The network at an emulated time."""
        ...

    def set_powers(self, grants: Sequence[Grant], requests: Sequence[Request]) -> tuple[Grant, ...]:
        """The grants of one sender with their transmit powers, whose sum is at most max_power_w."""
        ...

    def transmit(self, packets: Sequence[Packet], grant: Grant) -> tuple[Reception, ...]:
        """The reception of the packets of one grant at each of its receivers, in their order."""
        ...

    def energy_j(self, grant: Grant, reception: Reception) -> float:
        """The energy that the sender spends on a grant [J]."""
        ...
