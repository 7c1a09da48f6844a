"""YAML files as plain mappings. Ground: whoever reads a file, scenario or experiment, reads it here."""

from pathlib import Path
from typing import Any

import yaml

from emulator.errors import ScenarioError

Raw = dict[str, Any]
"""A mapping as it stands in a file: text keys, plain values."""


def read_mapping(path: Path, wanted: str) -> Raw:
    """The mapping in a YAML file; `wanted` says what the file should be, e.g. "a scenario".

    Raises ScenarioError for a missing or unreadable file, for what is no YAML or no mapping, and for
    a key that is written twice.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except FileNotFoundError:
        raise ScenarioError([f"{path}: no such file, wanted {wanted} in YAML"]) from None
    except IsADirectoryError:
        raise ScenarioError([f"{path}: got a folder, wanted {wanted} in YAML"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError([f"{path}: cannot be read: {error}"]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or "not YAML"
        raise ScenarioError([f"{path}{line}: {what}, wanted a YAML mapping"]) from None
    if not isinstance(raw, dict):
        got = "nothing" if raw is None else f"a {type(raw).__name__}"
        raise ScenarioError([f"{path}: got {got}, wanted a mapping of sections"])
    return raw


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key written twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping, its keys all different."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"got the key {key_node.value!r} twice",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)
