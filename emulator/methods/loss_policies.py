"""What a receiver does about lost coordinates: all that `wire.lost_coordinates` means.

A coordinate is lost when a neighbour j sent it in a round and its packet never came. Every policy is
a way to complete what was heard (`take`) and a way to mix it in (`step`), or to lose nothing:

- keep_own: it is simply not there. Gossip leaves j's difference out, so the own value stands for x_j;
  mask_mean leaves j out of numerator and denominator, and where nobody writes, the old mean stays.
- renormalise: gossip scales the weights of those who were heard at that coordinate, itself included,
  up to sum to one (`renormalised_step`). Under mask_mean the same as keep_own: a mean over those who
  were heard has such weights.
- last_received: the last value that came from j at that coordinate stands for it, with j's weight;
  until there was one, as keep_own. Costs a device one vector for each neighbour it has ever heard.
- retransmit: values are reliable messages (`speech.values_message`): they come, late if need be, and
  cost time and bytes. Nothing is left to do here.
- drop_message: a message that lacks anything counts as not heard at all, also where it would have said
  that j keeps nothing; then as keep_own.

Gossip means every method that averages with its graph, whatever it trains; `lori` chooses either.
`stacking` takes only keep_own (what is lost is zero), retransmit and drop_message.

Laws: without losses all give the same bits. Agreement is a fixed point of each (of last_received once
all that was last heard agrees, too). With symmetric weights and losses that both ends of a link
share, keep_own and drop_message keep the network mean; with independent losses all of them drift.
A neighbour from whom no message came (asynchronous rounds) has lost nothing: the own value stands for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from emulator.core.types.adapter import LostCoordinates
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Coordinate, Received
from emulator.methods.averaging import Contribution, gossip_step, renormalised_step


@dataclass(frozen=True)
class Listener:
    """One device's policy. take: a message as it is to be used, asked once for each in the order of
    arrival; step: how gossip mixes such messages in, as `merging.gossip_step`."""

    take: Callable[[Received], Received]
    step: Callable[[FloatArray, FloatArray, Sequence[Contribution]], FloatArray]

    def newest(self, received: Sequence[Received]) -> list[Received]:
        """Of every sender the last message, as it is to be used, by sender."""
        taken = {told.source: told for told in map(self.take, received)}
        return [taken[source] for source in sorted(taken)]


def listener_of(policy: LostCoordinates) -> Listener:
    """A listener that has heard nothing yet."""
    match policy:
        case "renormalise":
            return Listener(as_it_came, renormalised_step)
        case "last_received":
            return Listener(Memory().complete, gossip_step)
        case "drop_message":
            return Listener(whole_or_nothing, gossip_step)
        case "keep_own" | "retransmit":
            return Listener(as_it_came, gossip_step)


def as_it_came(told: Received) -> Received:
    """The message itself."""
    return told


def whole_or_nothing(told: Received) -> Received:
    """The message if it is complete, otherwise one of which everything was lost."""
    if told.complete:
        return told
    lost_N = np.full_like(told.status, Coordinate.LOST)
    return replace(told, values=np.zeros_like(told.values), status=lost_N)


class Memory:
    """What every sender was last heard to say of each coordinate."""

    def __init__(self) -> None:
        self._last: dict[int, Received] = {}

    def complete(self, told: Received) -> Received:
        """The message, its lost coordinates as last heard where they ever were; kept for the next."""
        last = self._last.get(told.source)
        if last is not None and not told.complete:
            known_N = (told.status == Coordinate.LOST) & last.received
            values_N = np.where(known_N, last.values, told.values)
            status_N = np.where(known_N, last.status, told.status)
            told = replace(told, values=values_N, status=status_N)
        self._last[told.source] = told
        return told
