"""Fixtures of the tests of routers: states of four overlapping tasks."""

from collections.abc import Callable

import numpy as np
import pytest

from emulator.core.types.arrays import DoubleArray

WIDTH, TASKS = 6, 4

Drawn = tuple[DoubleArray, list[int]]


@pytest.fixture
def drawn() -> Callable[..., Drawn]:
    """States with one common anisotropic covariance, and the task of each state."""

    def draw(seed: int, samples: int = 200) -> Drawn:
        draws = np.random.default_rng(seed)
        task_of_S = draws.integers(0, TASKS, samples)
        means = draws.standard_normal((TASKS, WIDTH))
        shape = draws.standard_normal((WIDTH, WIDTH))
        states = means[task_of_S] + draws.standard_normal((samples, WIDTH)) @ shape
        return states, task_of_S.tolist()

    return draw
