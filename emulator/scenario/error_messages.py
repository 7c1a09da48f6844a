"""Messages for the problems of a scenario: where, got, wanted; one line per problem."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, WrapValidator
from pydantic.fields import FieldInfo

from emulator.core import plugins
from emulator.core.errors import closest, shown, wanted_by
from emulator.core.names import NAME, check_name
from emulator.core.validation_errors import explain_problem
from emulator.scenario.schema import Scenario

UNITS = {
    "_bit_per_s_hz": "bit/s/Hz",
    "_bit_per_s": "bit/s",
    "_bytes": "bytes",
    "_hz": "Hz",
    "_ghz": "GHz",
    "_mps": "m/s",
    "_m_per_s": "m/s",
    "_dbm": "dBm",
    "_per_db": "1/dB",
    "_db": "dB",
    "_s": "seconds",
    "_m": "metres",
    "_w": "watts",
}
"""Units by suffix of a key; the longest matching suffix counts."""


def describe_problem(problem: Any, raw: Any) -> list[str]:
    """Describe a problem that pydantic found in the mapping `raw`, as lines of path, got, wanted."""
    keys = _find_keys(problem["loc"], raw)
    where, kind, got = ".".join(keys), problem["type"], problem["input"]
    parent = _find_model(keys[:-1], raw)
    if kind == "invalid_key":
        return [f"{where}: got an unknown key, wanted one of {', '.join(Scenario.model_fields)}"]
    if kind == "extra_forbidden":
        return explain_problem(problem, where, known=list(parent.model_fields) if parent else ())
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        known = sorted(find_models(keys, raw))
        path = ", or an import path package.module:Class" if _takes_plugins(keys) else ""
        return explain_problem(
            problem, where, known=known, wanted=f"one of {', '.join(known)}{path}"
        )
    if kind in ("model_type", "model_attributes_type") and (meant := describe_kind(keys, got, raw)):
        return [meant]
    if kind == "string_type" and not isinstance(got, str | dict | list):
        wanted = "text (in quotes, because YAML reads it as another type)"
        return explain_problem(problem, where, wanted=wanted)
    if kind in ("value_error", "too_short"):
        return explain_problem(problem, where)
    wanted = _describe_field(parent, keys[-1]) or wanted_by(problem)
    if kind in ("model_type", "model_attributes_type") and (below := _find_model(keys, raw)):
        wanted += f" of {', '.join(below.model_fields)}"
    return explain_problem(problem, where, wanted=wanted)


def describe_kind(keys: Sequence[str], got: Any, raw: Any) -> str:
    """The message for a wrong value in place of a section with a kind; empty for other sections."""
    kinds = sorted(kind for kind in find_models(keys, raw) if kind)
    if not kinds:
        return ""
    where = ".".join(keys)
    line = f"{where}: got {shown(got)}, wanted a mapping with a kind"
    if hint := suggest_kind(keys, got, raw):
        return line + hint
    path = ", or an import path package.module:Class" if _takes_plugins(keys) else ""
    return f"{line}, one of {', '.join(kinds)}{path}"


def suggest_kind(keys: Sequence[str], got: Any, raw: Any) -> str:
    """'; did you mean SECTION.kind=...?' if a word in place of a section names a kind; else empty."""
    if not isinstance(got, str):
        return ""
    is_path = _takes_plugins(keys) and re.fullmatch(r"[\w.]+:\w+", got)
    meant = got if is_path else closest(got, [kind for kind in find_models(keys, raw) if kind])
    in_file = f"{keys[-1]}: {{kind: {meant}}}"
    return f"; did you mean {'.'.join(keys)}.kind={meant} (in a file {in_file})?" if meant else ""


# ── the types behind a path ──────────────────────────────────────────────────────────────────────


def find_models(keys: Sequence[str], raw: Any) -> dict[str, type[BaseModel]]:
    """The possible models at a path, by kind; the sections above have the kinds of the file."""
    found: dict[str, type[BaseModel]] = {"": Scenario}
    model: type[BaseModel] | None = Scenario
    default = ""
    for key in keys:
        raw = _get_below(raw, key)
        if not key.isdigit():  # an item of a list has the models of the list
            field = model.model_fields.get(key) if model else None
            if field is None:
                return {}
            found = list_variants(field.annotation)
            default = getattr(field.get_default(call_default_factory=True), "kind", "")
        model = _choose_model(found, raw, default)
    return found


def find_model_of_kind(keys: Sequence[str], raw: Any, kind: str) -> type[BaseModel] | None:
    """The model that a kind (or an import path) names at a path."""
    return _choose_model(find_models(keys, raw), {"kind": kind}, "")


def _find_model(keys: Sequence[str], raw: Any) -> type[BaseModel] | None:
    """The model at a path with the kind that the file has there; None if unknown."""
    found = find_models(keys, raw)
    default = ""
    if keys and (parent := _find_model(keys[:-1], raw)) and keys[-1] in parent.model_fields:
        field = parent.model_fields[keys[-1]]
        default = getattr(field.get_default(call_default_factory=True), "kind", "")
    for key in keys:
        raw = _get_below(raw, key)
    return _choose_model(found, raw, default)


def _get_below(raw: Any, key: str) -> Any:
    if isinstance(raw, dict):
        return raw.get(key)
    if isinstance(raw, list) and key.isdigit() and int(key) < len(raw):
        return raw[int(key)]
    return None


def _choose_model(
    found: dict[str, type[BaseModel]], raw: Any, default: str
) -> type[BaseModel] | None:
    kind = str(raw.get("kind", default)) if isinstance(raw, dict) else default
    if ":" in kind:
        try:
            return plugins.find(kind)
        except ValueError:
            return None
    return found.get(kind) or (next(iter(found.values())) if len(found) == 1 else None)


def list_variants(annotation: Any) -> dict[str, type[BaseModel]]:
    """The models that a field may hold, by kind ("" for a model without a kind)."""
    found: dict[str, type[BaseModel]] = {}
    for member in _list_members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            kind = member.model_fields.get("kind")
            found[str(kind.default) if kind else ""] = member
    return found


def _list_members(annotation: Any) -> Iterator[Any]:
    """The member types of a type, through Annotated, unions and tuple[X, ...]."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _list_members(get_args(annotation)[0])
    elif origin in (Union, UnionType) or origin is tuple:
        for member in get_args(annotation):
            yield from _list_members(member)
    else:
        yield annotation


