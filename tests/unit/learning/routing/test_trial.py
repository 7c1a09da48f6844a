"""A router that breaks its protocol is found before anything is trained.

Shapes: S questions, T tasks.
"""

from typing import Any

import numpy as np
import pytest

from emulator.core.errors import ScenarioError
from emulator.learning.routing import Arrow, BagOfWords, Cosine, Oracle, RidgeLda, Uniform
from emulator.learning.routing.trial import try_router
from emulator.scenario.schema import Scenario
from emulator.scenario.world import build_world


class Own:
    """A router with one method that returns a wrong result."""

    kind = "mine:Own"

    def __init__(self, **given: Any) -> None:
        self.given = given

    def statistics(self, features: Any, task_of: Any, num_tasks: int) -> Any:
        parts = self.given.get("statistics", {"counts": np.ones(num_tasks)})
        return parts(task_of[0]) if callable(parts) else parts

    def fit(self, statistics: Any, own_features: Any, num_tasks: int) -> Any:
        return self.given.get("fit", statistics)

    def gates(self, fitted: Any, features: Any) -> Any:
        return self.given.get("gates", np.ones((3, 2)))


def tried(router: Any) -> None:
    try_router(router, {0: ("features", 3), 1: ("features", 3)}, 2)


def test_a_router_that_follows_its_protocol_is_accepted() -> None:
    tried(Own())
    tried(Own(gates=np.zeros((3, 2), dtype=np.float32)))
    tried(Own(statistics={}, fit={"any": np.ones(1)}))


SHAPE = "wanted (3, 2): a row for each question, in it a gate for each task"
NUMBERS = "among its gates, wanted finite numbers, none negative"
WRONG = [
    ("gates", np.ones((3, 7)), f"an array of shape (3, 7), {SHAPE}"),
    ("gates", np.ones((2, 3)), f"an array of shape (2, 3), {SHAPE}"),
    ("gates", np.ones(3), f"an array of shape (3,), {SHAPE}"),
    ("gates", np.full((3, 2), np.nan), f"NaN or infinity {NUMBERS}"),
    ("gates", np.full((3, 2), np.inf), f"NaN or infinity {NUMBERS}"),
    ("gates", np.full((3, 2), -0.5), f"-0.5 {NUMBERS}"),
    ("gates", [[1.0, 0.0]] * 3, "a list, wanted an array of numbers of shape (3, 2)"),
    ("gates", None, "nothing, wanted an array of numbers of shape (3, 2)"),
    ("gates", np.ones((3, 2), dtype=object), "an array of object, wanted an array of numbers of"),
    ("fit", None, "nothing, wanted arrays by name"),
    ("fit", {}, "nothing, wanted an array"),
    ("fit", {"w": [1.0]}, "a list for 'w', wanted an array"),
    ("statistics", np.ones(2), "an array of float64, wanted arrays by name"),
    ("statistics", {"n": 3}, "a int for 'n', wanted an array"),
    (
        "statistics",
        lambda task: {"n": np.ones(1 + task)},
        "{'n': (2,)} for one task, wanted {'n': (1,)} as for another",
    ),
]


@pytest.mark.parametrize(("method", "given", "wrong"), WRONG, ids=[line for _, _, line in WRONG])
def test_a_wrong_result_is_reported_with_the_kind_of_the_router(
    method: str, given: Any, wrong: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        tried(Own(**{method: given}))
    (line,) = caught.value.problems
    assert line.startswith(f"router.kind: got 'mine:Own', whose {method}() gives {wrong}")


class SevenGates(Uniform):
    kind: str  # type: ignore[assignment]

    def gates(self, fitted: Any, features: Any) -> Any:
        return np.ones((len(features), 7), dtype=np.float32)


def world_with(router: Any) -> None:
    few = {"train_samples": 20, "test_samples": 1}
    tasks = {"kind": "synthetic", "names": ["reverse", "sort"], **few}
    build_world(Scenario.model_validate({"name": "s", "tasks": tasks, "router": router}))


def test_a_world_is_not_built_around_a_router_of_the_wrong_shape() -> None:
    with pytest.raises(
        ScenarioError, match=r"'mine:SevenGates', whose gates\(\) gives .* \(1, 7\)"
    ):
        world_with(SevenGates(kind="mine:SevenGates"))


@pytest.mark.parametrize("router", [RidgeLda, Cosine, Arrow, BagOfWords, Uniform, Oracle])
def test_built_in_routers_pass_the_trial_with_one_question_per_task(router: Any) -> None:
    world_with(router().model_dump())
