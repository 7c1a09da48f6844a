"""The sentences that methods say to each other, each as one constructor of a Message."""

import numpy as np

from emulator.core.protocols.method import Own
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Kind, Message, Traffic


def values_message(
    own: Own, round_index: int, mask: Mask, values_n: FloatArray, receivers: tuple[int, ...]
) -> Message:
    """My trained entries after a round; who hears them knows my mask.

    Lost packets stay lost, unless `wire.lost_coordinates` is retransmit.
    """
    return Message(
        kind=Kind.VALUES,
        traffic=Traffic.IN_CLUSTER,
        source=own.id,
        origin=own.id,
        round_index=round_index,
        receivers=receivers,
        layout=own.adapted.layout,
        mask=mask,
        values=values_n,
        value_type=own.value_type(),
        mask_known=True,
        reliable=own.lost_coordinates == "retransmit",
    )


def planned_message(own: Own, count: int) -> Message:
    """A round's message before masks are known: as many entries, so as many bytes."""
    mask = Mask(own.adapted.layout.size, np.arange(count, dtype=np.int64))
    return values_message(own, 0, mask, np.zeros(count, dtype=np.float32), ())


def mask_message(own: Own, mask: Mask, receivers: tuple[int, ...]) -> Message:
    """The coordinates I keep; said once, repeated until it arrives."""
    return Message(
        kind=Kind.MASK,
        traffic=Traffic.SETUP,
        source=own.id,
        origin=own.id,
        round_index=own.round_index,
        receivers=receivers,
        layout=own.adapted.layout,
        mask=mask,
        values=None,
        value_type=own.value_type(),
        mask_known=False,
        reliable=True,
    )


def expert_message(
    own: Own,
    origin: int,
    round_index: int,
    mask: Mask,
    values_n: FloatArray,
    receivers: tuple[int, ...],
    *,
    mask_known: bool,
) -> Message:
    """An expert on its way between clusters; its mask travels along only where it is news."""
    return Message(
        kind=Kind.EXPERT,
        traffic=Traffic.INTER_CLUSTER,
        source=own.id,
        origin=origin,
        round_index=round_index,
        receivers=receivers,
        layout=own.adapted.layout,
        mask=mask,
        values=values_n,
        value_type=own.value_type(),
        mask_known=mask_known,
        reliable=True,
    )


def statistics_message(
    own: Own,
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
        source=own.id,
        origin=origin,
        round_index=round_index,
        receivers=receivers,
        layout=layout,
        mask=Mask.full(layout.size),
        values=statistics,
        value_type=own.value_type(Kind.STATISTICS),
        mask_known=True,
        reliable=True,
    )
