"""What a receiver does about lost coordinates: all that `wire.lost_coordinates` means.

A coordinate is lost when a neighbour j sent it in a round and its packet did not arrive. Every policy
is a way to complete received messages (`loss_policy_of`) and a way to merge them (`gossip_step_of`), or
sends again until nothing is lost:

- keep_own: it is absent. Gossip leaves j's difference out, so the own value stands for x_j;
  mask_mean leaves j out of numerator and denominator, and where no device writes, the old mean stays.
- renormalise: gossip scales the weights of those received at that coordinate, itself included, up to
  sum to one (`renormalised_step`). Under mask_mean it is the same as keep_own: a mean over those
  received has such weights.
- last_received: the last value that came from j at that coordinate stands for it, with j's weight;
  until there was one, as keep_own. A device keeps one vector for each neighbour that it has received.
- retransmit: values are reliable messages (`messages.values_message`): they arrive, late if need be,
  and cost time and bytes. Nothing is left to do here.
- drop_message: a message that lacks anything counts as not received at all, also at coordinates that
  j does not keep; then as keep_own.

Gossip means every method that averages with its graph, whatever it trains; `lori` chooses either.
`stacking` takes only keep_own (what is lost is zero), retransmit and drop_message.

Laws: without losses all give the same bits. Agreement is a fixed point of each (of last_received once
all that was received last agrees, too). With symmetric weights and losses that both ends of a link
share, keep_own and drop_message keep the network mean; with independent losses all of them drift.
A neighbour from which no message arrived (asynchronous rounds) has lost nothing: the own value stands
for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from emulator.core.types.adapter import LostCoordinates
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Coordinate, Received
from emulator.methods.averaging import Contribution, gossip_step, renormalised_step

GossipStep = Callable[[FloatArray, FloatArray, Sequence[Contribution]], FloatArray]
"""Own vector [N], own vector as received [N] and contributions to the next vector [N]."""


class LossPolicy:
    """One device's policy: what is done with received messages, in the order in which they arrive."""

    def __init__(self, complete: Callable[[Received], Received]) -> None:
        self.complete = complete

    def newest(self, received: Sequence[Received]) -> list[Received]:
        """The last message of every sender, completed, in order of sender."""
        completed = {each.source: each for each in map(self.complete, received)}
        return [completed[source] for source in sorted(completed)]

    def state(self) -> dict[int, Received]:
        """What is remembered of each sender."""
        return {}

    def restore(self, state: Mapping[int, Received]) -> None:
        """Go on from a state."""


def loss_policy_of(policy: LostCoordinates) -> LossPolicy:
    """A policy that has received nothing yet."""
    match policy:
        case "last_received":
            return LastReceived()
        case "drop_message":
            return LossPolicy(whole_or_nothing)
        case "keep_own" | "renormalise" | "retransmit":
            return LossPolicy(as_received)


def gossip_step_of(policy: LostCoordinates) -> GossipStep:
    """How gossip merges completed messages under a policy."""
    return renormalised_step if policy == "renormalise" else gossip_step


def as_received(message: Received) -> Received:
    """The message itself."""
    return message


def whole_or_nothing(message: Received) -> Received:
    """The message if it is complete, otherwise one of which everything was lost."""
    if message.complete:
        return message
    lost_N = np.full_like(message.status, Coordinate.LOST)
    return replace(message, values=np.zeros_like(message.values), status=lost_N)


class LastReceived(LossPolicy):
    """Completes a message with the last value that was received from its sender at each coordinate."""

    def __init__(self) -> None:
        super().__init__(self._complete)
        self._last: dict[int, Received] = {}

    def state(self) -> dict[int, Received]:
        """The last message of each sender, completed."""
        return dict(self._last)

    def restore(self, state: Mapping[int, Received]) -> None:
        """Go on from a state."""
        self._last = dict(state)

    def _complete(self, message: Received) -> Received:
        """The message, its lost coordinates as received last, where they ever were; kept for the next."""
        last = self._last.get(message.source)
        if last is not None and not message.complete:
            known_N = (message.status == Coordinate.LOST) & last.received
            values_N = np.where(known_N, last.values, message.values)
            status_N = np.where(known_N, last.status, message.status)
            message = replace(message, values=values_N, status=status_N)
        self._last[message.source] = message
        return message
