"""What an access scheme offers: when each device sends, and in which band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from emulator.core.types.arrays import BoolArray
from emulator.core.types.transmission import Grant, Request


class Access(Protocol):
    """A scheme of who is on the air when, on which band."""

    @property
    def bandwidth_hz(self) -> float:
        """The whole band of one sender [Hz]."""
        ...

    def bind(self, hears_MM: BoolArray, seed: int) -> BoundAccess:
        """The scheme of one run, for devices of which i hears j where hears_MM[i, j]."""
        ...


class BoundAccess(Protocol):
    """The scheme of one run. Pure: same requests, same grants."""

    @property
    def cast(self) -> str:
        """Whether one transmission serves several receivers: unicast or broadcast."""
        ...

    @property
    def powers_add_up(self) -> bool:
        """Whether a sender serves its neighbours at once, each with a power of its own."""
        ...

    def share(self, neighbours: int) -> tuple[float, float]:
        """The band [Hz] and the share of time that each of so many neighbours gets of a sender."""
        ...

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """Grants in the order of the requests of one contention domain; powers still at 0."""
        ...
