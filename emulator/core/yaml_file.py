"""YAML and JSON as plain values. All such files, and all overrides, are read here.

The size of a file (bytes, values with all aliases expanded, depth) is checked before any value is
built, and text that YAML would silently read as another value is refused.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from emulator.core.errors import ScenarioError, shown
from emulator.core.plain_numbers import MOST_CHARACTERS, is_plain_float, is_plain_int

Raw = dict[str, Any]
"""A mapping of a file: text keys, plain values."""

MOST_BYTES = 2**20
"""Largest YAML file; it takes some seconds to read. A thousand listed positions take 20 kB."""

MOST_VALUES = 100_000
"""Most values of a YAML file, with keys; an alias counts as the values that it stands for."""

MOST_DEPTH = 40
"""Most levels of nested mappings and lists."""

MOST_DIGITS = 4300
"""Most digits of a whole number in JSON: Python's default limit."""

_TAG = "tag:yaml.org,2002:"

_KINDS = {"null", "bool", "int", "float", "str", "seq", "map"}
"""The types of values that a file may hold: no dates, sets or bytes."""

_PLAIN: Mapping[str, Callable[[str], bool]] = {
    "bool": lambda text: text.lower() in yaml.SafeLoader.bool_values,
    "int": is_plain_int,
    "float": is_plain_float,
    "timestamp": lambda _: False,
}
"""For each type, whether every parser reads a text as a value of this type."""


