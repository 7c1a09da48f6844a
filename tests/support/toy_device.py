"""A device context for tests of methods: a real wire and real exchanges, and a model that is a vector."""

from collections.abc import Generator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from emulator.core.metric_log import MetricLog
from emulator.core.types.adapter import AdapterLayout
from emulator.core.types.arrays import FloatArray
from emulator.core.types.device import DeviceProgress
from emulator.core.types.message import Fact, Message, Received
from emulator.core.types.steps import Inbox, Step
from emulator.core.types.survey import Link
from emulator.network.wire import WireFormat
from emulator.scenario.device_network import DeviceNetwork
from emulator.scenario.device_wire import DeviceWire


class ToyNetwork(DeviceNetwork):
    """The real exchanges, under given links. sent: the messages of every exchange."""

    def __init__(self, world: Any, ctx: Any, model: Any, links: Sequence[Link]) -> None:
        super().__init__(world, ctx, model)
        self.given_links = tuple(links)
        self.sent: list[tuple[Message, ...]] = []

    def links(self, round_index: int) -> tuple[Link, ...]:
        return self.given_links

    def exchange(
        self, messages: Sequence[Message], wait_for: Sequence[int], known: Sequence[Fact] = ()
    ) -> Generator[Step, Inbox, tuple[Received, ...]]:
        self.sent.append(tuple(messages))
        return (yield from super().exchange(messages, wait_for, known))


class ToyModel:
    """A model of which all trained entries are one given vector."""

    def __init__(self, layout: AdapterLayout, vector_N: FloatArray) -> None:
        self.vector_N = vector_N
        self.held_back_N = np.zeros_like(vector_N)
        self.adapted = SimpleNamespace(
            layout=layout, module_names=layout.names, vector=self.vector, load=self.load
        )

    def vector(self) -> FloatArray:
        return self.vector_N.copy()

    def load(self, vector_N: FloatArray) -> None:
        self.vector_N = vector_N

    def mark_start(self) -> None:
        self.held_back_N = np.zeros_like(self.vector_N)

    def try_diluted(self, *_: object) -> None:
        pass


class ToyDevice:
    """As much of a device as exchanges ask for."""

    def __init__(
        self,
        device: int,
        layout: AdapterLayout,
        wire: WireFormat,
        vector_N: FloatArray | None = None,
        links: Sequence[Link] = (),
        model: Any = None,
        **info: Any,
    ) -> None:
        """info: more fields of `DeviceInfo`. model: instead of a vector."""
        self.info = cast(Any, SimpleNamespace(id=device, seed=5, **info))
        self.progress = DeviceProgress(rounds=3)
        zeros_N = np.zeros(layout.size, dtype=np.float32)
        self.model = model or ToyModel(layout, zeros_N if vector_N is None else vector_N)
        self.log = MetricLog(device, lambda: layout.names)
        world = cast(Any, SimpleNamespace(scenario=SimpleNamespace(wire=wire, schedule=None)))
        self.wire = DeviceWire(world, self)
        self.network = ToyNetwork(world, self, self.model, links)
        self.sparsity = self.router = cast(Any, None)

    @property
    def messages(self) -> list[Message]:
        """All that was sent, in order."""
        return [message for sent in self.network.sent for message in sent]
