"""Slotted ALOHA: devices transmit at random, and simultaneous transmissions collide at a receiver.

Shapes: M devices, S slots of a chunk, C slots that carry bits, V slots with a collision, K marks of a
transfer.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.core.rng import stream
from emulator.core.types.arrays import BoolArray, DoubleArray, IndexArray
from emulator.core.types.transmission import Grant, Request
from emulator.network.channel.access import count_parts, make_grant, split_slots

CHUNK_SLOTS = 1024
"""S: slots that a device draws with one key; a power of two, so that chunks and slots end together."""

KEPT_CHUNKS = 4096
"""Chunks whose draws are cached, with a byte for each slot; others are drawn again."""

MOST_DOUBLINGS = 14
"""The run ends if a transfer needs more than this number of doublings of its first chunk."""

LEAST_SHARE = 1e-5
"""A scheme under which less than this share of the slots carries bits is refused."""


class AlohaAccess(BaseModel):
    """All devices share one band in slots; every device transmits in each slot with probability p.

    A slot carries bits if neither the receiver (half duplex) nor any other device in range of the
    receiver transmits in it: with n such devices, a share p (1-p)^n of all slots, which is largest at
    p = 1/(n+1). In every other slot of its own the sender collides. It spends airtime and energy without
    effect, learns of the collision at once, and sends the same bits again (bytes count only when they
    arrive). There is no capture. Devices out of range at the start do not interfere.

    This is the saturated model: every device always has bits to send, so no requests are exchanged, and
    an idle device interferes as much as a busy one. Least power is computed as if the slots that will
    carry bits were known in advance. Several requests of a sender share its slots in equal parts.
    Source: Abramson, "The ALOHA system" (AFIPS 1970); Roberts, "ALOHA packet system with and without
    slots and capture" (ACM SIGCOMM CCR 5(2), 1975).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    shares_time: ClassVar[bool] = True
    kind: Literal["aloha"] = "aloha"
    bandwidth_hz: FiniteFloat = Field(gt=0, description="The band that all share [Hz].")
    slot_s: FiniteFloat = Field(default=0.01, gt=0, description="Length of a slot [s].")
    send_probability: FiniteFloat = Field(
        gt=0, lt=1, description="p: the probability that a device transmits in a slot."
    )
    cast: Literal["unicast"] = Field(
        default="unicast", description="Every receiver is served separately."
    )

    def bind(self, in_range_MM: BoolArray, seed: int) -> "AlohaSchedule":
        """The draws of a run. Raises ScenarioError if less than LEAST_SHARE of the slots carry bits."""
        in_range_of = tuple(tuple(np.flatnonzero(hears_M).tolist()) for hears_M in in_range_MM)
        schedule = AlohaSchedule(self, seed, in_range_of)
        share, most = schedule.share(1)[1], schedule.most_disturbers
        if share < LEAST_SHARE:
            raise ScenarioError(
                [
                    f"access.send_probability: got {self.send_probability:g} where {most} may disturb a "
                    f"link, so that {share:.1g} of the slots carry, wanted about {1 / (most + 1):.2g}"
                ]
            )
        return schedule


