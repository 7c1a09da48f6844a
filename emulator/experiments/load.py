"""The files of experiments and suites: their folder, how they are read, and the problems in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from emulator.core.errors import ScenarioError, drop_consequences, shown
from emulator.core.names import NAME, is_name
from emulator.core.validation_errors import explain_problem
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
"""Key or `kind` in an experiment file -> the class of its content."""

OVERRIDES = ("overrides", "fixed")
"""Keys that hold parts of scenarios."""


def find_experiment_folder() -> Path:
    """Find the folder of experiments: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs" / "experiments"
    return installed if installed.is_dir() else package.parent / "configs" / "experiments"


def read_scenario_only(path: Path, overrides: Sequence[str]) -> Reading:
    """Read a scenario as `read_scenario` does. Raises ScenarioError of one line for an experiment."""
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
    """List the experiments that come with the package."""
    return tuple(
        sorted(p.stem for p in find_experiment_folder().glob("*.yaml") if p.stem != "suites")
    )


def read_experiment(name: str) -> Experiment:
    """Read an experiment by name, or from a user's YAML file. Raises ScenarioError with all problems."""
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
    """Add the keys that an experiment lacks from the packaged experiment that its `like` names."""
    if "like" not in raw:
        return raw
    if (name := raw["like"]) not in (known := list_experiments()):
        raise ScenarioError([f"{where}: like: got {name!r}, wanted one of {', '.join(known)}"])
    theirs = read_mapping(find_experiment_folder() / f"{name}.yaml", "an experiment")
    return _add_keys_of_like(theirs, f"{name}.yaml") | raw


def _anchor_overrides(raw: Any, folder: Path) -> None:
    """Make the paths of files beside the experiment absolute in all of its overrides."""
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        if key in OVERRIDES and isinstance(value, dict):
            anchor_paths(value, folder, only_there=True)
        elif isinstance(value, dict | list):
            _anchor_overrides(value, folder)


def read_suites() -> Mapping[str, Suite]:
    """Read all suites: name -> suite. Raises ScenarioError with all problems."""
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
    """Find the scenario file of a suite."""
    return find_experiment_folder() / suite.scenario


def _format_problems(error: ValidationError, where: str, part: type[Part]) -> list[str]:
    """Format one line per problem, `where: key.path: got …, wanted …`. part: class of the whole file."""
    lines = []
    for problem in drop_consequences(error.errors()):
        path = ".".join(str(key) for key in problem["loc"])
        known = sorted(_find_part(problem["loc"][:-1], part).model_fields)
        unknown = problem["type"] == "extra_forbidden"
        lines += explain_problem(problem, path, known=known if unknown else ())
    return [f"{where}: {line}" for line in lines]


def _find_part(place: Sequence[int | str], whole: type[Part]) -> type[Part]:
    """Find the class of the part at a place (keys from the top) of an experiment file."""
    part = whole
    for key in place:
        part = PARTS.get(str(key), part)
    return part
