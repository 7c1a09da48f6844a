"""Experiments and suites as files: where they lie, and what is said of one that is wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from emulator.core.errors import ScenarioError, drop_consequences, shown
from emulator.core.names import NAME, is_name
from emulator.core.validation_errors import explained
from emulator.core.yaml_file import Raw, read_mapping
from emulator.experiments.schema import (
    Axis,
    Bars,
    Bound,
    Difference,
    Experiment,
    Front,
    Growth,
    Layers,
    Lines,
    Order,
    Part,
    Point,
    Row,
    Saving,
    Scatter,
    Suite,
    SuiteUse,
)
from emulator.scenario.load import Reading, anchor_paths, read_scenario

KINDS: tuple[type[Part], ...] = (
    Difference, Order, Saving, Bound, Growth, Lines, Bars, Front, Scatter, Layers,
)  # fmt: skip
PARTS: Mapping[str, type[Part]] = {
    "suites": SuiteUse,
    "rows": Row,
    "axis": Axis,
    "points": Point,
    **{str(kind.model_fields["kind"].default): kind for kind in KINDS},
}
"""What is inside a key of an experiment file, or behind a `kind`."""

OVERRIDES = ("overrides", "fixed")
"""Keys that hold parts of scenarios."""


def find_experiment_folder() -> Path:
    """Where experiments lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs" / "experiments"
    return installed if installed.is_dir() else package.parent / "configs" / "experiments"


def read_scenario_only(path: Path, overrides: Sequence[str]) -> Reading:
    """A scenario, as `read_scenario`; of an experiment in its place one line says so."""
    try:
        return read_scenario(path, overrides)
    except ScenarioError:
        raw = read_mapping(path, "a scenario")
        if raw and raw.keys() <= Experiment.model_fields.keys():
            line = (
                f"{path.name}: got an experiment, wanted a scenario (`emulator reproduce` takes it)"
            )
            raise ScenarioError([line]) from None
        raise


def list_experiments() -> tuple[str, ...]:
    """The experiments that come with the package."""
    return tuple(
        sorted(p.stem for p in find_experiment_folder().glob("*.yaml") if p.stem != "suites")
    )


def read_experiment(name: str) -> Experiment:
    """An experiment by name, or from a YAML file of one's own. ScenarioError with all problems."""
    path = (
        Path(name)
        if name.endswith((".yaml", ".yml"))
        else find_experiment_folder() / f"{name}.yaml"
    )
    if not name.endswith((".yaml", ".yml")) and name not in list_experiments():
        known = ", ".join(list_experiments())
        raise ScenarioError([f"NAME: got {name!r}, wanted all, a YAML file, or one of {known}"])
    if not is_name(path.stem):
        raise ScenarioError([f"NAME: got {shown(path.stem)} for its results, wanted {NAME}"])
    raw = read_mapping(path, "an experiment")
    raw = _add_keys_of_like(raw, path.name)
    if raw.keys().isdisjoint(("rows", "suites", "columns")):
        raise ScenarioError(
            [
                f"{path.name}: got {', '.join(raw)}, wanted an experiment (`emulator run` takes scenarios)"
            ]
        )
    _anchor_overrides(raw, path.parent)
    try:
        return Experiment.model_validate(raw)
    except ValidationError as error:
        raise ScenarioError(_format_problems(error, path.name, Experiment)) from None


def _add_keys_of_like(raw: Raw, where: str) -> Raw:
    """An experiment with the keys it has not from the one that it is `like`, of the package."""
    if "like" not in raw:
        return raw
    if (name := raw["like"]) not in (known := list_experiments()):
        raise ScenarioError([f"{where}: like: got {name!r}, wanted one of {', '.join(known)}"])
    theirs = read_mapping(find_experiment_folder() / f"{name}.yaml", "an experiment")
    return _add_keys_of_like(theirs, f"{name}.yaml") | raw


def _anchor_overrides(raw: Any, folder: Path) -> None:
    """Make names of files that lie beside the experiment absolute, wherever its overrides are."""
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        if key in OVERRIDES and isinstance(value, dict):
            anchor_paths(value, folder, only_there=True)
        elif isinstance(value, dict | list):
            _anchor_overrides(value, folder)


def read_suites() -> Mapping[str, Suite]:
    """All suites by name."""
    path = find_experiment_folder() / "suites.yaml"
    problems, suites = [], {}
    for name, raw in read_mapping(path, "suites").items():
        try:
            suites[name] = Suite.model_validate(raw)
        except ValidationError as error:
            problems += _format_problems(error, f"{path.name}: {name}", Suite)
    if problems:
        raise ScenarioError(problems)
    return suites


def find_suite_scenario(suite: Suite) -> Path:
    """The scenario file of a suite."""
    return find_experiment_folder() / suite.scenario


def _format_problems(error: ValidationError, where: str, part: type[Part]) -> list[str]:
    """where: key.path: got, wanted; one line per problem. part: what the whole should be."""
    lines = []
    for problem in drop_consequences(error.errors()):
        path = ".".join(str(key) for key in problem["loc"])
        known = sorted(_find_part(problem["loc"][:-1], part).model_fields)
        unknown = problem["type"] == "extra_forbidden"
        lines += explained(problem, path, known=known if unknown else ())
    return [f"{where}: {line}" for line in lines]


def _find_part(place: Sequence[int | str], whole: type[Part]) -> type[Part]:
    """What stands at a place of an experiment file."""
    part = whole
    for key in place:
        part = PARTS.get(str(key), part)
    return part
