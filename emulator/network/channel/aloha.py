"""Slotted ALOHA: everybody speaks by chance, and who is heard beside another is not understood.

Shapes: M devices, S slots of a chunk, C slots that carry, V slots in vain, K marks of a transfer.
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
"""S: slots that a device draws with one key; a power of two, so that chunks end where slots do."""

KEPT_CHUNKS = 4096
"""Draws that are kept, a byte for each slot; others are drawn again."""

MOST_DOUBLINGS = 14
"""A transfer that is not over after so many doublings of its first chunk is given up."""

LEAST_SHARE = 1e-5
"""A network in which less than this share of the slots carries is refused: nothing gets through."""


class AlohaAccess(BaseModel):
    """One band for all, in slots; in each of them every device sends with probability p.

    A slot carries what its sender says if neither the receiver (half duplex) nor anybody else whom it
    hears sends in it: with n of them a share p (1-p)^n of all slots, the most at p = 1/(n+1). In any
    other slot the sender collides: airtime and energy are spent for nothing, it learns so at once and
    says the same again (bytes count when they get through). Nobody is captured, and who is out of
    hearing, as it was at the start, does not disturb.

    This is the saturated model: everybody always has something to say, so nobody has to be asked, and
    a silent device disturbs as much as a busy one. Least power counts on the slots that will carry, as
    if they were known before. Several requests of a sender share its slots in equal parts.
    Source: Abramson, "The ALOHA system" (AFIPS 1970); Roberts, "ALOHA packet system with and without
    slots and capture" (ACM SIGCOMM CCR 5(2), 1975).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    shares_time: ClassVar[bool] = True
    kind: Literal["aloha"] = "aloha"
    bandwidth_hz: FiniteFloat = Field(gt=0, description="The band that all share [Hz].")
    slot_s: FiniteFloat = Field(default=0.01, gt=0, description="Length of a slot [s].")
    send_probability: FiniteFloat = Field(
        gt=0, lt=1, description="p: the chance that a device sends in a slot."
    )
    cast: Literal["unicast"] = Field(
        default="unicast", description="Every receiver is served for itself."
    )

    def bind(self, hears_MM: BoolArray, seed: int) -> "AlohaSchedule":
        """The draws of a run. Raises ScenarioError where less than LEAST_SHARE of the slots carries."""
        heard = tuple(tuple(np.flatnonzero(hears_M).tolist()) for hears_M in hears_MM)
        schedule = AlohaSchedule(self, seed, heard)
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
    """`AlohaAccess` with its seed. heard: for each of M devices those whom it hears, ascending."""

    scheme: AlohaAccess
    seed: int
    heard: tuple[tuple[int, ...], ...]

    @property
    def cast(self) -> Literal["unicast"]:
        """Every receiver is served for itself."""
        return self.scheme.cast

    @property
    def powers_add_up(self) -> bool:
        """One after the other."""
        return False

    @property
    def details(self) -> str:
        """The setting of the scheme, and the share of the slots that carry bits."""
        p, share = self.scheme.send_probability, self.share(1)[1]
        return f"sends with {p:g}; at least {share:.2g} of the slots carry"

    @property
    def most_disturbers(self) -> int:
        """n of the receiver that hears the most: all of them but the sender, and itself."""
        return max(1, *map(len, self.heard))

    def share(self, neighbours: int) -> tuple[float, float]:
        """The whole band, in so many parts of the slots expected to carry where n is the largest."""
        p = self.scheme.send_probability
        return self.scheme.bandwidth_hz, p * (1.0 - p) ** self.most_disturbers / neighbours

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """The whole band in the slots that the sender draws, one part of each for each request."""
        chunk_s, grants = CHUNK_SLOTS * self.scheme.slot_s, []
        for request, offset_s, part_s in split_slots(requests, self.scheme.slot_s):
            (receiver,), first_chunk = request.receivers, int(request.ready_s // chunk_s)
            slots = AlohaSlots(self, request.sender, receiver, offset_s, part_s, first_chunk)
            grants.append(make_grant(request, self.scheme.bandwidth_hz, slots))
        return tuple(grants)

    @functools.cached_property
    def sends(self) -> Callable[[int, int], BoolArray]:
        """sends(device, chunk) [S]: whether it sends, slot by slot; anybody can work out anybody's."""

        @functools.lru_cache(KEPT_CHUNKS)
        def drawn(device: int, chunk: int) -> BoolArray:
            luck_S = stream(self.seed, "aloha", device, chunk).random(CHUNK_SLOTS)
            return luck_S < self.scheme.send_probability

        return drawn


class Tries(NamedTuple):
    """The slots in which a device sends, ascending: those that carry [C] and those in vain [V]."""

    carrying: IndexArray
    in_vain: IndexArray


@dataclass(frozen=True)
class AlohaSlots:
    """part_s [s], offset_s after its start, of each slot that a sender draws: see `state.Turns`.

    Counted from the beginning of first_chunk. Raises EmulatorError after MOST_DOUBLINGS.
    """

    schedule: AlohaSchedule
    sender: int
    receiver: int
    offset_s: float
    part_s: float
    first_chunk: int

    def carrying_s(self, time_s: float) -> float:
        """How much of it [s] got through by a time."""
        return time_s if math.isinf(time_s) else self._passed_s(time_s, "carrying")

    def in_vain_s(self, time_s: float) -> float:
        """How much of it [s] collided by a time."""
        return self._passed_s(time_s, "in_vain")

    def times_at(self, carrying_s: DoubleArray) -> DoubleArray:
        """When so much has got through, element by element [s]."""
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
        """tries(k): those of the first 2^k chunks."""

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
        """Those of one chunk."""
        sends = self.schedule.sends
        disturbers = {self.receiver, *self.schedule.heard[self.receiver]} - {self.sender}
        disturbed_S = np.any([sends(device, chunk) for device in disturbers], axis=0)
        sends_S, first = sends(self.sender, chunk), chunk * CHUNK_SLOTS
        return Tries(
            first + np.flatnonzero(sends_S & ~disturbed_S),
            first + np.flatnonzero(sends_S & disturbed_S),
        )
