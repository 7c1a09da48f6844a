"""Reading a Scenario from a YAML file and `--set` overrides, with one message line for every problem."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from emulator.core.errors import ScenarioError, did_you_mean, drop_consequences, shown
from emulator.core.places import is_file, is_folder, resolved
from emulator.core.plain_numbers import find_misread
from emulator.core.yaml_file import Raw, parse_value, read_mapping
from emulator.scenario.error_messages import describe_problem, find_model_of_kind, suggest_kind
from emulator.scenario.schema import Scenario

PATHS = (
    ("tasks", "folder"),
    ("backbone", "name"),
    ("channel", "placement", "path"),
    ("channel", "gain", "path"),
    ("channel", "rate", "path"),
)
"""Keys of paths. A relative path starts in the folder of the scenario file; in an override it starts in
the current folder if such a file exists. `$NAME` or `${NAME}` is the value of an environment variable and
starts in the current folder; if the variable is not set, an optional key is dropped."""

VARIABLE = re.compile(r"\$(?:([A-Z][A-Z0-9_]*)|\{([A-Z][A-Z0-9_]*)\})")


@dataclass(frozen=True)
class Reading:
    """A scenario, and notes on dropped fields and settings without effect, one line each."""

    scenario: Scenario
    notes: tuple[str, ...]


def read_scenario(path: Path, overrides: Sequence[str] = ()) -> Reading:
    """Read, override, complete and check a scenario file.

    overrides: `key.path=value`, the value in YAML. A new `kind` (or preset) drops the fields that the
    new kind lacks, with one note per override. Raises ScenarioError with all problems.
    """
    raw = read_mapping(path, "a scenario")
    return _complete(raw, path.name, path.resolve().parent, overrides)


def read_preset(name: str, overrides: Sequence[str] = ()) -> Reading:
    """Read a channel preset as a scenario with default values; otherwise as `read_scenario`."""
    raw: Raw = {"name": name, "channel": name, "tasks": {"names": ["reverse"]}}  # any device count
    return _complete(raw, name, Path.cwd(), overrides)


def read_preset_file(path: Path, overrides: Sequence[str] = ()) -> Reading:
    """Read a channel preset from a user's own file; otherwise as `read_preset`."""
    raw: Raw = {"tasks": {"names": ["reverse"]}, **read_mapping(path, "a preset")}
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-") or "preset"
    return _complete({"name": name, **raw}, path.name, path.resolve().parent, overrides)


def read_named(name: str, overrides: Sequence[str] = ()) -> Reading:
    """Read a scenario file, a preset file, or a channel preset by its name; a file with the name is first.

    A preset file has no other keys than `channel` and `access`.
    """
    if name in preset_names() and not is_file(Path(name)):
        return read_preset(name, overrides)
    path = Path(name)
    there = is_file(path) or is_folder(path)
    if path.name == name and not path.suffix and not there:
        known = preset_names()
        raise ScenarioError(
            [
                f"{name}: no such file, wanted a scenario in YAML or one of {', '.join(known)}"
                + did_you_mean(name, known)
            ]
        )
    keys = set(read_mapping(Path(name), "a scenario"))
    if "channel" in keys and keys <= {"channel", "access"}:
        return read_preset_file(Path(name), overrides)
    return read_scenario(Path(name), overrides)


def _complete(raw: Raw, source: str, folder: Path, overrides: Sequence[str]) -> Reading:
    """Override, complete and check. source: name for messages. folder: where relative paths start."""
    notes: list[str] = []
    pairs = [parse_override(override) for override in overrides]
    for keys, value in pairs:
        if _names_preset(keys):
            raw["channel"] = value if keys == ["channel"] else {"preset": value}
            raw.pop("access", None)
    problems = _expand_preset(raw)
    for keys, value in pairs:
        if not _names_preset(keys):
            _set(raw, keys, value, notes)
    _complete_kinds(raw)
    problems += _take_from_environment(raw)
    anchor_paths(raw, folder)
    try:
        scenario = Scenario.model_validate(raw)
        problems += find_misread(scenario, raw)
    except ValidationError as error:
        problems += [
            line
            for item in drop_consequences(error.errors())
            for line in describe_problem(item, raw)
        ]
    if problems:
        raise ScenarioError([f"{source}: {problem}" for problem in problems])
    notes += [*_note_router(raw, scenario), *_note_unmeasured(scenario)]
    notes += [*_note_without_effect(scenario), *_note_static_clusters(scenario)]
    notes += _note_doubts(scenario)
    return Reading(scenario, tuple(notes))


def dump_scenario(scenario: Scenario) -> str:
    """The complete scenario as YAML; `read_scenario` reads it back to the same value."""
    text: str = yaml.safe_dump(
        scenario.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )
    return text


