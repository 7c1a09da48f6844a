"""The interfaces of a method."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import ClassVar, Protocol

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.result import Expert
from emulator.core.types.steps import Inbox, State, Step


class Stateful(Protocol):
    """An object whose state is part of a checkpoint."""

    def state(self) -> State:
        """Everything that later rounds depend on besides the scenario, as a tree of plain values.

        core/state_file.py lists the types of values. The driver calls this after a round.
        """
        ...

    def restore(self, state: State) -> None:
        """Restore a state; this replaces the setup."""
        ...


class AdapterMethod(Stateful, Protocol):
    """One device's part in a method: what is trained, sent and merged."""

    def setup(self) -> Generator[Step, Inbox, None]:
        """Run the steps before the first round."""
        ...

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Send and merge after the local steps of a round; pass the merge to `model.try_diluted`."""
        ...

    def finish(self) -> Generator[Step, Inbox, None]:
        """Run the steps after the last round."""
        ...

    def own_expert(self) -> Expert:
        """The adapter with which this device answers its own task."""
        ...

    def experts(self) -> Sequence[Expert]:
        """All adapters with which this device can answer, in the order of the router's gates."""
        ...


class Method(Protocol):
    """A method as the scenario describes it; one file per row of the table of methods.

    Its class may also declare limits on other sections: `waits_for_all: ClassVar[bool]` (there is no
    asynchronous schedule), `own_router: ClassVar[str]` (the kind of router that answers in place of the
    scenario's), `loss_conflict(policy) -> str` (why a policy for lost coordinates does not fit the
    method; empty if it fits) and `orthogonal_blocks(tasks, devices) -> int` (the number of orthogonal
    projections that each module must have room for). `planned_by_rounds: tuple[str, ...]` names what the
    setup derives from the planned number of rounds, `plan(total_steps) -> Method` gives the same method
    with such defaults written out, and `find_end_difference(rounds_done) -> str` says what a round does
    only if it is, or is not, the last (empty: nothing). Without these a run that goes on for more rounds,
    or ends after fewer, ends as one that was planned for them.
    """

    topology_by_default: ClassVar[str]
    """The graph that `topology: by_method` selects: clusters, tasks, random_regular or none."""
    routes: ClassVar[bool]
    """Whether devices end with several experts, among which a router chooses."""

    @property
    def kind(self) -> str:
        """The method's name in YAML."""
        ...

    def start(self, ctx: DeviceContext) -> AdapterMethod:
        """Adapt the device's backbone and return its part."""
        ...
