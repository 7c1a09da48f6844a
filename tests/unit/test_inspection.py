"""What is tried around an exchange, on an adapter that remembers what it was asked with."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from emulator.inspection import Inspection
from emulator.state import FloatArray

START_N = np.array([1.0, 2.0, 0.0, 4.0], dtype=np.float32)
TRAINED_N = np.array([3.0, 2.0, 8.0, 0.0], dtype=np.float32)
SHARE_N = np.array([0.5, 0.5, 0.25, 1.0])
DILUTED_N = [2.0, 2.0, 2.0, 0.0]


class Adapter:
    """A vector, and what it was each time somebody answered with it."""

    module = object()

    def __init__(self) -> None:
        self.now_N = START_N

    def vector(self) -> FloatArray:
        return self.now_N.copy()

    def load(self, vector_N: FloatArray) -> None:
        assert vector_N.dtype == np.float32
        self.now_N = vector_N


def looked(
    every: int, round_index: int
) -> tuple[Adapter, dict[str, list[float]], dict[str, float]]:
    """One exchange that halves what was learnt: the adapter, what was tried by prefix, what was measured."""
    adapter, tried, measured = Adapter(), {}, {}

    def alone(_: object, task: str, prefix: str) -> list[tuple[str, str, float]]:
        tried[prefix] = adapter.now_N.tolist()
        return [(f"{prefix}accuracy", task, 0.5)]

    def measure(metric: str, value: float, *_: object) -> None:
        measured[metric] = value

    own: Any = SimpleNamespace(adapted=adapter, shard=SimpleNamespace(task="sort"), measure=measure)
    answering: Any = SimpleNamespace(alone=alone)
    inspection = Inspection(own, answering, every)
    inspection.start()
    adapter.load(TRAINED_N)
    inspection.before(round_index)
    inspection.diluted(lambda: SHARE_N, round_index)
    assert adapter.now_N.tolist() == TRAINED_N.tolist()
    adapter.load((TRAINED_N + START_N) / 2)
    inspection.after(round_index)
    return adapter, tried, measured


def test_the_own_values_are_diluted_towards_where_they_started() -> None:
    _, tried, measured = looked(every=2, round_index=1)
    assert tried["before_"] == TRAINED_N.tolist()
    assert tried["diluted_"] == DILUTED_N
    assert tried["own_"] == ((TRAINED_N + START_N) / 2).tolist()
    assert measured["exchange_shift"] == 0.5
    assert {"before_accuracy", "diluted_accuracy", "own_accuracy"} <= set(measured)


def test_nothing_is_tried_in_other_rounds_or_when_not_asked() -> None:
    for every, round_index in ((2, 0), (0, 1)):
        _, tried, measured = looked(every, round_index)
        assert (tried, measured) == ({}, {})
