"""What a method offers."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import ClassVar, Protocol

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.result import Expert
from emulator.core.types.steps import Inbox, State, Step


class Stateful(Protocol):
    """What takes part in checkpoints."""

    def state(self) -> State:
        """All that later rounds depend on besides the scenario, as a tree of plain values.

        See core/state_file.py for what a tree may hold. It is asked for after a round.
        """
        ...

    def restore(self, state: State) -> None:
        """Go on from a state, in the place of the setup."""
        ...


class AdapterMethod(Stateful, Protocol):
    """One device's part in a method: what is trained, sent and merged."""

    def setup(self) -> Generator[Step, Inbox, None]:
        """All that happens once, before the first round."""
        ...

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Send and merge after the local steps of a round; `model.try_diluted` gets its merge."""
        ...

    def finish(self) -> Generator[Step, Inbox, None]:
        """All that happens once, after the last round."""
        ...

    def own_expert(self) -> Expert:
        """The adapter this device answers its own task with."""
        ...

    def experts(self) -> Sequence[Expert]:
        """All adapters this device can answer with, in the order of the router's gates."""
        ...


class Method(Protocol):
    """A method as the scenario describes it; one file per row of the table of methods.

    Its class may also say what it cannot do with other sections: `waits_for_all: ClassVar[bool]` (no
    asynchronous schedule), `own_router: ClassVar[str]` (the kind of router that answers, whatever the
    scenario asks for), `loss_conflict(policy) -> str` (why a policy for lost coordinates has no meaning
    under it; empty where it has one) and `orthogonal_blocks(tasks, devices) -> int` (how many
    orthogonal projections have to fit into each module).
    """

    topology_by_default: ClassVar[str]
    """Which graph `topology: by_method` means: clusters, tasks, random_regular or none."""
    routes: ClassVar[bool]
    """Whether it ends with several experts between which a router chooses."""

    @property
    def kind(self) -> str:
        """The method's name in YAML."""
        ...

    def start(self, ctx: DeviceContext) -> AdapterMethod:
        """Adapt the device's backbone and return its part."""
        ...