def _note_router(raw: Raw, scenario: Scenario) -> list[str]:
    """A note if the method replaces the router of the file with its own."""
    chosen = raw.get("router", {}).get("kind", scenario.router.kind)
    if chosen == scenario.router.kind:
        return []
    return [f"router: {scenario.method.kind} uses {scenario.router.kind} in place of {chosen}"]


def _note_unmeasured(scenario: Scenario) -> list[str]:
    """Notes on measurements of routing under a method without routing."""
    if scenario.method.routes:
        return []
    evaluation, kind = scenario.evaluation, scenario.method.kind
    settings = {
        "unseen_tasks": bool(evaluation.unseen_tasks),
        "controls": bool(evaluation.controls),
        "paraphrases: routing": evaluation.paraphrases == "routing",
    }
    return [
        f"evaluation.{key} measures nothing under {kind}, which does not route"
        for key, is_set in settings.items()
        if is_set
    ]


def _note_without_effect(scenario: Scenario) -> list[str]:
    """Notes on intervals longer than the run, and on limits that include everything."""
    method, rounds = scenario.method, scenario.rounds
    notes = [
        f"method.{name}: {every} has no effect in a run of {rounds} rounds"
        for name in ("exchange_every", "recluster_every")
        if (every := _find_changed(method, name) or 0) >= rounds
    ]
    if (every := scenario.evaluation.own_task_every) > rounds:
        notes.append(
            f"evaluation.own_task_every: {every} has no effect in a run of {rounds} rounds"
        )
    by_device = getattr(method, "projection_by", "task") == "device"
    experts = scenario.devices if by_device else len(scenario.tasks.names)
    active, rank = _find_changed(method, "active_ranks"), getattr(method, "lora_rank", 0)
    if active is not None and active >= rank * experts:
        notes.append(f"method.active_ranks: {active} keeps all ({experts} experts of rank {rank})")
    top = _find_changed(scenario.router, "top_m")
    if top is not None and top > experts:
        notes.append(f"router.top_m: {top} opens all gates ({experts} experts)")
    batch, part = scenario.local.batch_size, scenario.local.micro_batch_size or 0
    if part > batch:
        notes.append(f"local.micro_batch_size: {part} exceeds the examples of a step ({batch})")
    return notes


def _find_changed(section: BaseModel, name: str) -> Any:
    """A field of a section if it differs from its default; None otherwise, and without this field."""
    field = type(section).model_fields.get(name)
    value = getattr(section, name) if field else None
    return None if field is None or value == field.get_default() else value


def _note_static_clusters(scenario: Scenario) -> list[str]:
    """A note if clusters are formed again and again although the devices do not move."""
    every = getattr(scenario.method, "recluster_every", None)
    mobility = getattr(scenario.channel, "mobility", None)
    gains_change = getattr(scenario.channel, "gain", None) is not None
    if (
        every is None
        or every >= scenario.rounds
        or gains_change
        or getattr(mobility, "kind", None) != "static"
    ):
        return []
    return [
        f"method.recluster_every: {every} repeats the setup with the same clusters, because the devices "
        "do not move (channel.mobility.kind: static)"
    ]


def _note_doubts(scenario: Scenario) -> list[str]:
    """The notes of a channel on its own parts; a user's own channel may have none."""
    doubts = getattr(scenario.channel, "doubts", None)
    return list(doubts(scenario.access.bandwidth_hz)) if doubts else []


# ── the file ─────────────────────────────────────────────────────────────────────────────────────


