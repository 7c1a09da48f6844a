"""The first words: every device's introduction, flooded through the in-range graph.

Shapes: M devices. hops_MM[i, j] is the least number of hops from i to j.
"""

from collections.abc import Generator

import numpy as np
from scipy.sparse.csgraph import shortest_path

from emulator.core.protocols.method import Own
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import BoolArray, IndexArray
from emulator.core.types.message import Kind, Message, Traffic, ValueType
from emulator.core.types.steps import Inbox, Step


def flood(
    own: Own, hops_MM: IndexArray, body: bytes, traffic: Traffic
) -> Generator[Step, Inbox, dict[int, bytes]]:
    """Tell everybody a few bytes; returns everybody's by device id.

    Hop by hop each device passes on what is news to it, to all neighbours but those it came from; the
    time-to-live is the graph's diameter. Messages are repeated until they arrive.
    """
    neighbours = [i for i in range(own.devices) if hops_MM[own.id, i] == 1]
    bodies = {own.id: body}
    for hop in range(int(hops_MM.max())):
        hearers = {i: news(hops_MM, own.id, i, hop) for i in neighbours}
        messages = [
            _introduction(own, traffic, origin, bodies[origin], receivers)
            for origin in sorted(set().union(*hearers.values()))
            if (receivers := tuple(i for i in neighbours if origin in hearers[i]))
        ]
        wait_for = [i for i in neighbours if news(hops_MM, i, own.id, hop)]
        for told in (yield from own.exchange(messages, wait_for)):
            bodies[told.origin] = told.values.tobytes()
    return bodies


def hop_counts(in_range_MM: BoolArray) -> IndexArray:
    """Hop counts of the in-range graph [M, M], which is connected (`joining.joined`)."""
    hops_MM = shortest_path(in_range_MM, directed=False, unweighted=True)
    return np.asarray(hops_MM, dtype=np.int64)


def news(hops_MM: IndexArray, sender: int, receiver: int, hop: int) -> set[int]:
    """Whose introductions a sender passes on to a receiver at a hop.

    What it has just learnt (at first its own), but nothing that it heard from this receiver.
    """
    fresh = np.flatnonzero(hops_MM[sender] == hop)
    return {int(origin) for origin in fresh if hop == 0 or hops_MM[receiver, origin] != hop - 1}


def _introduction(
    own: Own, traffic: Traffic, origin: int, body: bytes, receivers: tuple[int, ...]
) -> Message:
    return Message(
        kind=Kind.INTRODUCTION,
        traffic=traffic,
        source=own.id,
        origin=origin,
        round_index=own.round_index,
        receivers=receivers,
        layout=AdapterLayout(("introduction",), ((len(body),),)),
        mask=Mask.full(len(body)),
        values=np.frombuffer(body, dtype=np.uint8),
        value_type=ValueType.BYTE,
        mask_known=True,
        reliable=True,
    )