def read_mapping(path: Path, wanted: str) -> Raw:
    """Read the mapping in a YAML file; `wanted` names the expected content, e.g. "a scenario".

    Raises ScenarioError for a missing or unreadable file, for content that is not YAML or not a mapping,
    for a duplicate key, and for a file that is too large or too deep.
    """
    text = _read_text(path, wanted)
    try:
        raw = _parse(text, str(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        wanted = "each key once" if isinstance(error, _KeyTwice) else "a YAML mapping"
        raise ScenarioError([f"{path}{line}: {_describe_cause(error)}, wanted {wanted}"]) from None
    if not isinstance(raw, dict):
        got = "nothing" if raw is None else f"a {type(raw).__name__}"
        raise ScenarioError([f"{path}: got {got}, wanted a mapping of sections"])
    return raw


def parse_value(text: str, where: str) -> Any:
    """Parse a YAML value, e.g. of an override. where: the key of the value. Raises ScenarioError."""
    try:
        return _parse(text, where)
    except yaml.YAMLError as error:
        raise ScenarioError(
            [f"{where}: got {shown(text)}, wanted a value in YAML ({_describe_cause(error)})"]
        ) from None


def parse_json(text: str) -> Any:
    """Parse a JSON value. Raises ValueError with one line for any other text.

    It also refuses duplicate keys, nesting beyond Python's recursion limit, and too many digits.
    """
    try:
        return json.loads(text, object_pairs_hook=_build_mapping)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        long = "digit" in str(error) and "limit" in str(error)
        raise ValueError(f"a number of more than {MOST_DIGITS} digits" if long else error) from None


def read_json(path: Path, wanted: str) -> Any:
    """Read the value in a JSON file; `wanted` names the expected content. Raises ScenarioError."""
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ScenarioError([f"{path}: no such file, wanted {wanted}"]) from None
    except OSError as error:
        raise ScenarioError(
            [f"{path}: cannot be read ({error.strerror}), wanted {wanted}"]
        ) from None
    except UnicodeDecodeError as error:
        raise ScenarioError([f"{path}: got no UTF-8 ({error.reason}), wanted {wanted}"]) from None
    except ValueError as error:
        raise ScenarioError([f"{path}: got no JSON ({error}), wanted {wanted}"]) from None


def _build_mapping(pairs: Sequence[tuple[str, Any]]) -> Raw:
    """The mapping of a JSON object. Raises ValueError for a duplicate key."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown(twice)} twice")
    return found


def _read_text(path: Path, wanted: str) -> str:
    """The text of a YAML file of at most MOST_BYTES; a byte order mark is ignored."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ScenarioError([f"{path}: no such file, wanted {wanted} in YAML"]) from None
    except IsADirectoryError:
        raise ScenarioError([f"{path}: got a folder, wanted {wanted} in YAML"]) from None
    except OSError as error:
        raise ScenarioError([f"{path}: cannot be read: {error.strerror}"]) from None
    if len(data) > MOST_BYTES:
        raise ScenarioError(
            [f"{path}: got more than {MOST_BYTES} bytes, wanted {wanted} in YAML, which is smaller"]
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ScenarioError(
            [f"{path}:{line}: cannot be read: no UTF-8 ({error.reason}), wanted {wanted} in YAML"]
        ) from None


# ── YAML ─────────────────────────────────────────────────────────────────────────────────────────


def _parse(text: str, where: str) -> Any:
    """The value of a YAML text. Raises YAMLError, and ScenarioError for values that are misread."""
    if len(text) > MOST_BYTES:
        raise ScenarioError([f"{where}: got {len(text)} characters, wanted at most {MOST_BYTES}"])
    loader = _BoundedLoader(text)
    try:
        node = loader.get_single_node()
        if loader.misread:
            raise ScenarioError([f"{where}: {problem}" for problem in loader.misread])
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _describe_cause(error: yaml.YAMLError) -> str:
    """The cause of a YAML error in one line."""
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    return " ".join(str(what).split())


class _KeyTwice(yaml.MarkedYAMLError):
    """A mapping has a duplicate key."""


class _BoundedLoader(yaml.SafeLoader):
    """A YAML loader that counts the values and checks each of them before any value is built.

    The keys of a mapping are distinct texts. `misread`: one line with the dotted path for every value
    that YAML 1.1 reads differently from what a person means.
    """

    yaml_constructors: ClassVar[dict[Any, Any]] = {
        tag: build
        for tag, build in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(_TAG) in _KINDS
    }
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag != f"{_TAG}bool" or first in "tTfF"  # yes, no, on and off are text
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.misread: list[str] = []
        self._keys: list[str] = []
        self._values, self._depth = 0, 0
        self._open: set[str] = set()
        self._measured: dict[str, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose the next node, count it and check it. parent and index: the place of the node."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        below_key = index is not None
        if below_key:
            self._keys.append(index.value if isinstance(index, yaml.ScalarNode) else str(index))
        if isinstance(event, yaml.AliasEvent):
            self._count_alias(event)
            node = super().compose_node(parent, index)
        else:
            node = self._compose_written(event, parent, index)
        if below_key:
            self._keys.pop()
        return node

    def _compose_written(
        self, event: yaml.NodeEvent, parent: yaml.Node | None, index: Any
    ) -> yaml.Node | None:
        """Compose a node that is not an alias; store the size of an anchor for its aliases."""
        before, anchor = self._values, event.anchor
        self._count(1, 0, event)
        self._open.add(anchor or "")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._open.discard(anchor or "")
        if anchor is not None:
            self._measured[anchor] = (self._values - before, _measure_height(node))
        if isinstance(node, yaml.ScalarNode):
            self._check_scalar(node)
        return node

    def _count_alias(self, event: yaml.AliasEvent) -> None:
        """Count an alias as the values of its anchor. Raises YAMLError for an alias inside its anchor."""
        anchor = event.anchor or ""
        if anchor in self._open:
            raise _make_error(f"got the alias *{anchor} inside of what it stands for", event)
        self._count(*self._measured.get(anchor, (0, 0)), event)

    def _count(self, values: int, height: int, event: yaml.Event) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            raise _make_error(f"got more than {MOST_VALUES} values, aliases written out", event)
        if self._depth + height > MOST_DEPTH:
            raise _make_error(f"got more than {MOST_DEPTH} levels inside each other", event)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping. Raises YAMLError for a key that is not text, and for a duplicate key."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                kind = "mapping" if isinstance(key, yaml.MappingNode) else "list"
                raise _make_error(f"got a {kind} as a key (braces of a template need quotes)", key)
            if key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                raise _make_error(f"got an unknown key {key.value}, wanted text in quotes", key)
            if key.value in seen:
                mark: Any = key.start_mark
                got = f"got the key {shown(key.value)} twice"
                raise _KeyTwice(problem=got, problem_mark=mark)
            seen.add(key.value)
        return node

    def _check_scalar(self, node: yaml.ScalarNode) -> None:
        """Record a value that YAML 1.1 reads differently from its text."""
        kind, text = node.tag.removeprefix(_TAG), node.value
        if kind not in _PLAIN or _PLAIN[kind](text):
            return
        where = f"{'.'.join(self._keys)}: " if self._keys else ""
        got, quoted = shown(text), f"'{text}' in quotes for a text"
        if len(text) > MOST_CHARACTERS:
            self.misread.append(f"{where}got {got}, wanted at most {MOST_CHARACTERS} characters")
        elif kind == "timestamp":
            self.misread.append(f"{where}got {text}, which YAML takes for a date, wanted {quoted}")
        elif (value := _read_as_yaml(self, node)) is None:
            self.misread.append(f"{where}got {text}, wanted true, false or a number, or {quoted}")
        else:
            self.misread.append(
                f"{where}got {text}, which YAML 1.1 reads as {value}, wanted {value}, or {quoted}"
            )


def _read_as_yaml(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    """The number that YAML reads from a text; None if YAML does not read a number."""
    try:
        return loader.construct_object(node)
    except (LookupError, ValueError):
        return None


def _measure_height(node: yaml.Node | None) -> int:
    """Number of nested levels of mappings and lists in a node of bounded depth."""
    if not isinstance(node, yaml.CollectionNode):
        return 0
    inner = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
    return 1 + max(map(_measure_height, inner), default=0)


def _make_error(what: str, place: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    mark: Any = place.start_mark
    return yaml.MarkedYAMLError(problem=what, problem_mark=mark)
