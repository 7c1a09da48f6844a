import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from emulator.core.errors import DeviceFailedError, ProtocolError
from emulator.core.protocols.driver import Life
from emulator.core.types.message import Known
from emulator.core.types.records import LinkRecord
from emulator.core.types.steps import Commit, Inbox, Send
from emulator.core.types.transmission import Burst
from emulator.runtime.drivers import one_process

sys.path.append(str(Path(__file__).parents[4] / "support"))

from toy_lives import GRAPHS, ToyAir, complete, link_record, live, received, reference


def ignore(device: int, commit: Commit, records: tuple[LinkRecord, ...]) -> None:
    """Take no interest in commits."""


def run_toys(devices: int, received, sent, exchanges=None) -> None:
    one_process.run_lives(
        {d: live(d, received, (exchanges or {}).get(d, 6)) for d in range(devices)},
        {d: ToyAir(d, devices, sent) for d in range(devices)},
        ignore,
    )


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_the_same_lives_have_the_same_outcomes(name: str) -> None:
    graph = GRAPHS[name](5)
    assert reference(5, graph) == reference(5, graph)


def test_outcomes_are_in_the_order_of_devices() -> None:
    graph = complete(3)
    outcomes = one_process.run_lives(
        {d: live(d, graph) for d in (2, 0, 1)}, {d: ToyAir(d, 3, graph) for d in (1, 2, 0)}, ignore
    )
    assert list(outcomes) == [0, 1, 2]
    assert [outcome.result.device for outcome in outcomes.values()] == [0, 1, 2]


def test_commits_come_with_the_link_records_since_the_last() -> None:
    graph, commits = complete(3), []
    outcomes = one_process.run_lives(
        {d: live(d, graph, 7) for d in range(3)},
        {d: ToyAir(d, 3, graph) for d in range(3)},
        lambda device, commit, records: commits.append((device, commit.round_index, records)),
    )
    for device, outcome in outcomes.items():
        own = [(r, records) for d, r, records in commits if d == device]
        assert [round_index for round_index, _ in own] == [0, 1]
        together = tuple(record for _, records in own for record in records)
        assert together == outcome.link_records[:12]
        assert len(outcome.link_records) == 7 * 2


