"""What a run that trains on is told about the number of rounds that it was planned for."""

import pytest

from emulator.runtime.resuming import describe_other_rounds
from emulator.scenario.schema import Scenario

TASKS = {"kind": "synthetic", "names": ["reverse", "sort"]}
NAMED: dict[str, tuple[dict[str, object], str]] = {
    "lora": ({"kind": "lora"}, ""),
    "sparse": ({"kind": "sparse_orthogonal", "mask_warmup_steps": 3}, ""),
    "sparse, random": ({"kind": "sparse_orthogonal", "mask_selection": "random"}, ""),
    "sparse by default": ({"kind": "sparse_orthogonal"}, "mask_warmup_steps"),
    "sparse with exchanges": (
        {"kind": "sparse_orthogonal", "mask_warmup_steps": 3, "exchange_every": 2},
        "an exchange of experts follows round 4 unless it is the last (exchange_every)",
    ),
    "lori": ({"kind": "lori"}, "mask_warmup_steps, receivers of masks"),
    "lori, dense": ({"kind": "lori", "density": 1.0}, ""),
    "once": (
        {"kind": "experts_once", "options": {"mask_warmup_steps": 3}},
        "only the last round averages",
    ),
}


@pytest.mark.parametrize("case", NAMED)
def test_what_depends_on_the_planned_rounds_is_named(case: str) -> None:
    method, named = NAMED[case]
    planned = Scenario.model_validate(
        {"name": "a", "devices": 4, "rounds": 4, "tasks": TASKS, "method": method}
    )
    more = planned.model_copy(update={"rounds": 8})
    wanted = (
        f"{method['kind']} was planned for 4 rounds ({named}); the run may end otherwise than one that is "
        "planned for 8"
    )
    assert describe_other_rounds(planned, more, 4) == ([wanted] if named else [])
    assert describe_other_rounds(planned, planned, 2) == []
