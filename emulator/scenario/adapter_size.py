"""Checks that the adapter of a method fits the modules of the backbone, and notes on its density.

Shapes: d outputs and k inputs of an adapted module.
"""

from collections.abc import Callable, Sequence

from emulator.core.errors import ScenarioError
from emulator.learning.adapters.projection import check_room
from emulator.scenario.schema import Scenario

Shapes = Callable[[], Sequence[tuple[int, int]]]
"""Returns (d, k) of every adapted module, or nothing if unknown; it is called only when needed."""


def check_rank(scenario: Scenario, shapes_dk: Shapes) -> None:
    """Raise ScenarioError for a rank that is too large for a module or for its orthogonal projections.

    A method without `lora_rank` is always valid.
    """
    method = scenario.method
    rank = _get_number(method, "lora_rank")
    counted = getattr(method, "orthogonal_blocks", None)  # a user's own method may lack it
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


def note_size(scenario: Scenario, shapes_dk: Shapes) -> list[str]:
    """A note if the density keeps fewer entries than there are modules, so that some learn nothing."""
    method = scenario.method
    rank, density = _get_number(method, "lora_rank"), _get_number(method, "density")
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


def _get_number(method: object, name: str) -> float:
    """A numeric field of a method; 0 if the method has none."""
    value = getattr(method, name, 0)
    return value if isinstance(value, int | float) else 0
