"""The paced clock: every frame at its moment, counted from one start; what is late is reported."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.core.records import pacing_account
from emulator.core.types.transmission import Burst
from emulator.runtime.drivers.pacing import Pacer, schedule_frames


class Wall:
    """A clock that a sleep moves on, a little too far, as real ones do."""

    def __init__(self, overshoot_s: float = 0.0) -> None:
        self.now_s = 1000.0
        self.overshoot_s = overshoot_s

    def clock(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        assert duration_s > 0.0
        self.now_s += duration_s + self.overshoot_s


def burst(receiver: int, start_s: float, arrival_s: float) -> Burst:
    return Burst(0, receiver, 3, arrival_s, b"", start_s)


def test_a_moment_is_waited_for_and_a_missed_one_is_not() -> None:
    wall = Wall()
    pacer = Pacer(0.5, wall.clock, wall.sleep)
    pacer.wait_until(4.0)
    assert wall.now_s == 1002.0
    wall.now_s = 1010.0
    pacer.wait_until(10.0)
    assert wall.now_s == 1010.0
    lag = pacer.summarise_lag()
    assert (lag["lag_max_s"], lag["frames"]) == (5.0, 2.0)
    assert lag["lag_p50_s"] == 2.5


@given(st.lists(st.floats(0.0, 0.5), min_size=1, max_size=50), st.floats(0.0, 1e-3))
def test_oversleeping_does_not_add_up(gaps: list[float], overshoot_s: float) -> None:
    wall = Wall(overshoot_s)
    pacer = Pacer(1.0, wall.clock, wall.sleep)
    now_s = 0.0
    for gap_s in gaps:
        now_s += gap_s
        pacer.wait_until(now_s)
        assert now_s - 1e-9 <= wall.now_s - 1000.0 <= now_s + overshoot_s + 1e-9
    assert pacer.summarise_lag()["lag_max_s"] <= overshoot_s + 1e-9


def test_a_silent_device_lags_by_nothing() -> None:
    assert Pacer(1.0).summarise_lag() == {
        "lag_p50_s": 0.0, "lag_p99_s": 0.0, "lag_max_s": 0.0, "frames": 0.0,
    }  # fmt: skip


def test_frames_of_several_bursts_leave_in_the_order_of_their_moments() -> None:
    bursts = [burst(1, 10.0, 14.0), burst(2, 10.0, 11.0), burst(3, 12.0, 12.0)]
    assert list(schedule_frames(bursts, [4, 2, 1])) == [
        (10.5, 1, 0), (11.0, 0, 0), (11.0, 1, 1), (12.0, 0, 1), (12.0, 2, 0), (13.0, 0, 2),
        (14.0, 0, 3),
    ]  # fmt: skip


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(0, 10), st.integers(1, 5)), min_size=1, max_size=6
    )
)
def test_every_frame_leaves_once_and_the_last_of_a_burst_at_its_arrival(
    plan: list[tuple[float, float, int]],
) -> None:
    bursts = [burst(i + 1, start, start + lasts) for i, (start, lasts, _) in enumerate(plan)]
    counts = [count for *_, count in plan]
    left = list(schedule_frames(bursts, counts))
    assert sorted((index, frame) for _, index, frame in left) == [
        (index, frame) for index, count in enumerate(counts) for frame in range(count)
    ]
    for index, each in enumerate(bursts):
        own = [(due_s, frame) for due_s, of, frame in left if of == index]
        assert own == sorted(own)
        assert own[-1][0] == pytest.approx(each.arrival_s)


def test_the_account_is_that_of_the_worst_device() -> None:
    quick = {"lag_p50_s": 0.001, "lag_p99_s": 0.002, "lag_max_s": 0.3, "frames": 10.0}
    slow = {"lag_p50_s": 0.002, "lag_p99_s": 0.06, "lag_max_s": 0.1, "frames": 5.0}
    account = pacing_account([quick, slow], round_s=1.0)
    assert account == {
        "lag_p50_s": 0.002, "lag_p99_s": 0.06, "lag_max_s": 0.3, "frames": 15, "round_s": 1.0,
        "lag_share_of_round": 0.06, "keeps_pace": False,
    }  # fmt: skip
    assert pacing_account([quick], round_s=1.0)["keeps_pace"]
