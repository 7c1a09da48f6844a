"""Whether the adapter of a method fits the modules of the backbone, and how much of it is kept.

Shapes: d outputs and k inputs of an adapted module.
"""

from collections.abc import Callable, Sequence

from emulator.core.errors import ScenarioError
from emulator.learning.adapters.projection import check_room
from emulator.scenario.schema import Scenario

Shapes = Callable[[], Sequence[tuple[int, int]]]
"""Gives (d, k) of every adapted module, nothing where they are not known; called only where they matter."""


def check_rank(scenario: Scenario, shapes_dk: Shapes) -> None:
    """Refuse a rank above that of a module, or with which orthogonal projections have no room in one.

    Raises ScenarioError. A method without `lora_rank` has nothing to be refused.
    """
    method = scenario.method
    rank = _number(method, "lora_rank")
    counted = getattr(method, "orthogonal_blocks", None)  # a method of a user's own may have none
    blocks = counted(len(scenario.tasks.names), scenario.devices) if counted else 0
    if not rank or not (known := shapes_dk()):
        return
    if blocks:
        check_room([k for _, k in known], int(rank), blocks)
    if rank > (most := min(map(min, known))):
        raise ScenarioError(
            [
                f"method.lora_rank: got {rank:g}, wanted at most {most}, the rank that every adapted "
                "module has room for (the fewest inputs or outputs of one)"
            ]
        )


def size_notes(scenario: Scenario, shapes_dk: Shapes) -> list[str]:
    """A line where a density keeps so few entries that some modules learn nothing."""
    method = scenario.method
    rank, density = _number(method, "lora_rank"), _number(method, "density")
    if not rank or not density or getattr(method, "budget", "density") != "density":
        return []
    known = shapes_dk()
    size = int(rank) * sum(d for d, _ in known)
    kept = max(1, round(density * size))
    if kept >= len(known):
        return []
    return [
        f"method.density: {density:g} keeps {kept} of {size} entries of B in {len(known)} modules, so "
        "some modules learn nothing"
    ]


def _number(method: object, name: str) -> float:
    """A field of a method; 0 where it has none that is a number."""
    value = getattr(method, name, 0)
    return value if isinstance(value, int | float) else 0
