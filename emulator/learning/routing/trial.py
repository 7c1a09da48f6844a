"""A trial of a router against its interface, before anything is trained.

Shapes: S questions, T tasks.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from emulator.core.errors import ScenarioError, shown
from emulator.core.protocols.router import Router
from emulator.core.types.arrays import FloatArray


def try_router(router: Router, known: Mapping[int, tuple[Any, int]], num_tasks: int) -> None:
    """Fit a router to some questions of every task, and compute their gates. No result is kept.

    known: features and number of questions by task. Raises ScenarioError, which names the first method
    of the router whose result does not follow the protocol.
    """
    summed: dict[str, FloatArray] = {}
    for task, (features, count) in known.items():
        parts = router.statistics(features, [task] * count, num_tasks)
        _check(router, "statistics()", find_wrong_arrays(parts))
        _check(router, "statistics()", _compare_layouts(summed or parts, parts))
        summed = {name: summed.get(name, 0.0) + np.asarray(part) for name, part in parts.items()}
    own_features = next(iter(known.values()))[0]
    fitted = router.fit(summed, own_features, num_tasks)
    _check(
        router, "fit()", find_wrong_arrays(fitted) or ("" if fitted else "nothing, wanted an array")
    )
    for features, count in known.values():
        wrong = find_wrong_gates(router.gates(fitted, features), count, num_tasks)
        _check(router, "gates()", wrong)


def find_wrong_gates(gates: Any, num_questions: int, num_tasks: int) -> str:
    """Describe gates that are not finite, non-negative numbers [S, T]; empty for valid gates."""
    wanted = (num_questions, num_tasks)
    if not isinstance(gates, np.ndarray) or gates.dtype.kind not in "fiub":
        return f"{_describe_type(gates)}, wanted an array of numbers of shape {wanted}"
    if gates.shape != wanted:
        return (
            f"an array of shape {gates.shape}, wanted {wanted}: a row for each question, in it a gate for "
            "each task"
        )
    finite = np.isfinite(gates)
    if finite.all() and (gates >= 0).all():
        return ""
    got = "NaN or infinity" if not finite.all() else f"{gates.min():g}"
    return f"{got} among its gates, wanted finite numbers, none negative"


def find_wrong_arrays(arrays: Any) -> str:
    """Describe a value that is not a mapping from names to arrays; empty for a valid value."""
    if not isinstance(arrays, Mapping):
        return f"{_describe_type(arrays)}, wanted arrays by name"
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            return f"{_describe_type(array)} for {shown(name)}, wanted an array"
    return ""


def describe(router: Router, call: str, wrong: str) -> str:
    """Describe a wrong result of a router in one line."""
    return f"router.kind: got {router.kind!r}, whose {call} gives {wrong}"


def _check(router: Router, call: str, wrong: str) -> None:
    if wrong:
        raise ScenarioError([describe(router, call, wrong)])


def _compare_layouts(first: Mapping[str, FloatArray], parts: Mapping[str, FloatArray]) -> str:
    """Describe why the statistics of two tasks cannot be added; empty if they can."""
    shapes = [{name: part.shape for name, part in each.items()} for each in (first, parts)]
    if shapes[0] == shapes[1]:
        return ""
    return f"{shown(shapes[1])} for one task, wanted {shown(shapes[0])} as for another"


def _describe_type(value: Any) -> str:
    """The type of a value, in words."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return "nothing" if value is None else f"a {type(value).__name__}"
