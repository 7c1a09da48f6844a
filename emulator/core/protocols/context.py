"""What a method may use of its device: seven small parts, each for one question.

A method reads like its algorithm because all that other packages compute for it is reached through
here. device.py builds the parts. Shapes: L adapted modules, M devices, N coordinates of the trained
vector.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from emulator.core.protocols.backbone import AdaptedModel, LowRankModel
from emulator.core.types.adapter import AdapterLayout, LostCoordinates, Mask
from emulator.core.types.arrays import BoolArray, DoubleArray, FloatArray, IndexArray
from emulator.core.types.device import DeviceInfo, DeviceProgress
from emulator.core.types.exchange import Shared
from emulator.core.types.message import Fact, Kind, Message, Received, Traffic, ValueType
from emulator.core.types.steps import Inbox, Step
from emulator.core.types.survey import Link


class ModelContext(Protocol):
    """The device's own model and its local training."""

    @property
    def adapted(self) -> AdaptedModel:
        """What `lora` or `full` made."""
        ...

    def lora(self, lora_rank: int, lora_alpha: int, trained: Sequence[str]) -> LowRankModel:
        """Adapt the backbone with LoRA layers and train the named sides, `lora_A` or `lora_B`."""
        ...

    def full(self, max_parameters: int) -> AdaptedModel:
        """Train all weights of the backbone. Raises ScenarioError where they are more."""
        ...

    def common_start(self, lora_rank: int) -> dict[str, FloatArray]:
        """A seeded start of A that is the same on all devices, by layer name."""
        ...

    def train(self, steps: int) -> float:
        """Take local steps before the rounds (a warm-up); the first rounds then take fewer.

        Emulated time and energy pass. Returns the mean loss.
        """
        ...

    def mark_start(self) -> None:
        """Take the present vector as the start of the rounds; a method that starts afresh calls it again."""
        ...

    def try_diluted(
        self, merged: Callable[[Sequence[Received]], FloatArray], received: Sequence[Received]
    ) -> None:
        """Measure the dilution control, where `evaluation` asks for it; the model stays as it is.

        merged: the merge of this exchange, from received messages to the vector to be loaded [N]
        float32. It is called with messages that hold the own vector from before this round's steps. To
        be called between receiving and loading, in exchanges in which something is merged.
        """
        ...


class SparsityContext(Protocol):
    """Frozen projections, and which entries of B are kept; only sparse methods need it."""

    def projection(
        self, kind: str, lora_rank: int, num_blocks: int, block: int
    ) -> dict[str, FloatArray]:
        """The frozen A of one of so many blocks, by layer name. kind: orthogonal or gaussian."""
        ...

    def projection_overlap(self, kind: str, lora_rank: int, num_blocks: int) -> float:
        """The largest ||A_i A_j^T||_2 / gamma^2 over all pairs of blocks and all modules."""
        ...

    def entropies(self, ridge: float) -> DoubleArray:
        """Spectral entropy of each module on a sample of the own training data [L] (Eq 20, 21)."""
        ...

    def density_counts(
        self, allocation: str, budget: int, temperature: float, entropies_L: DoubleArray
    ) -> IndexArray:
        """How many entries of B each module keeps of a budget [L] (Eq 22).

        allocation: spectral, printed, or uniform, which does not use the entropies.
        """
        ...

    def largest_entries(self, counts_L: IndexArray, free_N: BoolArray) -> Mask:
        """The mask of the largest trained entries in each module, among those that are free."""
        ...

    def largest_of_all(self, count: int) -> Mask:
        """The mask of the largest trained entries of all modules together."""
        ...

    def random_entries(self, counts_L: IndexArray) -> Mask:
        """A mask of random entries in each module, drawn by the seed and the device."""
        ...


