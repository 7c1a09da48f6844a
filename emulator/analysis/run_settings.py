"""Which settings runs differ in, read from the scenario.yaml that each of them left."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emulator.core.yaml_file import read_mapping

ABSENT = "-"


def differing(folders: Sequence[Path]) -> list[tuple[str, list[str]]]:
    """Key path and every run's value (ABSENT where it has no such key), in the order of the files.

    What only one `kind` has follows from that kind: runs that have a key must differ in it.
    """
    settings = [
        dict(_leaves(read_mapping(folder / "scenario.yaml", "a run's scenario")))
        for folder in folders
    ]
    keys = list(dict.fromkeys(key for each in settings for key in each))
    shown = [(key, [_text(each.get(key, ABSENT)) for each in settings]) for key in keys]
    return [(key, values) for key, values in shown if len({*values} - {ABSENT}) > 1]


def _leaves(part: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """All values that are no mappings, by dotted path."""
    for key, value in part.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _text(value: Any) -> str:
    """A value as it stands in a --set."""
    if isinstance(value, list):
        return f"[{', '.join(_text(item) for item in value)}]"
    return "default" if value is None else str(value)
