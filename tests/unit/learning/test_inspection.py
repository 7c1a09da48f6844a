"""Measurements before and after an exchange, on invented vectors of four coordinates."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Coordinate, Kind, Received, Traffic
from emulator.learning.inspection import Inspection, replace_values

START_N = np.array([1.0, 2.0, 0.0, 4.0], dtype=np.float32)
SHARE_N = np.array([0.5, 0.5, 0.25, 1.0], dtype=np.float32)


class Adapter:
    """A vector."""

    module = object()

    def __init__(self) -> None:
        self.now_N = START_N

    def vector(self) -> FloatArray:
        return self.now_N.copy()

    def load(self, vector_N: FloatArray) -> None:
        assert vector_N.dtype == np.float32
        self.now_N = vector_N


class Looks:
    """A device whose steps of a round add [2, 0, 8, -4], with the tried vectors and the metrics."""

    STEP_N = np.array([2.0, 0.0, 8.0, -4.0], dtype=np.float32)

    def __init__(self, every: int) -> None:
        self.adapter: Any = Adapter()
        self.tried: dict[tuple[str, int], list[float]] = {}
        self.measured: dict[tuple[str, int], float] = {}
        answering: Any = SimpleNamespace(measure_model=self.measure_model)
        log: Any = SimpleNamespace(metric=self.measure)
        self.inspection = Inspection("sort", answering, every, lambda vector_N: vector_N, log)
        self.inspection.start(self.adapter)

    def measure_model(self, _: object, task: str, prefix: str) -> list[tuple[str, str, float]]:
        self.tried[prefix, self.round_index] = self.adapter.now_N.tolist()
        return [(f"{prefix}accuracy", task, 0.5)]

    def measure(self, metric: str, value: float, round_index: int, *_: object) -> None:
        self.measured[metric, round_index] = value

    def round(self, round_index: int, mean_of_others_N: FloatArray | None) -> None:
        """Local steps, then a merge with SHARE_N of the own values; None: no exchange."""
        self.round_index = round_index
        own_N = self.adapter.vector() + self.STEP_N
        self.adapter.load(own_N)
        self.inspection.before_exchange(self.adapter, round_index)
        if mean_of_others_N is not None:
            whole = np.full(4, Coordinate.RECEIVED, dtype=np.uint8)
            others = Received(
                Kind.VALUES, Traffic.IN_CLUSTER, 1, 1, 0, 0.0, b"", mean_of_others_N, whole
            )

            def merged(received: Sequence[Received]) -> FloatArray:
                (other,) = received
                return SHARE_N * own_N + (1 - SHARE_N) * other.values.astype(np.float32)

            self.inspection.try_diluted(self.adapter, merged, [others])
            assert self.adapter.now_N.tolist() == own_N.tolist()
            self.adapter.load(merged([others]))
        self.inspection.after_exchange(self.adapter)


def wanted(before_steps_N: FloatArray, trained_N: FloatArray) -> list[float]:
    """b0 + share (b1 - b0), coordinate by coordinate."""
    pairs = zip(SHARE_N, before_steps_N, trained_N, strict=True)
    return [float(b0 + share * (b1 - b0)) for share, b0, b1 in pairs]


def test_the_control_uses_the_vector_of_the_start_of_the_round() -> None:
    looks = Looks(every=1)
    before_N = START_N
    for r in range(3):
        mean_N = np.full(4, 10.0 * (r + 1), dtype=np.float32)
        looks.round(r, mean_N)
        trained_N = before_N + Looks.STEP_N
        assert looks.tried["before_", r] == trained_N.tolist()
        assert looks.tried["diluted_", r] == wanted(before_N, trained_N)
        before_N = SHARE_N * trained_N + (1 - SHARE_N) * mean_N
        assert looks.tried["own_", r] == before_N.tolist()


def test_the_start_of_a_round_is_recorded_in_rounds_without_measurements() -> None:
    every, second = Looks(every=1), Looks(every=2)
    for r in range(4):
        mean_N = np.full(4, 3.0 * r, dtype=np.float32)
        for looks in (every, second):
            looks.round(r, mean_N)
    for r in (1, 3):
        assert second.tried["diluted_", r] == every.tried["diluted_", r]
    assert {r for _, r in second.tried} == {1, 3}


def test_without_an_exchange_the_steps_of_several_rounds_are_taken_from_others() -> None:
    looks = Looks(every=1)
    looks.round(0, None)
    looks.round(1, START_N)
    assert ("diluted_", 0) not in looks.tried
    assert looks.tried["diluted_", 1] == wanted(START_N, START_N + 2 * Looks.STEP_N)
    assert looks.tried["diluted_", 1] == looks.tried["own_", 1]


def test_the_shift_is_relative_to_the_total_change_in_the_rounds() -> None:
    looks = Looks(every=2)
    looks.round(0, START_N)
    after_first_N = looks.adapter.vector()
    looks.round(1, START_N)
    trained_N = after_first_N + Looks.STEP_N
    moved_N = looks.adapter.vector() - trained_N
    shift = float(np.linalg.norm(moved_N) / np.linalg.norm(trained_N - START_N))
    assert np.isclose(looks.measured["exchange_shift", 1], shift)
    assert ("exchange_shift", 0) not in looks.measured


def test_nothing_is_measured_by_default() -> None:
    looks = Looks(every=0)
    looks.round(0, START_N)
    looks.round(1, START_N)
    assert (looks.tried, looks.measured) == ({}, {})


def test_replaced_values_keep_lost_coordinates() -> None:
    status_N = np.array(
        [Coordinate.RECEIVED, Coordinate.LOST, Coordinate.NOT_SENT, Coordinate.RECEIVED],
        dtype=np.uint8,
    )
    values_N = np.array([5.0, 0.0, 0.0, 7.0], dtype=np.float32)
    received = Received(Kind.VALUES, Traffic.IN_CLUSTER, 3, 3, 0, 0.0, b"", values_N, status_N)
    (moved,) = replace_values([received], np.array([1.0, 2.0, 3.0, 4.0], dtype=np.float32))
    assert moved.values.tolist() == [1.0, 0.0, 0.0, 4.0]
    assert moved.status.tolist() == status_N.tolist()
    assert (moved.source, received.values.tolist()) == (3, values_N.tolist())
