"""The interface between a method and its device: a few small parts with one purpose each.

A method calls everything that other packages compute for it through these parts; emulator/device.py
builds them. Shapes: L adapted modules, M devices, N coordinates of the trained vector.
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
        """The model that `lora` or `full` made."""
        ...

    def lora(self, lora_rank: int, lora_alpha: int, trained: Sequence[str]) -> LowRankModel:
        """Adapt the backbone with LoRA layers and train the named sides, `lora_A` or `lora_B`."""
        ...

    def full(self, max_parameters: int) -> AdaptedModel:
        """Train all weights of the backbone. Raises ScenarioError if it has more parameters."""
        ...

    def common_start(self, lora_rank: int) -> dict[str, FloatArray]:
        """Initial values of A by layer name, drawn from the seed and equal on all devices."""
        ...

    def train(self, steps: int) -> float:
        """Take local steps before the rounds (a warm-up); the first rounds then take fewer steps.

        The steps use emulated time and energy. Returns the mean loss.
        """
        ...

    def mark_start(self) -> None:
        """Take the present vector as the start of the rounds.

        A method that later starts from a new adapter calls this again.
        """
        ...

    def try_diluted(
        self, merged: Callable[[Sequence[Received]], FloatArray], received: Sequence[Received]
    ) -> None:
        """Measure the dilution control if `evaluation` asks for it. The model does not change.

        merged: the merge of this exchange, from received messages to the vector to be loaded [N]
        float32. It is called with messages that hold the device's own vector from before this round's
        steps. Call this between receiving and loading, in every exchange with a merge.
        """
        ...


class SparsityContext(Protocol):
    """Frozen projections, and the entries of B that are kept; only sparse methods use this."""

    def projection(
        self, kind: str, lora_rank: int, num_blocks: int, block: int
    ) -> dict[str, FloatArray]:
        """The frozen A of one of `num_blocks` blocks, by layer name. kind: orthogonal or gaussian."""
        ...

    def projection_overlap(self, kind: str, lora_rank: int, num_blocks: int) -> float:
        """The largest ||A_i A_j^T||_2 / gamma^2 over all pairs of blocks and all modules."""
        ...

    def entropies(self, ridge: float) -> DoubleArray:
        """Spectral entropy of each module on a sample of the device's training data [L] (Eq 20, 21)."""
        ...

    def density_counts(
        self, allocation: str, budget: int, temperature: float, entropies_L: DoubleArray
    ) -> IndexArray:
        """Number of entries of B that each module keeps under a budget [L] (Eq 22).

        allocation: spectral, printed, or uniform, which does not use the entropies.
        """
        ...

    def largest_entries(self, counts_L: IndexArray, free_N: BoolArray) -> Mask:
        """The mask of the largest trained entries in each module, among the free entries."""
        ...

    def largest_of_all(self, count: int) -> Mask:
        """The mask of the largest trained entries of all modules together."""
        ...

    def random_entries(self, counts_L: IndexArray) -> Mask:
        """A mask of random entries in each module; the seed and the device determine the draw."""
        ...


class NetworkContext(Protocol):
    """The other devices: their positions, the links between devices, and exchanges of messages."""

    @property
    def position_m(self) -> tuple[float, float]:
        """The present position of this device: x and y [m]."""
        ...

    def flood(
        self, body: bytes, traffic: Traffic = Traffic.SETUP
    ) -> Generator[Step, Inbox, dict[int, bytes]]:
        """Send a few bytes to all devices, hop by hop. Returns the bytes of every device by its id."""
        ...

    def update_survey(
        self,
        samples: Sequence[int],
        groups: Sequence[int],
        densities_ML: DoubleArray,
        planned: Sequence[Message],
        time_s: float = 0.0,
    ) -> None:
        """Store the data of the introductions, with path gains and powers at a common time [s].

        samples and groups: training examples and task group of each device [M]. planned: the message
        that each device will send in a round [M].
        """
        ...

    def links(self, round_index: int) -> tuple[Link, ...]:
        """All links of a round under the scenario's topology; empty before a survey."""
        ...

    def form_clusters(self, round_index: int) -> tuple[tuple[int, ...], ...]:
        """Form the clusters of the survey, each sorted, and record them under a round.

        A topology without clusters gives one cluster of all devices. Raises EmulatorError before a survey.
        """
        ...

    def exchange(
        self, messages: Sequence[Message], wait_for: Sequence[int], known: Sequence[Fact] = ()
    ) -> Generator[Step, Inbox, tuple[Received, ...]]:
        """Send messages and wait for messages of other devices; the clock moves to the last arrival.

        known: masks and layouts that received messages may name by their digest. In asynchronous rounds
        a device does not wait; a sender may then have several messages in the result, or none.
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

        With `wire.error_feedback` the rounding error of earlier rounds is added before sending.
        """
        ...


class WireContext(Protocol):
    """The format in which values are sent."""

    @property
    def lost_coordinates(self) -> LostCoordinates:
        """How receivers treat coordinates whose packets were lost."""
        ...

    def value_type(self, kind: Kind = Kind.VALUES) -> ValueType:
        """The number type in which adapter values, or routing statistics, are sent."""
        ...

    def as_received(self, values_N: FloatArray, kind: Kind = Kind.VALUES) -> FloatArray:
        """Values rounded to the type in which they are sent, as every receiver gets them [N]."""
        ...

    def affordable_values(self, neighbours: int) -> int:
        """Number of values that the device can train (Eq 7) and send to its neighbours (Eq 11)."""
        ...


class RouterContext(Protocol):
    """The router that chooses among experts, for methods that end with several experts."""

    def statistics(self) -> tuple[AdapterLayout, FloatArray]:
        """Additive statistics of the device's training prompts; empty if the router needs none."""
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
    """The parts of a device that its method uses."""

    @property
    def info(self) -> DeviceInfo:
        """The constants of the device and the run."""
        ...

    @property
    def progress(self) -> DeviceProgress:
        """The round, the clock, and the energy and bytes spent; methods only read it."""
        ...

    @property
    def model(self) -> ModelContext:
        """The device's own model."""
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
        """The format in which values are sent."""
        ...

    @property
    def router(self) -> RouterContext:
        """The router between experts."""
        ...

    @property
    def log(self) -> LogContext:
        """Metrics."""
        ...
