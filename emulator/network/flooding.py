"""Flooding: every device sends a few bytes to all others over the in-range graph.

Shapes: M devices. hops_MM[i, j] is the least number of hops from i to j.
"""

from collections.abc import Generator

import numpy as np
from scipy.sparse.csgraph import shortest_path

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import BoolArray, IndexArray
from emulator.core.types.message import Kind, Message, Traffic, ValueType
from emulator.core.types.steps import Inbox, Step


def flood(
    ctx: DeviceContext, hops_MM: IndexArray, body: bytes, traffic: Traffic
) -> Generator[Step, Inbox, dict[int, bytes]]:
    """Send a few bytes to all devices, and return the bytes of all devices by device id.

    In each step a device passes on what it received in the step before (its own bytes in the first
    step), to all neighbours except those that sent it. The number of steps is the diameter of the
    graph. Messages are repeated until they arrive.
    """
    own_id = ctx.info.id
    neighbours = [i for i in range(ctx.info.devices) if hops_MM[own_id, i] == 1]
    bodies = {own_id: body}
    for hop in range(int(hops_MM.max())):
        origins_for = {i: select_origins(hops_MM, own_id, i, hop) for i in neighbours}
        messages = [
            _introduction(ctx, traffic, origin, bodies[origin], receivers)
            for origin in sorted(set().union(*origins_for.values()))
            if (receivers := tuple(i for i in neighbours if origin in origins_for[i]))
        ]
        wait_for = [i for i in neighbours if select_origins(hops_MM, i, own_id, hop)]
        for received in (yield from ctx.network.exchange(messages, wait_for)):
            bodies[received.origin] = received.values.tobytes()
    return bodies


def count_hops(in_range_MM: BoolArray) -> IndexArray:
    """Count the hops between all devices [M, M] of a connected in-range graph (`islands.require_connected`)."""
    hops_MM = shortest_path(in_range_MM, directed=False, unweighted=True)
    return np.asarray(hops_MM, dtype=np.int64)


def select_origins(hops_MM: IndexArray, sender: int, receiver: int, hop: int) -> set[int]:
    """Select the devices whose bytes a sender passes on to a receiver in one step.

    Their bytes reached the sender in the step before (its own bytes in the first step), and not from
    this receiver.
    """
    fresh = np.flatnonzero(hops_MM[sender] == hop)
    return {int(origin) for origin in fresh if hop == 0 or hops_MM[receiver, origin] != hop - 1}


def _introduction(
    ctx: DeviceContext, traffic: Traffic, origin: int, body: bytes, receivers: tuple[int, ...]
) -> Message:
    return Message(
        kind=Kind.INTRODUCTION,
        traffic=traffic,
        source=ctx.info.id,
        origin=origin,
        round_index=ctx.progress.round_index,
        receivers=receivers,
        layout=AdapterLayout(("introduction",), ((len(body),),)),
        mask=Mask.full(len(body)),
        values=np.frombuffer(body, dtype=np.uint8),
        value_type=ValueType.BYTE,
        mask_known=True,
        reliable=True,
    )
