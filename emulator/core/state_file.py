"""The state of a device as one safetensors file: a tree of plain values in its header, and its arrays.

A tree consists of None, booleans, numbers, text, tuples, lists, frozensets, dictionaries (keys are
plain values), NumPy arrays, and a few types of messages and adapters. It is written without pickle, so
that reading a file runs no code. Law: `read_state(write_state(tree))` equals the tree.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from emulator.core.errors import ScenarioError
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import Kind, Received, Traffic
from emulator.core.types.steps import State

MOST_TREE_BYTES = 100_000_000
"""Largest size of the JSON text of a tree without its arrays."""

_RECORDS: dict[str, type] = {"Mask": Mask, "AdapterLayout": AdapterLayout, "Received": Received}
_ENUMS: dict[str, type] = {"Kind": Kind, "Traffic": Traffic}
_SEQUENCES: dict[str, Callable[[list[Any]], Any]] = {"tuple": tuple, "frozenset": frozenset}


def write_state(tree: State) -> bytes:
    """Return the bytes of a tree's file. Raises TypeError for a value of another type."""
    writer = _Writer()
    document = json.dumps(writer.plain(tree))
    return save(writer.arrays, metadata={"tree": document})


def read_state(data: bytes) -> State:
    """Return the tree in a file. Raises ValueError for bytes that `write_state` did not write."""
    try:
        metadata, arrays = _read_safetensors(data)
        return _read(json.loads(metadata["tree"]), arrays)
    except (SafetensorError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no state of a device ({type(error).__name__}: {error})") from None


@contextmanager
def refuse_unfit(device: int) -> Iterator[None]:
    """Raise ScenarioError where a device cannot take up a state inside the context.

    Such a state was written by another version of the emulator, or of a user's own part.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ScenarioError(
            [
                f"device {device}: got a checkpoint that does not fit ({why}), wanted one that the same "
                "version of all parts wrote"
            ]
        ) from error


class _Writer:
    """Replaces arrays with names; an array that occurs twice is written once."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}
        self._names: dict[int, str] = {}

    def plain(self, value: State) -> Any:
        """The value as JSON."""
        match value:
            case np.ndarray():
                return {"array": self._store(value)}
            case Kind() | Traffic():
                return {type(value).__name__: int(value)}
            case None | bool() | int() | float() | str():
                return value
            case bytes():
                return {"bytes": value.hex()}
            case list():
                return [self.plain(item) for item in value]
            case tuple():
                return {"tuple": [self.plain(item) for item in value]}
            case frozenset():
                return {"frozenset": [self.plain(item) for item in sorted(value)]}
            case Mapping():
                return {"dict": [[self.plain(k), self.plain(v)] for k, v in value.items()]}
        name = type(value).__name__
        if _RECORDS.get(name) is not type(value):
            raise TypeError(f"a state cannot hold {type(value).__name__}")
        fields = {field: self.plain(getattr(value, field)) for field in _fields(type(value))}
        return {name: fields}

    def _store(self, array: NDArray[Any]) -> str:
        if id(array) not in self._names:
            name = f"{len(self._names):06d}"
            self._names[id(array)] = name
            self.arrays[name] = np.ascontiguousarray(array)
        return self._names[id(array)]


def _read(value: Any, arrays: Mapping[str, NDArray[Any]]) -> State:
    if isinstance(value, list):
        return [_read(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    match kind:
        case "array":
            return arrays[inner]
        case "bytes":
            return bytes.fromhex(inner)
        case "tuple" | "frozenset":
            return _SEQUENCES[kind](_read(inner, arrays))
        case "dict":
            return {_read(k, arrays): _read(v, arrays) for k, v in inner}
    if kind in _ENUMS:
        return _ENUMS[kind](inner)
    fields = {name: _read(item, arrays) for name, item in inner.items()}
    return _RECORDS[kind](**fields)


def _fields(record: type) -> tuple[str, ...]:
    """Names of the fields of a dataclass, without cached properties."""
    return tuple(record.__dataclass_fields__)  # type: ignore[attr-defined]


def _read_safetensors(data: bytes) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and arrays of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, MOST_TREE_BYTES):
        raise ValueError(f"no state of a device ({len(data)} bytes, cut off)")
    header = json.loads(data[8 : 8 + length])
    return header["__metadata__"], load(data)
