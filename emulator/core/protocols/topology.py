"""What a topology offers."""

from __future__ import annotations

from typing import Protocol

from emulator.core.types.survey import Link, Survey


class Topology(Protocol):
    """The whole directed graph of a round, computed alike at every device; asked once for all rounds
    where the class says `fixed: ClassVar[bool] = True`."""

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links of the round, sorted by (receiver, sender)."""
        ...
