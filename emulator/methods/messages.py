"""The messages that methods exchange, each as one constructor."""

import numpy as np

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Kind, Message, Traffic


def values_message(
    ctx: DeviceContext, mask: Mask, values_n: FloatArray, receivers: tuple[int, ...]
) -> Message:
    """The trained entries of a mask after a round; the receivers know the mask.

    Lost packets stay lost, unless `wire.lost_coordinates` is retransmit.
    """
    return Message(
        kind=Kind.VALUES,
        traffic=Traffic.IN_CLUSTER,
        source=ctx.info.id,
        origin=ctx.info.id,
        round_index=ctx.progress.round_index,
        receivers=receivers,
        layout=ctx.model.adapted.layout,
        mask=mask,
        values=values_n,
        value_type=ctx.wire.value_type(),
        mask_known=True,
        reliable=ctx.wire.lost_coordinates == "retransmit",
    )


def planned_message(ctx: DeviceContext, count: int) -> Message:
    """A message as long as that of a round, before masks are known. count: entries."""
    mask = Mask(ctx.model.adapted.layout.size, np.arange(count, dtype=np.int64))
    return values_message(ctx, mask, np.zeros(count, dtype=np.float32), ())


def mask_message(ctx: DeviceContext, mask: Mask, receivers: tuple[int, ...]) -> Message:
    """The coordinates that a device keeps; repeated until it arrives."""
    return Message(
        kind=Kind.MASK,
        traffic=Traffic.SETUP,
        source=ctx.info.id,
        origin=ctx.info.id,
        round_index=ctx.progress.round_index,
        receivers=receivers,
        layout=ctx.model.adapted.layout,
        mask=mask,
        values=None,
        value_type=ctx.wire.value_type(),
        mask_known=False,
        reliable=True,
    )


def expert_message(
    ctx: DeviceContext,
    origin: int,
    round_index: int,
    mask: Mask,
    values_n: FloatArray,
    receivers: tuple[int, ...],
    *,
    mask_known: bool,
) -> Message:
    """An expert between clusters; its mask is sent along only where receivers do not know it."""
    return Message(
        kind=Kind.EXPERT,
        traffic=Traffic.INTER_CLUSTER,
        source=ctx.info.id,
        origin=origin,
        round_index=round_index,
        receivers=receivers,
        layout=ctx.model.adapted.layout,
        mask=mask,
        values=values_n,
        value_type=ctx.wire.value_type(),
        mask_known=mask_known,
        reliable=True,
    )


def statistics_message(
    ctx: DeviceContext,
    traffic: Traffic,
    origin: int,
    round_index: int,
    layout: AdapterLayout,
    statistics: FloatArray,
    receivers: tuple[int, ...],
) -> Message:
    """Additive routing statistics."""
    return Message(
        kind=Kind.STATISTICS,
        traffic=traffic,
        source=ctx.info.id,
        origin=origin,
        round_index=round_index,
        receivers=receivers,
        layout=layout,
        mask=Mask.full(layout.size),
        values=statistics,
        value_type=ctx.wire.value_type(Kind.STATISTICS),
        mask_known=True,
        reliable=True,
    )