def _takes_plugins(keys: Sequence[str]) -> bool:
    """Whether the section at this path may be a user's own class."""
    field = Scenario.model_fields.get(keys[0]) if len(keys) == 1 else None
    return field is not None and any(isinstance(m, WrapValidator) for m in field.metadata)


def _find_keys(location: Sequence[str | int], raw: Any) -> list[str]:
    """The keys of a location in the file, without the union tags that pydantic inserts."""
    keys: list[str] = []
    tags: set[str] = set()
    for part in location:
        if str(part) in tags or part == "[key]":
            tags = set()
            continue
        keys.append(str(part))
        tags = set(find_models(keys, raw)) - {""}
    return keys


# ── the wanted value ─────────────────────────────────────────────────────────────────────────────


def _describe_field(model: type[BaseModel] | None, key: str) -> str:
    """The value that a field accepts: type, range, unit and meaning."""
    field = model.model_fields.get(key) if model else None
    if field is None:
        return ""
    text = _describe_type(field.annotation) + _describe_range(field)
    for rule in field.metadata:
        if pattern := getattr(rule, "pattern", None):
            text += f" matching {pattern}"
        if getattr(rule, "func", None) is check_name:
            text = NAME
    unit = next((UNITS[s] for s in sorted(UNITS, key=len, reverse=True) if key.endswith(s)), None)
    if unit and "a number" in text:  # whole numbers are counts without a unit
        text += f" in {unit}, written as a plain number"
    return f"{text} ({field.description.rstrip('.')})" if field.description else text


def _describe_range(field: FieldInfo) -> str:
    """The bounds of a field as ' in (0, 1]'; empty if it has none."""
    low, high = "(-inf", "inf)"
    for rule in field.metadata:
        for name, bracket in (("gt", "("), ("ge", "[")):
            if (bound := getattr(rule, name, None)) is not None:
                low = f"{bracket}{bound:g}"
        for name, bracket in (("lt", ")"), ("le", "]")):
            if (bound := getattr(rule, name, None)) is not None:
                high = f"{bound:g}{bracket}"
    return "" if (low, high) == ("(-inf", "inf)") else f" in {low}, {high}"


def _describe_type(annotation: Any) -> str:
    """A type in words."""
    if get_origin(annotation) is tuple:
        return "a list"
    kinds = [kind for kind in list_variants(annotation) if kind]
    if kinds:
        return f"a mapping with kind: {' or '.join(sorted(kinds))}"
    names = (
        _describe_plain_type(member)
        for member in _list_members(annotation)
        if member is not type(None)
    )
    return " or ".join(dict.fromkeys(names))


def _describe_plain_type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(annotation)))
    words = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        Path: "a path",
    }
    if annotation in words:
        return words[annotation]
    section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    if section or get_origin(annotation) is dict:
        return "a mapping"
    return str(annotation).removeprefix("typing.")
