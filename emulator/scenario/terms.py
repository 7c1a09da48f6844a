"""What a scenario states, as flat terms; hosts and checkpoints compare them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from emulator.scenario.schema import Scenario


def list_terms(scenario: Scenario) -> dict[str, str]:
    """List all settings as dotted key -> JSON text; of a file only its name counts.

    The same file may have another path on another host, or after it was moved.
    """
    terms: dict[str, str] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                add(f"{name}.{key}" if name else key, below)
        elif isinstance(value, str) and Path(value).is_absolute():
            terms[name] = Path(value).name
        else:
            terms[name] = json.dumps(value)

    add("", scenario.model_dump(mode="json"))
    return terms


def compute_digest(scenario: Scenario) -> str:
    """Compute the SHA-256 of all terms but `rounds`, in hexadecimal digits.

    A state after some rounds fits every scenario with the same digest: such a run may have more rounds.
    """
    terms = {key: text for key, text in list_terms(scenario).items() if key != "rounds"}
    return hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()
