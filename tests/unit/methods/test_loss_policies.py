"""Policies for lost coordinates: what each makes of one message after another."""

import numpy as np
import pytest

from emulator.core.types.adapter import LostCoordinates
from emulator.core.types.arrays import BoolArray, FloatArray
from emulator.core.types.message import Coordinate, Kind, Received, Traffic
from emulator.methods.averaging import mask_mean, renormalised_step
from emulator.methods.loss_policies import loss_policy_of


def told(sender: int, values_N: FloatArray, here_N: BoolArray) -> Received:
    status_N = np.where(here_N, Coordinate.RECEIVED, Coordinate.LOST).astype(np.uint8)
    return Received(
        Kind.VALUES, Traffic.IN_CLUSTER, sender, sender, 0, 0.0, b"", values_N, status_N
    )


def test_who_is_received_alone_has_all_the_weight_that_is_left() -> None:
    own, received, lost = (np.array([v], dtype=np.float32) for v in (1.0, 3.0, 0.0))
    here, gone = np.array([True]), np.array([False])
    step = renormalised_step(own, own, [(0.25, received, here), (0.5, lost, gone)])
    assert step.tolist() == [2.0]  # weights 0.25 of the own and 0.25 of the other: one half each
    alone = renormalised_step(own, own, [(0.5, lost, gone), (0.5, lost, gone)])
    assert alone.tolist() == [1.0]


def test_the_last_value_of_a_neighbour_stands_in_for_it_and_no_other() -> None:
    take = loss_policy_of("last_received").complete
    here, gone = np.array([True, False]), np.array([False, False])
    first = take(told(1, np.array([3.0, 0.0], dtype=np.float32), here))
    assert (first.values.tolist(), first.received.tolist()) == ([3.0, 0.0], [True, False])
    nothing = np.zeros(2, dtype=np.float32)
    again = take(told(1, nothing, gone))
    assert (again.values.tolist(), again.received.tolist()) == ([3.0, 0.0], [True, False])
    assert not take(told(2, nothing, gone)).received.any()
    newer = take(told(1, np.array([5.0, 7.0], dtype=np.float32), ~gone))
    assert newer.values.tolist() == [5.0, 7.0]
    assert take(told(1, nothing, gone)).values.tolist() == [5.0, 7.0]


def test_an_incomplete_message_is_lost_as_a_whole_and_a_complete_one_is_not() -> None:
    take = loss_policy_of("drop_message").complete
    values_N, here_N = np.array([1.0, 2.0], dtype=np.float32), np.array([True, True])
    whole = told(1, values_N, here_N)
    assert take(whole) is whole
    broken = take(told(1, values_N, np.array([True, False])))
    assert (broken.status == Coordinate.LOST).all()
    assert not broken.values.any()


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ("keep_own", [1.0, 4.0]),
        ("renormalise", [1.0, 4.0]),
        ("last_received", [4.0, 4.0]),
        ("drop_message", [1.0, 1.0]),
    ],
)
def test_what_a_mean_over_writers_makes_of_it(policy: LostCoordinates, wanted: list[float]) -> None:
    """Own values of 1 and 1 with weight 1; another's of 5 and 5 with weight 3, the first lost."""
    complete = loss_policy_of(policy).complete
    both, second = np.array([True, True]), np.array([False, True])
    fives = np.array([5.0, 5.0], dtype=np.float32)
    complete(told(1, fives, both))
    received = complete(told(1, np.where(second, fives, 0).astype(np.float32), second))
    ones = np.ones(2, dtype=np.float32)
    mean_N, _ = mask_mean([(1.0, ones, both), (3.0, received.values, received.received)])
    assert mean_N.tolist() == wanted
