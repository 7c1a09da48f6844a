"""Averaging with the neighbours of a graph: what most baselines do with part of their adapter.

Shapes: N coordinates of the trained vector, M devices, L modules.
"""

import struct
from collections.abc import Generator, Mapping, Sequence

import numpy as np

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.exchange import Shared
from emulator.core.types.message import Fact, Message, Received
from emulator.core.types.result import Expert
from emulator.core.types.steps import Inbox, State, Step
from emulator.core.types.survey import Link
from emulator.methods.averaging import Contribution, disagreement
from emulator.methods.loss_policies import gossip_step_of
from emulator.methods.messages import values_message

INTRODUCTION = struct.Struct("<Ifff")
"""Samples, position x and y [m], p_max [W]."""


class Gossip:
    """A device's part in averaging the coordinates `shared` over its neighbours, round by round.

    The adapter has to be ready: adapted, started, its optimiser running. `shared` is the same on every
    device and in every round, so it is never sent.
    """

    def __init__(self, ctx: DeviceContext, shared: Mask) -> None:
        self.ctx = ctx
        self.shared = shared
        self._step = gossip_step_of(ctx.wire.lost_coordinates)

    def setup(self) -> Generator[Step, Inbox, None]:
        """Introduce: who is where, and with how many samples."""
        samples, _ = yield from introduce(self.ctx)
        zeros_n = np.zeros(self.shared.count, dtype=np.float32)
        planned = values_message(self.ctx, self.shared, zeros_n, ())
        survey_dense(self.ctx, samples, [planned] * self.ctx.info.devices)

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """x_i += sum_j w_ij (Q(x_j) - Q(x_i)); lost coordinates as `wire.lost_coordinates` has it."""
        ctx = self.ctx
        vector_N = ctx.model.adapted.vector()
        weight, shared = yield from share_with_neighbours(
            ctx, round_index, self.shared, vector_N, known=(self.shared,)
        )
        apart = disagreement(shared.own_N, contributions_of(weight, shared.received))
        ctx.log.metric("consensus_distance", apart, round_index)

        def merged(received: Sequence[Received]) -> FloatArray:
            return self._step(vector_N, shared.own_N, contributions_of(weight, received))

        ctx.model.try_diluted(merged, shared.received)
        ctx.model.adapted.load(merged(shared.received))

    def finish(self) -> Generator[Step, Inbox, None]:
        """Nothing is left to send: the last round's averaging was the final exchange."""
        yield from ()

    def state(self) -> State:
        """Nothing: all that changes is in the adapter."""
        return None

    def restore(self, state: State) -> None:
        """Go on; the adapter is restored already."""

    def own_expert(self) -> Expert:
        """The adapter as it is."""
        return whole_adapter(self.ctx)

    def experts(self) -> Sequence[Expert]:
        """One adapter answers everything."""
        return (self.own_expert(),)


def introduce(
    ctx: DeviceContext, more: bytes = b""
) -> Generator[Step, Inbox, tuple[list[int], list[bytes]]]:
    """Flood the own introduction; returns the samples and the additional bytes of each device."""
    info = ctx.info
    body = INTRODUCTION.pack(len(info.shard.train), *ctx.network.position_m, info.max_power_w)
    bodies = yield from ctx.network.flood(body + more)
    sent = [bodies[device] for device in range(info.devices)]
    samples = [INTRODUCTION.unpack_from(each)[0] for each in sent]
    return samples, [each[INTRODUCTION.size :] for each in sent]


def survey_dense(ctx: DeviceContext, samples: Sequence[int], planned: Sequence[Message]) -> None:
    """The survey of devices without masks, each a task group of its own. planned: one message of each."""
    dense_ML = np.ones((ctx.info.devices, len(ctx.model.adapted.module_names)))
    ctx.network.update_survey(samples, range(ctx.info.devices), dense_ML, planned)


def share_with_neighbours(
    ctx: DeviceContext, round_index: int, mask: Mask, vector_N: FloatArray, known: Sequence[Fact]
) -> Generator[Step, Inbox, tuple[dict[int, float], Shared]]:
    """Exchange the entries of a mask over the links of a round; returns the weight of each sender, too."""
    own_id, links = ctx.info.id, ctx.network.links(round_index)
    weight = weights_at(own_id, links)
    receivers = receivers_of(own_id, links)
    return weight, (yield from ctx.network.share(mask, vector_N, receivers, sorted(weight), known))


def weights_at(device: int, links: Sequence[Link]) -> dict[int, float]:
    """The mixing weight that a device gives to each of its senders."""
    return {link.sender: link.weight for link in links if link.receiver == device}


def receivers_of(device: int, links: Sequence[Link]) -> tuple[int, ...]:
    """The devices to which a device sends, sorted."""
    return tuple(sorted(link.receiver for link in links if link.sender == device))


def contributions_of(
    weight: Mapping[int, float], messages: Sequence[Received]
) -> list[Contribution]:
    """Received messages as averaging.py takes them, each with its sender's weight."""
    return [
        (weight[each.source], np.asarray(each.values, dtype=np.float32), each.received)
        for each in messages
    ]


def whole_adapter(ctx: DeviceContext) -> Expert:
    """A device's adapter as the one that answers every task."""
    adapted = ctx.model.adapted
    samples = len(ctx.info.shard.train)
    return Expert("all", samples, adapted.scaling, adapted.tensors(), adapted.form)