def preset_folder() -> Path:
    """The folder of channel presets: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs" / "channels"
    return installed if installed.is_dir() else package.parent / "configs" / "channels"


def preset_names() -> list[str]:
    """The names of all channel presets, sorted."""
    return sorted(file.stem for file in preset_folder().glob("*.yaml"))


def _names_preset(keys: Sequence[str]) -> bool:
    return list(keys) in (["channel"], ["channel", "preset"])


def _expand_preset(raw: Raw) -> list[str]:
    """Replace `channel: paper` or `channel: {preset: paper, ...}` by the preset with the other keys.

    Returns the problems; with a problem the section is removed.
    """
    channel = raw.get("channel")
    given = {"preset": channel} if isinstance(channel, str) else channel
    if not isinstance(given, dict) or "preset" not in given:
        return []
    given = dict(given)
    name = given.pop("preset")
    known = preset_names()
    if name not in known:
        del raw["channel"]
        hint = did_you_mean(str(name), known) or suggest_kind(("channel",), name, raw)
        return [f"channel.preset: got {name!r}, wanted one of {', '.join(known)}{hint}"]
    preset = read_mapping(preset_folder() / f"{name}.yaml", "a preset")
    raw["channel"] = _merge(preset["channel"], given)
    access = raw.get("access") or {}
    raw["access"] = _merge(preset["access"], access) if isinstance(access, dict) else access
    return []


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Raw:
    """The mapping `below` with the values of `above`; a different `kind` replaces the whole mapping."""
    result = dict(below)
    if "kind" in above and above["kind"] != below.get("kind"):
        return dict(above)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            result[key] = _merge(old, value)
        else:
            result[key] = value
    return result


def _complete_kinds(
    whole: Raw, keys: tuple[str, ...] = (), model: type[BaseModel] = Scenario
) -> None:
    """Add the default kind to every section without a kind, and to the sections inside it."""
    place = whole
    for key in keys:
        place = place[key]
    for key, field in model.model_fields.items():
        if not isinstance(place.get(key), dict):
            continue
        default = getattr(field.get_default(call_default_factory=True), "kind", None)
        if default:
            place[key] = {"kind": default, **place[key]}
        below = find_model_of_kind((*keys, key), whole, str(place[key].get("kind")))
        if below is not None:
            _complete_kinds(whole, (*keys, key), below)


def _take_from_environment(raw: Raw) -> list[str]:
    """Replace the names of environment variables by their values. Returns the problems."""
    problems = []
    for keys in PATHS:
        place: Any = raw
        for key in keys[:-1]:
            place = place.get(key) if isinstance(place, dict) else None
        value = place.get(keys[-1]) if isinstance(place, dict) else None
        named = VARIABLE.fullmatch(value) if isinstance(value, str) else None
        if named is None:
            continue
        name = named[1] or named[2]
        if found := os.environ.get(name):
            path = Path.cwd() / found
            if not is_folder(path) and (keys[-1] == "folder" or not is_file(path)):
                wanted = "a folder" if keys[-1] == "folder" else "a path that exists"
                problems.append(
                    f"{'.'.join(keys)}: got {shown(found)}, the value of the environment variable "
                    f"{name}, wanted {wanted} there, or none set"
                )
            place[keys[-1]] = str(path)
            continue
        model = find_model_of_kind(keys[:-1], raw, str(place.get("kind")))
        field = model.model_fields.get(keys[-1]) if model else None
        if field is not None and field.is_required():
            kind = "folder" if keys[-1] == "folder" else "file"
            key = ".".join(keys)
            problems.append(
                f"{key}: got {value}, but the environment has no {name}, wanted it set to a {kind} (a "
                f"relative path starts in the current folder), or {key}=PATH"
            )
        else:
            del place[keys[-1]]
    return problems


def anchor_paths(
    raw: Raw, folder: Path, under: tuple[str, ...] = (), *, only_there: bool = False
) -> None:
    """Make paths absolute, so that the complete scenario runs from every folder.

    Keys may be dotted. only_there: change only paths of files that exist in `folder`. The name of a
    backbone, which may be a package's or a hub id, changes only if it is a folder there.
    """
    for key, value in raw.items():
        keys = (*under, *str(key).split("."))
        if isinstance(value, dict):
            anchor_paths(value, folder, keys, only_there=only_there)
        elif keys in PATHS and isinstance(value, str):
            if "\0" in value:
                raise ScenarioError([f"{'.'.join(keys)}: got {value!r}, wanted a path"])
            candidate = resolved(folder / value)
            there = is_folder(candidate) or (keys[-1] != "name" and is_file(candidate))
            if there or not (only_there or keys[-1] == "name"):
                raw[key] = str(candidate)


# ── overrides ────────────────────────────────────────────────────────────────────────────────────


def parse_override(override: str) -> tuple[list[str], Any]:
    """Parse `a.b=c` to (["a", "b"], c); the path of a file in the current folder becomes absolute."""
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        raise ScenarioError([f"--set: got {override!r}, wanted key.path=value"])
    key = path.strip()
    value = parse_value(text, f"--set {key}")
    pair = {key: value}
    anchor_paths(pair, Path.cwd(), only_there=True)
    return key.split("."), pair[key]


def _set(raw: Raw, keys: list[str], value: Any, notes: list[str]) -> None:
    """Set one value; a new kind drops the fields that it lacks, with a note."""
    place = raw
    for depth, key in enumerate(keys[:-1], start=1):
        there = place.get(key)
        if isinstance(there, str):
            section = ".".join(keys[:depth])
            raise ScenarioError(
                [
                    f"--set {'.'.join(keys)}: got a key below {section}, which is {shown(there)}, wanted a "
                    f"mapping there{suggest_kind(keys[:depth], there, raw)}"
                ]
            )
        if not isinstance(there, dict):
            place[key] = {}
        place = place[key]
    last = keys[-1]
    changed = last == "kind" and place.get("kind") != value
    place[last] = value
    if not changed:
        return
    model = find_model_of_kind(keys[:-1], raw, str(value))
    if model is None:
        return
    dropped = [key for key in place if key not in model.model_fields]
    for key in dropped:
        del place[key]
    if dropped:
        section = ".".join(keys[:-1])
        named = ", ".join(f"{section}.{key}" for key in dropped)
        notes.append(f"{section}.kind={value} drops {named} ({value} has no such field)")
