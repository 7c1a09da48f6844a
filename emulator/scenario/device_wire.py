"""The format in which one device sends values. Shapes: N coordinates of the trained vector."""

from functools import partial

import numpy as np

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import LostCoordinates, Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Kind, ValueType
from emulator.methods.messages import planned_message
from emulator.network.wire import quantise
from emulator.scenario.world import World


class DeviceWire:
    """`core.protocols.context.WireContext`."""

    def __init__(self, world: World, ctx: DeviceContext) -> None:
        self._world = world
        self._ctx = ctx
        self._format = world.scenario.wire

    @property
    def lost_coordinates(self) -> LostCoordinates:
        """How receivers treat coordinates whose packets were lost."""
        return self._format.lost_coordinates

    def value_type(self, kind: Kind = Kind.VALUES) -> ValueType:
        """The number type in which adapter values, or routing statistics, are sent."""
        return self._format.type_of(kind)

    def as_received(self, values_N: FloatArray, kind: Kind = Kind.VALUES) -> FloatArray:
        """Values rounded to the type in which they are sent, as every receiver gets them [N]."""
        layout = self._ctx.model.adapted.layout
        rounded_N = quantise(values_N, self.value_type(kind), layout, Mask.full(layout.size))
        return np.asarray(rounded_N, dtype=np.float32)

    def affordable_values(self, neighbours: int) -> int:
        """Number of values that the device can train (Eq 7) and send to its neighbours (Eq 11)."""
        planned = partial(planned_message, self._ctx)
        most = self._ctx.model.adapted.layout.size
        return self._world.parameter_budget(self._ctx.info.id, most, neighbours, planned)
