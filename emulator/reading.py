"""From a YAML file and `--set` overrides to a Scenario, with one clear line for every problem."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from emulator.errors import ScenarioError
from emulator.scenario import Scenario

Raw = dict[str, Any]

PATHS = (("tasks", "folder"), ("backbone", "name"))
"""Values that name files: relative ones are meant from the scenario file's folder."""

UNITS = {"hz": "Hz", "s": "seconds", "m": "metres", "w": "watts", "db": "dB", "dbm": "dBm"}


@dataclass(frozen=True)
class Reading:
    """A scenario and what was silently impossible on the way: one line each."""

    scenario: Scenario
    notes: tuple[str, ...]


def read_scenario(path: Path, overrides: Sequence[str] = ()) -> Reading:
    """Read, override, complete and check a scenario file.

    overrides: `key.path=value`, the value in YAML. Setting a `kind` (or a preset) drops the fields
    that the new kind lacks, each override in one note. Raises ScenarioError with every problem found.
    """
    raw = _read_yaml(path)
    notes: list[str] = []
    pairs = [_split(override) for override in overrides]
    for keys, value in pairs:
        if keys[0] == "channel" and keys[1:] in ([], ["preset"]):
            raw["channel"] = value if keys[1:] == [] else {"preset": value}
            raw.pop("access", None)
    _expand_preset(raw)
    for keys, value in pairs:
        if not (keys[0] == "channel" and keys[1:] in ([], ["preset"])):
            _set(raw, keys, value, notes)
    _anchor_paths(raw, path.resolve().parent)
    try:
        return Reading(Scenario.model_validate(raw), tuple(notes))
    except ValidationError as error:
        problems = [line for item in error.errors() for line in _lines(item, raw)]
        raise ScenarioError([f"{path.name}: {line}" for line in problems]) from None


def dump_scenario(scenario: Scenario) -> str:
    """The scenario in full, as YAML that `read_scenario` reads back to the same value."""
    text: str = yaml.safe_dump(
        scenario.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )
    return text


# ── the file ─────────────────────────────────────────────────────────────────────────────────────


