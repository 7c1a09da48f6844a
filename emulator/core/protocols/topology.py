"""The interface of a topology: the directed graph of each round."""

from __future__ import annotations

from typing import Protocol

from emulator.core.types.survey import Link, Survey


class Topology(Protocol):
    """The directed graph of all devices in a round. Every device computes the same one.

    A class with `fixed: ClassVar[bool] = True` is asked only once, for all rounds.
    """

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links of the round, sorted by (receiver, sender)."""
        ...