class NetworkContext(Protocol):
    """The other devices: where they are, who is linked to whom, and exchanges with them."""

    @property
    def position_m(self) -> tuple[float, float]:
        """Where this device is now: x and y [m]."""
        ...

    def flood(
        self, body: bytes, traffic: Traffic = Traffic.SETUP
    ) -> Generator[Step, Inbox, dict[int, bytes]]:
        """Send a few bytes to all devices, hop by hop; returns the bytes of each by device id."""
        ...

    def update_survey(
        self,
        samples: Sequence[int],
        groups: Sequence[int],
        densities_ML: DoubleArray,
        planned: Sequence[Message],
        time_s: float = 0.0,
    ) -> None:
        """Take what devices introduced as known, with path gains and powers at a common time [s].

        samples and groups: training examples and task group of each device [M]. planned: the message that each will send in a round [M].
        """
        ...

    def links(self, round_index: int) -> tuple[Link, ...]:
        """All links of a round under the scenario's topology; none before a survey."""
        ...

    def form_clusters(self, round_index: int) -> tuple[tuple[int, ...], ...]:
        """Form the clusters of the survey, each sorted, and record them under a round.

        A topology without clusters makes one of all devices. Raises EmulatorError before a survey.
        """
        ...

    def exchange(
        self, messages: Sequence[Message], wait_for: Sequence[int], known: Sequence[Fact] = ()
    ) -> Generator[Step, Inbox, tuple[Received, ...]]:
        """Send messages and wait for those of others; the clock moves on to the last arrival.

        known: masks and layouts that received messages may name by their digest. In asynchronous rounds
        a device does not wait: there may be several messages of a sender, or none.
        """
        ...

    def share(
        self,
        mask: Mask,
        vector_N: FloatArray,
        receivers: Sequence[int],
        senders: Sequence[int],
        known: Sequence[Fact] = (),
    ) -> Generator[Step, Inbox, Shared]:
        """Exchange one vector in a round: send the entries of a mask, receive those of the senders.

        With `wire.error_feedback` what rounding held back in earlier rounds is added before sending.
        """
        ...


class WireContext(Protocol):
    """How values travel."""

    @property
    def lost_coordinates(self) -> LostCoordinates:
        """What receivers do about coordinates whose packets were lost."""
        ...

    def value_type(self, kind: Kind = Kind.VALUES) -> ValueType:
        """The type in which adapter values, or routing statistics, are sent."""
        ...

    def as_received(self, values_N: FloatArray, kind: Kind = Kind.VALUES) -> FloatArray:
        """Values rounded to that type, as every receiver gets them [N]."""
        ...

    def affordable_values(self, neighbours: int) -> int:
        """How many values the device can train (Eq 7) and send to so many neighbours (Eq 11)."""
        ...


class RouterContext(Protocol):
    """The router between experts, for methods that end with several."""

    def statistics(self) -> tuple[AdapterLayout, FloatArray]:
        """Additive statistics of the own training prompts; empty where the router needs none."""
        ...

    def fit(self, statistics: FloatArray) -> None:
        """Fit the router to the statistics summed over all devices."""
        ...


class LogContext(Protocol):
    """The metrics of a run (metrics.parquet)."""

    def metric(self, name: str, value: float, round_index: int, task: str = "") -> None:
        """Record one value."""
        ...

    def per_module(self, name: str, values_L: DoubleArray) -> None:
        """Record one value of the setup for each adapted module, as NAME/MODULE."""
        ...


class DeviceContext(Protocol):
    """A device as its method sees it."""

    @property
    def info(self) -> DeviceInfo:
        """What never changes."""
        ...

    @property
    def progress(self) -> DeviceProgress:
        """The round, the clock and what was spent; to be read only."""
        ...

    @property
    def model(self) -> ModelContext:
        """The own model."""
        ...

    @property
    def sparsity(self) -> SparsityContext:
        """Projections and masks."""
        ...

    @property
    def network(self) -> NetworkContext:
        """The other devices."""
        ...

    @property
    def wire(self) -> WireContext:
        """How values travel."""
        ...

    @property
    def router(self) -> RouterContext:
        """The router between experts."""
        ...

    @property
    def log(self) -> LogContext:
        """Metrics."""
        ...
