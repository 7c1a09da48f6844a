"""Averaging with the neighbours of a graph: what most baselines do with part of their adapter.

Shapes: N coordinates of the trained vector, M devices, L modules.
"""

import struct
from collections.abc import Generator, Mapping, Sequence

import numpy as np

from emulator.core.protocols.method import Own
from emulator.core.types.adapter import Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Message, Received
from emulator.core.types.result import Expert
from emulator.core.types.steps import Inbox, Step
from emulator.core.types.survey import Link
from emulator.methods.averaging import Contribution, all_at, disagreement
from emulator.methods.loss_policies import listener_of
from emulator.methods.messages import values_message

INTRODUCTION = struct.Struct("<Ifff")
"""Samples, position x and y [m], p_max [W]."""


class Gossip:
    """A device's part in averaging the coordinates `shared` over its neighbours, round by round.

    The adapter has to be ready: adapted, started, its optimiser running. `shared` is the same on every
    device and in every round, so it never travels.
    """

    def __init__(self, own: Own, shared: Mask) -> None:
        self.own = own
        self.shared = shared
        self.listener = listener_of(own.lost_coordinates)

    def setup(self) -> Generator[Step, Inbox, None]:
        """Introduce: who is where, and with how many samples."""
        own = self.own
        samples, _ = yield from introduce(own)
        survey_dense(own, samples, [self._message(0, own.adapted.vector(), ())] * own.devices)

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """x_i += sum_j w_ij (Q(x_j) - Q(x_i)); what is lost, as `wire.lost_coordinates` says."""
        own = self.own
        links = own.links(round_index)
        weight = weights_at(own.id, links)
        vector_N = own.adapted.vector()
        told_N = own.to_send(vector_N)
        message = self._message(round_index, told_N, receivers_of(own.id, links))
        received = yield from own.exchange([message], tuple(sorted(weight)), (self.shared,))
        newest = self.listener.newest(received)
        rounded_N = own.as_received(told_N)
        apart = disagreement(rounded_N, contributions_of(weight, newest))
        own.measure("consensus_distance", apart, round_index)

        def merged(messages: Sequence[Received]) -> FloatArray:
            contributions = contributions_of(weight, messages)
            return self.listener.step(vector_N, rounded_N, contributions)

        own.try_diluted(lambda b0_N: merged(all_at(b0_N, newest)), round_index)
        own.adapted.load(merged(newest))

    def finish(self) -> Generator[Step, Inbox, None]:
        """Nothing more to say: the last round's averaging was the final exchange."""
        yield from ()

    def own_expert(self) -> Expert:
        """The adapter as it stands."""
        return whole_adapter(self.own)

    def experts(self) -> Sequence[Expert]:
        """One adapter answers everything."""
        return (self.own_expert(),)

    def _message(self, round_index: int, told_N: FloatArray, receivers: tuple[int, ...]) -> Message:
        told_n = told_N[self.shared.indices]
        return values_message(self.own, round_index, self.shared, told_n, receivers)


def introduce(own: Own, more: bytes = b"") -> Generator[Step, Inbox, tuple[list[int], list[bytes]]]:
    """Everybody's samples, and what more everybody tells."""
    body = INTRODUCTION.pack(len(own.shard.train), *own.position_m, own.max_power_w)
    bodies = yield from own.introduce(body + more)
    told = [bodies[device] for device in range(own.devices)]
    return [INTRODUCTION.unpack_from(each)[0] for each in told], [
        each[INTRODUCTION.size :] for each in told
    ]


def survey_dense(own: Own, samples: Sequence[int], planned: Sequence[Message]) -> None:
    """The survey of devices without masks, each a block of its own; planned: a message of each."""
    dense_ML = np.ones((own.devices, len(own.adapted.module_names)))
    own.survey = own.survey_of(samples, range(own.devices), dense_ML, planned)


def weights_at(device: int, links: Sequence[Link]) -> dict[int, float]:
    """The mixing weight that a device gives to each of its senders."""
    return {link.sender: link.weight for link in links if link.receiver == device}


def contributions_of(
    weight: Mapping[int, float], messages: Sequence[Received]
) -> list[Contribution]:
    """Received messages as averaging.py takes them, each with its sender's weight."""
    return [
        (weight[each.source], np.asarray(each.values, dtype=np.float32), each.received)
        for each in messages
    ]


def receivers_of(device: int, links: Sequence[Link]) -> tuple[int, ...]:
    """Whom a device sends to, sorted."""
    return tuple(sorted(link.receiver for link in links if link.sender == device))


def whole_adapter(own: Own) -> Expert:
    """A device's adapter as the one that answers every task."""
    adapted = own.adapted
    return Expert("all", len(own.shard.train), adapted.scaling, adapted.tensors(), adapted.form)
