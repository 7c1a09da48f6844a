"""What a run that trains on is told about the number of rounds that it was planned for."""

from pathlib import Path

import pytest

from emulator.runtime.resuming import describe_more_rounds
from emulator.runtime.run import RunRequest
from emulator.scenario.schema import Scenario

TASKS = {"kind": "synthetic", "names": ["reverse", "sort"]}
NAMED: dict[str, tuple[dict[str, object], str]] = {
    "lora": ({"kind": "lora"}, ""),
    "sparse": ({"kind": "sparse_orthogonal", "mask_warmup_steps": 3}, ""),
    "sparse, random": ({"kind": "sparse_orthogonal", "mask_selection": "random"}, ""),
    "sparse by default": ({"kind": "sparse_orthogonal"}, "mask_warmup_steps"),
    "sparse with exchanges": (
        {"kind": "sparse_orthogonal", "mask_warmup_steps": 3, "exchange_every": 2},
        "exchange_every",
    ),
    "lori": ({"kind": "lori"}, "mask_warmup_steps, receivers of masks"),
    "lori, dense": ({"kind": "lori", "density": 1.0}, ""),
    "once": (
        {"kind": "experts_once", "options": {"mask_warmup_steps": 3}},
        "the average after the last round",
    ),
}


@pytest.mark.parametrize("case", NAMED)
def test_what_depends_on_the_planned_rounds_is_named(case: str) -> None:
    method, named = NAMED[case]
    scenario = Scenario.model_validate(
        {"name": "a", "devices": 4, "rounds": 8, "tasks": TASKS, "method": method}
    )
    request = RunRequest(scenario, "one_process", Path("run"), force=True, resumed_after=2)
    wanted = (
        f"--rounds: {method['kind']} was planned for fewer rounds ({named}); 3 rounds and 5 more may "
        "end otherwise than a run of 8"
    )
    assert describe_more_rounds(request, 8) == ([wanted] if named else [])
    assert describe_more_rounds(request, None) == []
