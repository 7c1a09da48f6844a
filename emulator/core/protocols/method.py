"""What a method offers, and what it may use of its device.

Shapes: N adapter coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import ClassVar, Protocol

from emulator.core.protocols.backbone import AdaptedModel, LowRankModel
from emulator.core.types.adapter import AdapterLayout, LostCoordinates, Mask
from emulator.core.types.arrays import BoolArray, DoubleArray, FloatArray, IndexArray
from emulator.core.types.data import Shard
from emulator.core.types.message import Fact, Kind, Message, Received, Traffic, ValueType
from emulator.core.types.result import Expert
from emulator.core.types.steps import Inbox, Step
from emulator.core.types.survey import Link, Survey


class Own(Protocol):
    """What a method may use of the device that runs it (device.py provides it).

    All that other packages compute for a method is reached through here, so that a method reads like
    its algorithm and imports none of them. round_index: SETUP_ROUND before the rounds and after them.
    """

    id: int
    devices: int
    seed: int
    task_names: tuple[str, ...]
    shard: Shard
    adapted: AdaptedModel
    survey: Survey | None
    rounds: int
    round_index: int
    total_steps: int
    now_s: float
    max_power_w: float
    lost_coordinates: LostCoordinates

    @property
    def position_m(self) -> tuple[float, float]:
        """Where it is now, x and y [m]."""
        ...

    # its own model
    def adapt(self, lora_rank: int, lora_alpha: int, trained: Sequence[str]) -> LowRankModel:
        """The backbone with LoRA layers of which the named sides are trained."""
        ...

    def adapt_all(self, max_parameters: int) -> AdaptedModel:
        """The backbone with all its weights trained. Raises ScenarioError when they are more."""
        ...

    def projection(
        self, kind: str, lora_rank: int, num_blocks: int, block: int
    ) -> dict[str, FloatArray]:
        """The static projections A of one block, by layer name."""
        ...

    def projection_overlap(self, kind: str, lora_rank: int, num_blocks: int) -> float:
        """The largest ||A_i A_j^T||_2 / gamma^2 over all blocks and modules."""
        ...

    def common_start(self, lora_rank: int) -> dict[str, FloatArray]:
        """One seeded start of A that all devices share, by layer name."""
        ...

    def kept_counts(
        self, allocation: str, budget: int, temperature: float, ridge: float
    ) -> IndexArray:
        """Entries of B to keep in each module under a budget, from this device's own data [L]."""
        ...

    def parameter_budget(self, neighbours: int) -> int:
        """How many values the device can afford to train and to send to so many neighbours."""
        ...

    def largest_entries(self, counts_L: IndexArray, free_N: BoolArray) -> Mask:
        """The mask of the largest trained entries in each module, of those that are free."""
        ...

    def random_entries(self, counts_L: IndexArray) -> Mask:
        """A mask of so many random entries in each module, keyed by the device."""
        ...

    def largest_of_all(self, count: int) -> Mask:
        """The mask of the largest trained entries, wherever they are."""
        ...

    def train(self, steps: int) -> float:
        """Local steps; time and energy pass. Returns the mean loss."""
        ...

    def start_rounds(self) -> None:
        """Remember where the rounds start from; for a method that starts afresh, also later on."""
        ...

    def measure_modules(self, metric: str, values_L: DoubleArray) -> None:
        """Put one value of the setup for each module into the records, as METRIC/MODULE."""
        ...

    def measure(self, metric: str, value: float, round_index: int, task: str = "") -> None:
        """Put a value into the records."""
        ...

    # the others
    def introduce(
        self, body: bytes, traffic: Traffic = Traffic.SETUP
    ) -> Generator[Step, Inbox, dict[int, bytes]]:
        """Flood a few bytes through the network; returns everybody's by device id."""
        ...

    def survey_of(
        self,
        samples: Sequence[int],
        blocks: Sequence[int],
        densities_ML: DoubleArray,
        planned: Sequence[Message],
        time_s: float = 0.0,
    ) -> Survey:
        """What the introductions tell, with gains and required powers at a time that all agree on."""
        ...

    def links(self, round_index: int) -> tuple[Link, ...]:
        """All links of the round under the scenario's topology."""
        ...

    def clusters(self, round_index: int) -> tuple[tuple[int, ...], ...]:
        """The clusters of the survey, each sorted, to be measured under a round."""
        ...

    def exchange(
        self, messages: Sequence[Message], wait_for: Sequence[int], known: Sequence[Fact] = ()
    ) -> Generator[Step, Inbox, tuple[Received, ...]]:
        """Send and wait; the clock moves on to the last arrival."""
        ...

    def try_diluted(self, merged: Callable[[FloatArray], FloatArray], round_index: int) -> None:
        """The dilution control; between receiving and loading what was merged.

        merged: the merge of this exchange with one vector [N] in the place of every received one, where
        something was received; it returns what would be loaded [N], float32. See learning/probes.py.
        """
        ...

    def value_type(self, kind: Kind = Kind.VALUES) -> ValueType:
        """How adapter values, or routing statistics, travel."""
        ...

    def to_send(self, vector_N: FloatArray) -> FloatArray:
        """The trained vector, with error feedback plus what rounding has held back; once a round."""
        ...

    def as_received(self, values: FloatArray, kind: Kind = Kind.VALUES) -> FloatArray:
        """Values as every receiver will see them (rounded to the wire's type)."""
        ...

    def router_statistics(self) -> tuple[AdapterLayout, FloatArray]:
        """Additive statistics of own training prompts; empty where the router needs none."""
        ...

    def use_router_statistics(self, statistics: FloatArray) -> None:
        """Fit the router to the summed statistics of all devices."""
        ...


class AdapterMethod(Protocol):
    """One device's part in a method: what is trained, sent and merged."""

    def setup(self) -> Generator[Step, Inbox, None]:
        """All that happens once, before the first round."""
        ...

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Send and merge after the local steps of a round; `own.try_diluted` gets its merge."""
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

    def start(self, own: Own) -> AdapterMethod:
        """Adapt the device's backbone and return its part."""
        ...