def _read_yaml(path: Path) -> Raw:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ScenarioError([f"{path}: no such file, wanted a scenario in YAML"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError([f"{path}: cannot be read: {error}"]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or "not YAML"
        raise ScenarioError([f"{path}{line}: {what}, wanted a YAML mapping"]) from None
    if not isinstance(raw, dict):
        raise ScenarioError([f"{path}: got {type(raw).__name__}, wanted a mapping of sections"])
    return raw


def preset_folder() -> Path:
    """Where channel presets lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "channel" / "presets"
    return installed if installed.is_dir() else package.parent / "configs" / "channels"


def _expand_preset(raw: Raw) -> None:
    """`channel: paper` or `channel: {preset: paper, ...}`: the preset, overridden by what is said."""
    channel = raw.get("channel")
    said = {"preset": channel} if isinstance(channel, str) else channel
    if not isinstance(said, dict) or "preset" not in said:
        return
    said = dict(said)
    name = said.pop("preset")
    known = sorted(file.stem for file in preset_folder().glob("*.yaml"))
    if name not in known:
        raise ScenarioError(
            [
                f"channel.preset: got {name!r}, wanted one of {', '.join(known)}{_hint(str(name), known)}"
            ]
        )
    preset = _read_yaml(preset_folder() / f"{name}.yaml")
    raw["channel"] = _merged(preset["channel"], said)
    raw["access"] = _merged(preset.get("access", {}), raw.get("access") or {})


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Raw:
    """`above` over `below`, mapping by mapping; another `kind` replaces its whole mapping."""
    result = dict(below)
    if "kind" in above and above["kind"] != below.get("kind"):
        return dict(above)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            result[key] = _merged(old, value)
        else:
            result[key] = value
    return result


def _anchor_paths(raw: Raw, folder: Path) -> None:
    """Make file names absolute, so that the resolved scenario runs from anywhere."""
    for section, key in PATHS:
        values = raw.get(section)
        if not isinstance(values, dict) or not isinstance(values.get(key), str):
            continue
        candidate = (folder / values[key]).resolve()
        if key == "folder" or candidate.is_dir():
            values[key] = str(candidate)


# ── overrides ────────────────────────────────────────────────────────────────────────────────────


def _split(override: str) -> tuple[list[str], Any]:
    """`a.b=c` -> (["a", "b"], c)."""
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        raise ScenarioError([f"--set: got {override!r}, wanted key.path=value"])
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ScenarioError([f"--set {path}: got {text!r}, wanted a value in YAML"]) from None
    return path.strip().split("."), value


def _set(raw: Raw, keys: list[str], value: Any, notes: list[str]) -> None:
    """Set one value; a new kind drops the fields it lacks."""
    place = raw
    for key in keys[:-1]:
        if not isinstance(place.get(key), dict):
            place[key] = {}
        place = place[key]
    last = keys[-1]
    changed = last == "kind" and place.get("kind") != value
    place[last] = value
    if not changed:
        return
    model = variants_at(keys[:-1], raw).get(str(value))
    if model is None:
        return
    dropped = [key for key in place if key not in model.model_fields]
    for key in dropped:
        del place[key]
    if dropped:
        section = ".".join(keys[:-1])
        named = ", ".join(f"{section}.{key}" for key in dropped)
        notes.append(f"--set {section}.kind={value} drops {named} ({value} has no such field)")


# ── the types behind a path ──────────────────────────────────────────────────────────────────────


def variants(annotation: Any) -> dict[str, type[BaseModel]]:
    """The models that a field may hold, by kind ("" for one without)."""
    if get_origin(annotation) is Annotated:
        return variants(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        found: dict[str, type[BaseModel]] = {}
        for member in get_args(annotation):
            found |= variants(member)
        return found
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        return {str(kind.default) if kind else "": annotation}
    return {}


def variants_at(keys: Sequence[str], raw: Any) -> dict[str, type[BaseModel]]:
    """The models possible at a path, the kinds on the way as the file (or the default) has them."""
    model: type[BaseModel] = Scenario
    found: dict[str, type[BaseModel]] = {"": Scenario}
    for key in keys:
        raw = raw.get(key) if isinstance(raw, dict) else None
        if key not in model.model_fields:
            return {}
        field = model.model_fields[key]
        found = variants(field.annotation)
        if not found:
            return {}
        default = getattr(field.get_default(call_default_factory=True), "kind", "")
        kind = raw.get("kind", default) if isinstance(raw, dict) else default
        model = found.get(str(kind), next(iter(found.values())))
    return found


def _model_at(keys: Sequence[str], raw: Any) -> type[BaseModel] | None:
    """The one model at a path, given the kind that the file has there."""
    found = variants_at(keys, raw)
    for key in keys:
        raw = raw.get(key) if isinstance(raw, dict) else None
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if kind is None and len(found) > 1:
        parent = _model_at(keys[:-1], raw) or Scenario
        field = parent.model_fields.get(keys[-1])
        kind = (
            getattr(field.get_default(call_default_factory=True), "kind", None) if field else None
        )
    return found.get(str(kind)) or (next(iter(found.values())) if len(found) == 1 else None)


# ── messages ─────────────────────────────────────────────────────────────────────────────────────


def _lines(item: Any, raw: Raw) -> list[str]:
    """One pydantic problem as lines of: path, got, wanted."""
    keys = _path(item["loc"], raw)
    where = ".".join(keys)
    kind, got = item["type"], item["input"]
    parent = _model_at(keys[:-1], raw) if len(keys) > 1 else Scenario
    if kind == "extra_forbidden":
        known = list(parent.model_fields) if parent else []
        hint = _hint(keys[-1], known)
        listed = "" if hint else f", wanted one of {', '.join(known)}"
        return [f"{where}: got an unknown key{listed}{hint}"]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        known = sorted(variants_at(keys, raw))
        tag = got.get("kind", "nothing") if isinstance(got, dict) else got
        wanted = f"wanted one of {', '.join(known)}, or an import path package.module:Class"
        return [f"{where}.kind: got {tag!r}, {wanted}{_hint(str(tag), known)}"]
    if kind == "missing":
        return [f"{where}: got nothing, wanted {_wanted(parent, keys[-1])}"]
    if kind == "value_error":
        text = str(item["ctx"]["error"])
        if not keys:
            return text.splitlines()
        return [f"{where}: {text}" if text.startswith("got") else f"{where}: got {got!r}: {text}"]
    return [f"{where}: got {got!r}, wanted {_wanted(parent, keys[-1]) or item['msg']}"]


def _path(location: Sequence[str | int], raw: Any) -> list[str]:
    """The keys of a location in the file, without the union tags that pydantic puts in."""
    keys: list[str] = []
    tags: set[str] = set()
    for part in location:
        if str(part) in tags:
            tags = set()
            continue
        keys.append(str(part))
        tags = set(variants_at(keys, raw)) - {""}
    return keys


def _wanted(model: type[BaseModel] | None, key: str) -> str:
    """What a field asks for: type, range, unit and meaning."""
    field = model.model_fields.get(key) if model else None
    if field is None:
        return ""
    low = high = None
    for rule in field.metadata:
        for name, bracket in (("gt", "("), ("ge", "[")):
            low = (bracket, getattr(rule, name)) if getattr(rule, name, None) is not None else low
        for name, bracket in (("lt", ")"), ("le", "]")):
            high = (bracket, getattr(rule, name)) if getattr(rule, name, None) is not None else high
    text = _type_name(field.annotation)
    if low or high:
        left = f"{low[0]}{low[1]:g}" if low else "(-inf"
        right = f"{high[1]:g}{high[0]}" if high else "inf)"
        text += f" in {left}, {right}"
    unit = UNITS.get(key.rsplit("_", 1)[-1]) if "_" in key else None
    if unit:
        text += f" in {unit}, written as a plain number"
    return f"{text} ({field.description})" if field.description else text


def _type_name(annotation: Any) -> str:
    """A type in words."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type_name(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return " or ".join(_type_name(a) for a in get_args(annotation) if a is not type(None))
    if str(origin) == "typing.Literal":
        return "one of " + ", ".join(map(str, get_args(annotation)))
    if origin in (tuple, list):
        return "a list"
    names = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        Path: "a path",
    }
    if annotation in names:
        return names[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a mapping"
    return re.sub(r"^typing\.", "", str(annotation))


def _hint(got: str, known: Sequence[str]) -> str:
    """ " - did you mean ...?" when something is close."""
    close = difflib.get_close_matches(got, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
