import threading
import time

from hypothesis import given
from hypothesis import strategies as st
from processes import LIMIT_S

from emulator.core.errors import DeviceFailedError
from emulator.runtime.transport.deadlock import (
    ENDED,
    ExchangeState,
    StallWatch,
    StateBoard,
    find_deadlock,
)


class Store:
    """A key-value store in memory."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def get(self, key: str) -> bytes:
        return self.values[key].encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)


class GoneStore(Store):
    def set(self, key: str, value: str) -> None:
        raise RuntimeError("connection reset")


EDGES = st.lists(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3))), min_size=1, max_size=6)


def state(device: int, exchanges: list[set[tuple[int, int]]], upto: int) -> ExchangeState:
    """The state of a device after `upto + 1` exchanges of a plan both sides share."""
    own = ExchangeState(upto)
    for index, edges in enumerate(exchanges[: upto + 1]):
        own.sent.update({b: index for a, b in edges if a == device != b})
        own.awaited.update({a: index for a, b in edges if b == device != a})
    return own


@given(EDGES, st.data())
def test_devices_that_agree_are_never_accused(
    exchanges: list[set[tuple[int, int]]], data: st.DataObject
) -> None:
    times = [data.draw(st.integers(0, len(exchanges) - 1)) for _ in range(4)]
    notes = [state(device, exchanges, times[device]) for device in range(4)]
    for one in range(4):
        for other in range(4):
            if one != other:
                assert find_deadlock(one, notes[one], other, notes[other]) is None


@given(EDGES)
def test_a_missing_half_is_always_found(exchanges: list[set[tuple[int, int]]]) -> None:
    last = len(exchanges) - 1
    exchanges[last] = {(0, 1)}
    waiting, silent = state(1, exchanges, last), state(0, [*exchanges[:last], set()], last)
    assert "which sends it nothing" in str(find_deadlock(1, waiting, 0, silent))
    sending, deaf = state(0, exchanges, last), state(1, [*exchanges[:last], set()], last)
    assert "does not wait" in str(find_deadlock(0, sending, 1, deaf))


def test_whoever_has_ended_sends_nothing() -> None:
    error = find_deadlock(1, ExchangeState(4, {}, {0: 4}), 0, ExchangeState(ENDED, {1: 3}, {}))
    assert str(error) == "exchange 4: device 1 waits for device 0, which sends it nothing"


@given(st.integers(-1, ENDED), st.dictionaries(st.integers(0, 99), st.integers(0, 999)))
def test_a_note_holds_the_whole_state(index: int, table: dict[int, int]) -> None:
    assert ExchangeState.from_note(ExchangeState(index, table, {}).to_note()) == ExchangeState(
        index, table, {}
    )


def test_two_watches_find_that_their_devices_disagree() -> None:
    store, broken_off = Store(), threading.Event()
    one = StallWatch(0, StateBoard(lambda: store), broken_off.set)
    other = StallWatch(1, StateBoard(lambda: store), lambda: None)
    with one.exchange(7, (), (1,)), other.exchange(7, (), ()):
        assert broken_off.wait(LIMIT_S)
    assert str(one.verdict) == "exchange 7: device 0 waits for device 1, which sends it nothing"
    assert other.verdict is None
    one.close()
    other.close()


def test_a_board_that_is_gone_ends_the_wait() -> None:
    broken_off = threading.Event()
    watch = StallWatch(3, StateBoard(GoneStore), broken_off.set)
    with watch.waiting():
        assert broken_off.wait(LIMIT_S)
    assert isinstance(watch.verdict, DeviceFailedError)
    watch.close()


def test_a_busy_device_needs_no_board() -> None:
    watch = StallWatch(0, StateBoard(GoneStore), lambda: None)
    until_s = time.monotonic() + 1.5
    while time.monotonic() < until_s:
        with watch.exchange(1, (1,), (1,)):
            time.sleep(0.01)
    assert watch.verdict is None
    watch.close()
