"""What all tests share: reference values, the folder of real text, one thread, no limits of wall time."""

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before NumPy is imported, or it is too late

# A loaded machine is slow, not wrong; and the same commit has the same examples everywhere. Whoever
# looks for new ones says --hypothesis-profile=search.
settings.register_profile(
    "search", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("same examples", settings.get_profile("search"), derandomize=True)
settings.load_profile("same examples")

REFERENCES = Path(__file__).parent / "references"


@pytest.fixture(scope="session")
def references() -> Callable[[str], dict[str, Any]]:
    """`references("closed_forms")["arq"]["rows"]`: the tables of a file; a missing file is an error.

    Every table has its `source` and how it was `computed` beside its rows.
    """

    @cache
    def tables(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((REFERENCES / f"{name}.json").read_text("utf-8"))
        return found

    return tables


@pytest.fixture(scope="session")
def task_folder() -> Path:
    """A folder of real text tasks, which the repository has not; the README says how to fill one."""
    if not (named := os.environ.get("EMULATOR_TASKS")):
        pytest.skip("EMULATOR_TASKS names no folder of real text tasks")
    return Path(named)