@dataclass(frozen=True)
class AlohaSchedule:
    """`AlohaAccess` with its seed. in_range_of: for each of M devices the devices in range, ascending."""

    scheme: AlohaAccess
    seed: int
    in_range_of: tuple[tuple[int, ...], ...]

    @property
    def cast(self) -> Literal["unicast"]:
        """unicast: every receiver is served separately."""
        return self.scheme.cast

    @property
    def powers_add_up(self) -> bool:
        """False: a sender serves its neighbours one after the other."""
        return False

    @property
    def details(self) -> str:
        """The setting of the scheme, and the share of the slots that carry bits."""
        p, share = self.scheme.send_probability, self.share(1)[1]
        return f"sends with {p:g}; at least {share:.2g} of the slots carry"

    @property
    def most_disturbers(self) -> int:
        """The largest n of a receiver: the devices in its range without the sender, and itself."""
        return max(1, *map(len, self.in_range_of))

    def share(self, neighbours: int) -> tuple[float, float]:
        """The whole band, and an equal part of the expected share of slots that carry, for the largest n."""
        p = self.scheme.send_probability
        return self.scheme.bandwidth_hz, p * (1.0 - p) ** self.most_disturbers / neighbours

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """Grants of the whole band in the slots that the sender draws: one part of each for each request."""
        chunk_s, grants = CHUNK_SLOTS * self.scheme.slot_s, []
        for request, offset_s, part_s in split_slots(requests, self.scheme.slot_s):
            (receiver,), first_chunk = request.receivers, int(request.ready_s // chunk_s)
            slots = AlohaSlots(self, request.sender, receiver, offset_s, part_s, first_chunk)
            grants.append(make_grant(request, self.scheme.bandwidth_hz, slots))
        return tuple(grants)

    @functools.cached_property
    def sends(self) -> Callable[[int, int], BoolArray]:
        """sends(device, chunk): whether a device transmits in each slot [S]; every device can compute it."""

        @functools.lru_cache(KEPT_CHUNKS)
        def drawn(device: int, chunk: int) -> BoolArray:
            uniform_S = stream(self.seed, "aloha", device, chunk).random(CHUNK_SLOTS)
            return uniform_S < self.scheme.send_probability

        return drawn


class Tries(NamedTuple):
    """The slots in which a device transmits, ascending: those that carry bits [C], and collisions [V]."""

    carrying: IndexArray
    in_vain: IndexArray


@dataclass(frozen=True)
class AlohaSlots:
    """A part of each slot that a sender draws: part_s [s], offset_s after the start of the slot.

    Implements `core.types.transmission.Turns`; sums count from the beginning of first_chunk. Raises
    EmulatorError after MOST_DOUBLINGS.
    """

    schedule: AlohaSchedule
    sender: int
    receiver: int
    offset_s: float
    part_s: float
    first_chunk: int

    def carrying_s(self, time_s: float) -> float:
        """Time of transmission without a collision [s], up to a time."""
        return time_s if math.isinf(time_s) else self._passed_s(time_s, "carrying")

    def in_vain_s(self, time_s: float) -> float:
        """Time of transmission with a collision [s], up to a time."""
        return self._passed_s(time_s, "in_vain")

    def times_at(self, carrying_s: DoubleArray) -> DoubleArray:
        """The times [s] at which so much time without a collision has passed, element by element."""
        parts_K, within_K = count_parts(carrying_s, self.part_s)
        last, doublings = int(parts_K.max(initial=0.0)), 0
        while (slots_C := self._tries(doublings).carrying).size <= last:
            doublings += 1
        starts_K = slots_C[parts_K.astype(np.int64)] * self.schedule.scheme.slot_s
        return np.asarray(starts_K + self.offset_s + within_K)

    def _passed_s(self, time_s: float, which: Literal["carrying", "in_vain"]) -> float:
        slots_passed, within_s = divmod(time_s, self.schedule.scheme.slot_s)
        slot = int(slots_passed)
        chunks_before = max(slot // CHUNK_SLOTS - self.first_chunk, 0)
        tries = self._tries(chunks_before.bit_length())
        slots = tries.carrying if which == "carrying" else tries.in_vain
        before = int(slots.searchsorted(slot))
        if before == slots.size or slots[before] != slot:
            return before * self.part_s
        return before * self.part_s + min(max(within_s - self.offset_s, 0.0), self.part_s)

    @functools.cached_property
    def _tries(self) -> Callable[[int], Tries]:
        """tries(k): the tries of the first 2^k chunks."""

        @functools.cache
        def tries(doublings: int) -> Tries:
            if doublings > MOST_DOUBLINGS:
                raise EmulatorError(
                    f"got a transfer of more than {CHUNK_SLOTS << MOST_DOUBLINGS} slots, wanted longer "
                    "ones (access.slot_s) or another access.send_probability"
                )
            if doublings == 0:
                return self._tries_in(self.first_chunk)
            known, middle = tries(doublings - 1), self.first_chunk + (1 << (doublings - 1))
            new = [self._tries_in(middle + i) for i in range(1 << (doublings - 1))]
            return Tries(*(np.concatenate(parts) for parts in zip(known, *new, strict=True)))

        return tries

    def _tries_in(self, chunk: int) -> Tries:
        """The tries of one chunk."""
        sends = self.schedule.sends
        disturbers = {self.receiver, *self.schedule.in_range_of[self.receiver]} - {self.sender}
        disturbed_S = np.any([sends(device, chunk) for device in disturbers], axis=0)
        sends_S, first = sends(self.sender, chunk), chunk * CHUNK_SLOTS
        return Tries(
            first + np.flatnonzero(sends_S & ~disturbed_S),
            first + np.flatnonzero(sends_S & disturbed_S),
        )
