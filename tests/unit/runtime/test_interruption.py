"""The first signal waits for a round with a checkpoint, the second one does not."""

import signal
from collections.abc import Callable

import pytest

from emulator.runtime.interruption import ANNOUNCEMENT, Interruption


def ends_with(interruption: Interruption, commits: list[tuple[int, int]]) -> tuple[int, int] | None:
    """The commit (device, rounds done) with which the run ends; None: with none."""
    for device, rounds_done in commits:
        try:
            interruption.finish_round(device, rounds_done)
        except KeyboardInterrupt:
            return device, rounds_done
    return None


def every(rounds: int) -> Callable[[int], bool]:
    return lambda round_index: (round_index + 1) % rounds == 0


IN_TURN = [(device, done) for done in range(1, 9) for device in range(3)]
ONE_AHEAD = [(0, 1), (0, 2), (1, 1), (2, 1), (0, 3), (1, 2), (2, 2), (1, 3), (2, 3)]


@pytest.mark.parametrize(
    ("before", "commits", "checkpoints", "end"),
    [
        (0, IN_TURN, 1, (2, 1)),
        (4, IN_TURN, 1, (2, 2)),
        (6, IN_TURN, 1, (2, 3)),
        (4, IN_TURN, 3, (2, 3)),
        (10, IN_TURN, 3, (2, 6)),
        (2, ONE_AHEAD, 1, (2, 1)),
        (5, ONE_AHEAD, 1, (2, 2)),
        (9, IN_TURN, 9, None),
    ],
)
def test_it_ends_after_the_round_of_the_slowest_device(
    before: int,
    commits: list[tuple[int, int]],
    checkpoints: int,
    end: tuple[int, int] | None,
) -> None:
    interruption, announced = Interruption(), []
    with (
        interruption.accept(announced.append),
        interruption.wait_for_rounds(range(3), every(checkpoints)),
    ):
        assert ends_with(interruption, commits[:before]) is None
        signal.raise_signal(signal.SIGTERM)
        assert ends_with(interruption, commits[before:]) == end
    assert announced == [ANNOUNCEMENT]


def test_the_second_signal_ends_it_at_once() -> None:
    interruption = Interruption()
    with (
        interruption.accept(lambda line: None),
        interruption.wait_for_rounds(range(3), every(1)),
    ):
        signal.raise_signal(signal.SIGINT)
        interruption.finish_round(0, 1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)


def test_without_checkpoints_or_outside_the_rounds_the_first_signal_ends_it_at_once() -> None:
    interruption = Interruption()
    with interruption.accept(lambda line: None):
        with interruption.wait_for_rounds(range(3), None), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interruption().accept(lambda line: None):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
