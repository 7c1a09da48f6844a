"""Asynchronous listeners: everything that has arrived, nothing that has not, and no more waiting."""

import math
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from emulator.core.types.transmission import Burst
from emulator.runtime.transport.async_mailbox import Mailbox

STORIES = st.lists(
    st.lists(st.tuples(st.floats(0.01, 3.0), st.floats(0.0, 4.0)), min_size=1, max_size=8),
    min_size=1,
    max_size=3,
)
"""By sender: pauses between its bursts, and how long each is on the air."""


def streams(stories: list[list[tuple[float, float]]]) -> dict[int, deque[tuple[Burst, float]]]:
    """What each sender sends, with its promises."""
    sent: dict[int, deque[tuple[Burst, float]]] = {}
    for sender, story in enumerate(stories, start=1):
        times = [sum(pause for pause, _ in story[: k + 1]) for k in range(len(story))]
        bursts = [
            Burst(sender, 0, k, at + lasts, b"")
            for k, (at, (_, lasts)) in enumerate(zip(times, story, strict=True))
        ]
        sent[sender] = deque(zip(bursts, [*times[1:], math.inf], strict=True))
    return sent


@given(STORIES, st.lists(st.floats(0.01, 3.0), min_size=1, max_size=8))
def test_every_burst_is_received_once_and_as_soon_as_it_has_arrived(
    stories: list[list[tuple[float, float]]], pauses: list[float]
) -> None:
    coming, everything = streams(stories), streams(stories)
    read: list[Burst] = []

    def read_next(sender: int) -> tuple[Burst, float]:
        burst, next_s = coming[sender].popleft()
        read.append(burst)
        return burst, next_s

    mailbox, received, now_s = Mailbox(read_next), [], 0.0
    for pause_s in pauses:
        before_s, now_s = now_s, now_s + pause_s
        fresh = mailbox.take_arrived(sorted(everything), now_s)
        arrived = [
            burst
            for stream in everything.values()
            for burst, _ in stream
            if before_s <= burst.arrival_s < now_s
        ]
        assert sorted(fresh, key=repr) == sorted(arrived, key=repr)
        received += fresh
    assert len(received) == len(set(map(repr, received)))
    # No burst was waited for that its sender had not sent by then, but for one each.
    for sender, stream in everything.items():
        starts = [sum(p for p, _ in stories[sender - 1][: k + 1]) for k in range(len(stream))]
        early = sum(start < now_s for start in starts)
        assert sum(b.sender == sender for b in read) <= max(1, early)
    mailbox.close()
    assert not any(coming.values())
    assert mailbox.take_arrived((), math.inf) == []
