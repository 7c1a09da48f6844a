"""What all tests share: the reference values stored beside them."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

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
