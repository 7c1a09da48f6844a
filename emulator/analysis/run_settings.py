"""The settings in which runs differ, read from the scenario.yaml of each run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emulator.core.yaml_file import read_mapping

ABSENT = "-"


def find_differences(folders: Sequence[Path]) -> list[tuple[str, list[str]]]:
    """Return each key path that differs with the value of every run, in the order of the files.

    A run without that key has ABSENT. A key counts only if two runs that have it differ in it: a key
    that exists under one `kind` alone follows from the kind.
    """
    settings = [
        dict(_list_leaves(read_mapping(folder / "scenario.yaml", "a run's scenario")))
        for folder in folders
    ]
    keys = list(dict.fromkeys(key for each in settings for key in each))
    shown = [(key, [_write_value(each.get(key, ABSENT)) for each in settings]) for key in keys]
    return [(key, values) for key, values in shown if len({*values} - {ABSENT}) > 1]


def _list_leaves(part: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that is not a mapping, with its dotted path."""
    for key, value in part.items():
        if isinstance(value, Mapping):
            yield from _list_leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _write_value(value: Any) -> str:
    """Write a value as --set takes it."""
    if isinstance(value, list):
        return f"[{', '.join(_write_value(item) for item in value)}]"
    return "default" if value is None else str(value)
