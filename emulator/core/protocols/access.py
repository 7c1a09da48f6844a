"""The interface of an access scheme: when each device transmits, and in which band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from emulator.core.types.arrays import BoolArray
from emulator.core.types.transmission import Grant, Request


class Access(Protocol):
    """An access scheme as the scenario describes it.

    It may also have `casts: ClassVar[tuple[str, ...]]`: the casting modes that its field `cast` can have.
    """

    @property
    def bandwidth_hz(self) -> float:
        """The whole band of one sender [Hz]."""
        ...

    def bind(self, in_range_MM: BoolArray, seed: int) -> BoundAccess:
        """The scheme of one run. in_range_MM[i, j] [M, M]: whether device i is in range of device j."""
        ...


class BoundAccess(Protocol):
    """The scheme of one run. It is pure: equal requests give equal grants.

    It may also have `slot_of: tuple[int, ...]`, the slot in which each device transmits [M], with
    `slot_s: float`, the length of a slot [s]; and `details: str`, a description for the link budget.
    """

    @property
    def cast(self) -> str:
        """The casting mode: `unicast`, or `broadcast` where one transmission serves several receivers."""
        ...

    @property
    def powers_add_up(self) -> bool:
        """Whether a sender serves all its neighbours at the same time, each with its own power."""
        ...

    def share(self, neighbours: int) -> tuple[float, float]:
        """Band [Hz] and share of the time that a sender gives to each of its neighbours."""
        ...

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """One grant for each request of one contention domain, in their order, with a power of 0."""
        ...
