"""YAML and JSON as plain values. Whoever reads such a file or an override reads it here.

What a file would cost to build (bytes, values with all aliases written out, depth) is bounded before
anything is built from it, and what YAML would silently take for something else is refused.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from emulator.core.errors import ScenarioError, shown
from emulator.core.plain_numbers import MOST_CHARACTERS, is_plain_float, is_plain_int

Raw = dict[str, Any]
"""A mapping as it stands in a file: text keys, plain values."""

MOST_BYTES = 2**20
"""Of a YAML file: some seconds of reading. A thousand listed positions take 20 kB."""

MOST_VALUES = 100_000
"""In a YAML file, keys included, each alias counted as what it stands for."""

MOST_DEPTH = 40
"""Of mappings and lists inside each other."""

MOST_DIGITS = 4300
"""Of a whole number in JSON: what Python reads by default."""

_TAG = "tag:yaml.org,2002:"

_KINDS = {"null", "bool", "int", "float", "str", "seq", "map"}
"""What a file may hold: no dates, sets or bytes."""

_PLAIN: Mapping[str, Callable[[str], bool]] = {
    "bool": lambda text: text.lower() in yaml.SafeLoader.bool_values,
    "int": is_plain_int,
    "float": is_plain_float,
    "timestamp": lambda _: False,
}
"""By kind, whether a text is a value of it for every reader."""


def read_mapping(path: Path, wanted: str) -> Raw:
    """The mapping in a YAML file; `wanted` says what the file should be, e.g. "a scenario".

    Raises ScenarioError for a missing or unreadable file, for what is no YAML or no mapping, for a
    key that is written twice, and for what is larger or deeper than any such file.
    """
    text = _text_of(path, wanted)
    try:
        raw = _parsed(text, str(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        wanted = "each key once" if isinstance(error, _KeyTwice) else "a YAML mapping"
        raise ScenarioError([f"{path}{line}: {_cause(error)}, wanted {wanted}"]) from None
    if not isinstance(raw, dict):
        got = "nothing" if raw is None else f"a {type(raw).__name__}"
        raise ScenarioError([f"{path}: got {got}, wanted a mapping of sections"])
    return raw


def parse_value(text: str, where: str) -> Any:
    """A value in YAML, e.g. of an override. where: what it is the value of. Raises ScenarioError."""
    try:
        return _parsed(text, where)
    except yaml.YAMLError as error:
        raise ScenarioError(
            [f"{where}: got {shown(text)}, wanted a value in YAML ({_cause(error)})"]
        ) from None


def parse_json(text: str) -> Any:
    """A value in JSON. Raises ValueError, in one line, for anything else.

    Also refused: a key that is written twice, nesting that no reader holds, and endless digits.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        long = "digit" in str(error) and "limit" in str(error)
        raise ValueError(f"a number of more than {MOST_DIGITS} digits" if long else error) from None


def read_json(path: Path, wanted: str) -> Any:
    """The value in a JSON file; `wanted` says what the file should be. Raises ScenarioError."""
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


def _unique(pairs: Sequence[tuple[str, Any]]) -> Raw:
    """An object of JSON. Raises ValueError for a key that is written twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown(twice)} twice")
    return found


def _text_of(path: Path, wanted: str) -> str:
    """The text of a YAML file of at most MOST_BYTES; a byte order mark is passed over."""
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


def _parsed(text: str, where: str) -> Any:
    """The value of a text. Raises YAMLError, and ScenarioError for values that would be misread."""
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


def _cause(error: yaml.YAMLError) -> str:
    """What is wrong, in one line."""
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    return " ".join(str(what).split())


class _KeyTwice(yaml.MarkedYAMLError):
    """A mapping that has one key twice."""


class _BoundedLoader(yaml.SafeLoader):
    """YAML of which the size is counted, and every value looked at, before anything is built.

    Mappings have text keys, each once. `misread`: one line for every value that YAML 1.1 would take
    for another one than a reader does, by its dotted path.
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
        """The next node, counted and checked. parent and index: where it stands."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        below_key = index is not None
        if below_key:
            self._keys.append(index.value if isinstance(index, yaml.ScalarNode) else str(index))
        if isinstance(event, yaml.AliasEvent):
            self._count_alias(event)
            node = super().compose_node(parent, index)
        else:
            node = self._composed(event, parent, index)
        if below_key:
            self._keys.pop()
        return node

    def _composed(
        self, event: yaml.NodeEvent, parent: yaml.Node | None, index: Any
    ) -> yaml.Node | None:
        """What is written out at a place, an anchor's size kept for its aliases."""
        before, anchor = self._values, event.anchor
        self._count(1, 0, event)
        self._open.add(anchor or "")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._open.discard(anchor or "")
        if anchor is not None:
            self._measured[anchor] = (self._values - before, _height(node))
        if isinstance(node, yaml.ScalarNode):
            self._check_scalar(node)
        return node

    def _count_alias(self, event: yaml.AliasEvent) -> None:
        """An alias counts as what it stands for. YAMLError where that is not whole yet."""
        anchor = event.anchor or ""
        if anchor in self._open:
            raise _problem(f"got the alias *{anchor} inside of what it stands for", event)
        self._count(*self._measured.get(anchor, (0, 0)), event)

    def _count(self, values: int, height: int, event: yaml.Event) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            raise _problem(f"got more than {MOST_VALUES} values, aliases written out", event)
        if self._depth + height > MOST_DEPTH:
            raise _problem(f"got more than {MOST_DEPTH} levels inside each other", event)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping. Raises YAMLError for a key that is no text, or is written twice."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                kind = "mapping" if isinstance(key, yaml.MappingNode) else "list"
                raise _problem(f"got a {kind} as a key (braces of a template need quotes)", key)
            if key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                raise _problem(f"got an unknown key {key.value}, wanted text in quotes", key)
            if key.value in seen:
                mark: Any = key.start_mark
                got = f"got the key {shown(key.value)} twice"
                raise _KeyTwice(problem=got, problem_mark=mark)
            seen.add(key.value)
        return node

    def _check_scalar(self, node: yaml.ScalarNode) -> None:
        """Note a value that YAML 1.1 takes for another one than is written."""
        kind, text = node.tag.removeprefix(_TAG), node.value
        if kind not in _PLAIN or _PLAIN[kind](text):
            return
        where = f"{'.'.join(self._keys)}: " if self._keys else ""
        got, quoted = shown(text), f"'{text}' in quotes for a text"
        if len(text) > MOST_CHARACTERS:
            self.misread.append(f"{where}got {got}, wanted at most {MOST_CHARACTERS} characters")
        elif kind == "timestamp":
            self.misread.append(f"{where}got {text}, which YAML takes for a date, wanted {quoted}")
        elif (value := _as_yaml_reads(self, node)) is None:
            self.misread.append(f"{where}got {text}, wanted true, false or a number, or {quoted}")
        else:
            self.misread.append(
                f"{where}got {text}, which YAML 1.1 reads as {value}, wanted {value}, or {quoted}"
            )


def _as_yaml_reads(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    """The number that YAML makes of a text; None where it is none after all."""
    try:
        return loader.construct_object(node)
    except (LookupError, ValueError):
        return None


def _height(node: yaml.Node | None) -> int:
    """How many levels of mappings and lists are inside a node of bounded depth."""
    if not isinstance(node, yaml.CollectionNode):
        return 0
    inner = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
    return 1 + max(map(_height, inner), default=0)


def _problem(what: str, place: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    mark: Any = place.start_mark
    return yaml.MarkedYAMLError(problem=what, problem_mark=mark)