def test_bursts_are_handed_over_by_arrival_then_sender() -> None:
    seen: list[tuple[float, int]] = []

    @dataclass(frozen=True)
    class Air:
        device: int

        def emit(
            self, send: Send, exchange_index: int
        ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
            arrival_s = {1: 2.0, 2: 1.0, 3: 2.0, 0: 0.0}[self.device]
            burst = Burst(self.device, 0, exchange_index, arrival_s, b"")
            return ((burst,), (link_record(burst),)) if self.device else ((), ())

        def collect(self, send: Send, bursts: Sequence[Burst]) -> Inbox:
            seen.extend((burst.arrival_s, burst.sender) for burst in bursts)
            return Inbox(tuple(received(burst) for burst in bursts), 0.0)

    def receives(device: int, index: int) -> tuple[int, ...]:
        return (1, 2, 3) if device == 0 else ()

    one_process.run_lives(
        {d: live(d, receives, 1) for d in range(4)}, {d: Air(d) for d in range(4)}, ignore
    )
    assert seen == [(1.0, 2), (2.0, 1), (2.0, 3)]


def test_gossip_receives_what_has_arrived_by_the_receivers_clock() -> None:
    speaks_at = {0: (1.0, 2.0, 3.0), 1: (2.5, 10.0, 11.0), 2: (0.5, 4.0, 4.5)}
    on_air_s = {0: 0.25, 1: 0.25, 2: 6.0}
    received: dict[int, list[list[tuple[int, float]]]] = {0: [], 1: [], 2: []}

    @dataclass(frozen=True)
    class Air:
        device: int

        def emit(
            self, send: Send, exchange_index: int
        ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
            arrival_s = send.now_s + on_air_s[self.device]
            others = [r for r in range(3) if r != self.device]
            bursts = tuple(Burst(self.device, r, exchange_index, arrival_s, b"") for r in others)
            return bursts, tuple(link_record(burst) for burst in bursts)

        def collect(self, send: Send, bursts: Sequence[Burst]) -> Inbox:
            received[self.device].append([(burst.sender, burst.arrival_s) for burst in bursts])
            return Inbox((), 0.0)

    def life(device: int):
        times = (*speaks_at[device], math.inf)
        others = tuple(r for r in range(3) if r != device)
        for now_s, next_s in pairwise(times):
            yield Send(now_s, (), (), Known(), others, next_s)
        yield Send(20.0, (), others, Known())
        return None

    one_process.run_lives({d: life(d) for d in range(3)}, {d: Air(d) for d in range(3)}, ignore)
    assert received[0][:3] == [[], [], [(1, 2.75)]]
    assert received[1][:3] == [
        [(0, 1.25), (0, 2.25)],
        [(0, 3.25), (2, 6.5)],
        [(2, 10.0), (2, 10.5)],
    ]
    assert received[2][:3] == [[], [(0, 1.25), (0, 2.25), (1, 2.75), (0, 3.25)], []]
    # Then all wait for all again; what was still on its way is gone.
    assert [[sender for sender, _ in received[d][3]] for d in range(3)] == [[1, 2], [0, 2], [0, 1]]


@pytest.mark.parametrize(
    "sent",
    [
        [(1.0, 3.0), (2.0, math.inf)],  # sooner than promised
        [(1.0, 3.0)],  # never again
        [(1.0, math.inf), (2.0, math.inf)],  # again after the end
    ],
)
def test_a_promise_that_is_not_kept_is_an_error(sent: list[tuple[float, float]]) -> None:
    def life(device: int):
        for now_s, next_s in sent:
            yield Send(now_s, (), (), Known(), (), next_s)
        yield Send(9.0, (), (), Known())

    with pytest.raises(ProtocolError, match="device 0: got a Send without waiting"):
        one_process.run_lives({0: life(0)}, {0: ToyAir(0, 1, lambda device, index: ())}, ignore)


def test_exchanges_are_counted_from_where_a_run_resumes() -> None:
    graph = complete(2)
    outcomes = one_process.run_lives(
        {d: live(d, graph, 3) for d in range(2)},
        {d: ToyAir(d, 2, graph) for d in range(2)},
        ignore,
        first_exchange=9,
    )
    assert [record.exchange_index for record in outcomes[0].link_records] == [9, 10, 11]


def test_a_life_without_exchanges_ends() -> None:
    run_toys(2, complete(2), complete(2), {0: 0, 1: 0})


def test_a_wait_for_nothing_names_both_and_the_exchange() -> None:
    def sent(device: int, index: int) -> tuple[int, ...]:
        return () if (device, index) == (1, 4) else complete(3)(device, index)

    with pytest.raises(
        ProtocolError, match=r"^exchange 4: device 1 waits for device 0, which sends it nothing$"
    ):
        run_toys(3, complete(3), sent)
    with pytest.raises(
        ProtocolError, match=r"^exchange 4: device 0 sends to device 1, which does not wait for it$"
    ):
        run_toys(3, sent, complete(3))


def test_a_life_that_ends_while_another_waits_is_an_error() -> None:
    with pytest.raises(ProtocolError, match=r"^exchange 2: device 0 sends to device 1, which does"):
        run_toys(3, complete(3), complete(3), {1: 2})


@pytest.mark.parametrize(
    ("wait_for", "receivers", "message"),
    [
        ((1, 0), (), "wait_for"),
        ((2, 1), (), "wait_for"),
        ((1, 1), (), "wait_for"),
        ((0,), (), "wait_for"),
        ((), (1, 1), "one each to other devices"),
        ((), (0,), "one each to other devices"),
    ],
)
def test_nonsense_is_refused(
    wait_for: tuple[int, ...], receivers: tuple[int, ...], message: str
) -> None:
    class Air(ToyAir):
        def emit(
            self, send: Send, exchange_index: int
        ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
            return tuple(Burst(0, r, exchange_index, 0.0, b"") for r in receivers), ()

    with pytest.raises(ProtocolError, match=message):
        one_process.run_lives(
            {0: live(0, lambda *_: wait_for, 1)}, {0: Air(0, 1, complete(1))}, ignore
        )


def test_lives_are_closed_when_one_fails() -> None:
    closed = []

    def fragile(device: int) -> Life:
        try:
            yield Send(0.0, (), (), Known())
            if device == 1:
                raise ValueError("broken")
            yield Send(0.0, (), (), Known())
        finally:
            closed.append(device)
        raise AssertionError

    told = r"^device 1 failed \(no round done\): ValueError: broken, test_one_process\.py:\d+ in fragile$"
    with pytest.raises(DeviceFailedError, match=told):
        one_process.run_lives(
            {d: fragile(d) for d in range(3)},
            {d: ToyAir(d, 3, lambda *_: ()) for d in range(3)},
            ignore,
        )
    assert sorted(closed) == [0, 1, 2]
