"""The doors: what a plug-in must offer. Tensor types appear for the type checker only.

Every built-in is a frozen pydantic model that its section of the scenario fills; a user's own class
is named by its import path (`kind: mypackage.channels:Urban`).
Shapes: S sequences, T tokens, H hidden width, E experts, M devices, N adapter coordinates.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from emulator.state import (
    AdapterLayout,
    BoolArray,
    Burst,
    Commit,
    DeviceResult,
    DoubleArray,
    Example,
    Expert,
    FloatArray,
    Grant,
    Inbox,
    Link,
    LinkRecord,
    Mask,
    Message,
    Packet,
    Reception,
    Request,
    Send,
    Shard,
    Step,
    Survey,
)
from emulator.streams import Stream

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Life = Generator[Step, Inbox, DeviceResult]
"""A device's life: yields steps; a Send is answered by its Inbox, a Commit by an empty one."""

Talk = Generator[Send, Inbox, Inbox]
"""One or more exchanges inside a life, written with `yield from`."""


@runtime_checkable
class Topology(Protocol):
    """The whole directed graph of a round, computed alike at every device."""

    def links(self, round_index: int, survey: Survey) -> tuple[Link, ...]:
        """All links of the round, sorted by (receiver, sender)."""
        ...


@runtime_checkable
class Access(Protocol):
    """Who is on the air when, on which band. Pure: same requests, same grants."""

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """Grants in the order of the requests of one contention domain; powers still at 0."""
        ...


@runtime_checkable
class ChannelModel(Protocol):
    """The air itself. Pure: same packets, grant and seed give the same reception."""

    def positions_m(self, devices: int, seed: int) -> DoubleArray:
        """Where the devices stand [M, 2]."""
        ...

    def mean_gain(self, positions_m: DoubleArray) -> DoubleArray:
        """Linear power gain without small-scale fading [M, M], diagonal 0, symmetric."""
        ...

    def required_power_w(
        self, gain: DoubleArray, num_bytes: int, neighbours: int, bandwidth_hz: float
    ) -> DoubleArray:
        """Least power that meets the deadline when a sender serves so many neighbours at once."""
        ...

    def set_powers(
        self, grants: Sequence[Grant], requests: Sequence[Request], seed: int
    ) -> tuple[Grant, ...]:
        """The grants of one sender with their transmit powers, together at most max_power_w."""
        ...

    def transmit(self, packets: Sequence[Packet], grant: Grant, seed: int) -> Reception:
        """What becomes of the packets of one grant."""
        ...


class Batch(Protocol):
    """Whatever a task makes of some examples; opaque to everybody else."""


class LoadedBackbone(Protocol):
    """A frozen model and what belongs to it. `family`: causal_lm or sentence_encoder."""

    model: Module
    tokenizer: Any
    family: str
    name: str
    target_modules: tuple[str, ...]

    def prompt_states(self, texts: Sequence[str], layer: int) -> Tensor:
        """Mean hidden state of each text over its tokens at a layer [S, H], of the frozen model."""
        ...


class TaskSuite(Protocol):
    """The tasks of a scenario: their names and their data."""

    def names(self) -> tuple[str, ...]:
        """All tasks, in the order in which devices take them."""
        ...

    def examples(self, task: str, split: str, seed: int) -> tuple[Example, ...]:
        """All examples of one task; split is `train` or `test`."""
        ...


class Task(Protocol):
    """How a backbone family learns from examples and is scored on them."""

    def batches(self, shard: Shard, batch_size: int, stream: Stream) -> Iterator[Batch]:
        """Endless training batches of one shard, each epoch shuffled anew by the stream."""
        ...

    def loss(self, model: Module, batch: Batch) -> Tensor:
        """Mean training loss, shape ()."""
        ...

    def predict(self, model: Module, examples: Sequence[Example]) -> tuple[str, ...]:
        """The model's answer to each example."""
        ...

    def router_text(self, example: Example) -> str:
        """The input as the model sees it, choices included and the answer not."""
        ...

    def score(
        self, predictions: Sequence[str], references: Sequence[Example]
    ) -> Mapping[str, float]:
        """Metric name -> value in [0, 1]."""
        ...


class AdaptedModel(Protocol):
    """A backbone with LoRA layers whose trained entries are one flat vector."""

    module: Module
    layout: AdapterLayout

    def vector(self) -> FloatArray:
        """The trained entries [N], copied."""
        ...

    def load(self, vector_N: FloatArray) -> None:
        """Overwrite the trained entries; the optimiser keeps its state."""
        ...

    def restrict(self, mask: Mask) -> None:
        """Set B to zero, from now on train and hold only the kept entries, optimiser fresh."""
        ...


class Own(Protocol):
    """What a method may use of the device that runs it; device.py provides it."""

    id: int
    devices: int
    seed: int
    shard: Shard
    adapted: AdaptedModel
    now_s: float


@runtime_checkable
class AdapterMethod(Protocol):
    """What is trained, sent and merged; one file per row of the table of methods."""

    def attach(self, backbone: LoadedBackbone, own: Any) -> AdaptedModel:
        """Adapt the backbone for this device."""
        ...

    def setup(self, own: Any) -> Generator[Step, Inbox, None]:
        """All that happens once, before the first round."""
        ...

    def exchange(self, own: Any, round_index: int) -> Generator[Step, Inbox, None]:
        """Send and merge at the end of a round."""
        ...

    def finish(self, own: Any) -> Generator[Step, Inbox, None]:
        """All that happens once, after the last round."""
        ...

    def experts(self, own: Any) -> Sequence[Expert]:
        """The adapters this device can answer with."""
        ...


@runtime_checkable
class Router(Protocol):
    """Which expert answers. Rows sum to one; a row of zeros abstains to the backbone."""

    def gates(self, features_SH: Tensor, experts: Sequence[Expert]) -> Tensor:
        """Gate values [S, E]."""
        ...


class Air(Protocol):
    """The channel shim as drivers see it: one per device."""

    def emit(
        self, send: Send, exchange_index: int
    ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
        """Put a Send on the air: one burst per receiver, and what it cost."""
        ...

    def collect(self, send: Send, bursts: Sequence[Burst]) -> Inbox:
        """Turn the bursts that a Send waited for into its inbox."""
        ...


class Wire(Protocol):
    """Messages to packets and back."""

    def encode(self, message: Message) -> tuple[Packet, ...]:
        """The packets of a message; the first holds the message header and is reliable."""
        ...


__all__ = [
    "Access", "AdaptedModel", "AdapterMethod", "Air", "Batch", "BoolArray", "ChannelModel", "Commit",
    "Life", "LoadedBackbone", "Own", "Router", "Talk", "Task", "TaskSuite", "Topology", "Wire",
]  # fmt: skip
