"""Reading the files of a finished run. Every damaged value is reported in one line with file and key."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from emulator.core.columns import read_columns
from emulator.core.errors import ScenarioError
from emulator.core.names import check_name
from emulator.core.places import is_file, is_folder
from emulator.core.plain_numbers import MOST_WHOLE
from emulator.core.types.records import MetricRecord
from emulator.core.validation_errors import explain_problem
from emulator.core.yaml_file import read_json

Summary = dict[str, Any]
"""The content of summary.json, checked."""

Measured = float | None
"""A number, or None if it was not measured."""

Amounts = dict[str, Measured]

Whole = Annotated[int, Field(ge=-MOST_WHOLE, le=MOST_WHOLE)]
"""A whole number of 64 bits."""


class _Part(BaseModel):
    """A part of a file; unknown keys of later versions are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class _Accuracy(_Part):
    mean: Measured
    own_task: Measured
    per_task: dict[str, float]


class _Bytes(_Part):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Whole] = Field(init=False)
    total: Whole


class _Routing(_Part):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Measured] = Field(init=False)
    confusion: dict[str, dict[str, float]] = {}


class _Summary(_Part):
    """The summary of a run; keys with a default are missing in files of older versions."""

    name: str
    method: str
    devices: Whole
    rounds: Whole
    rounds_planned: Whole | None = None
    seed: Whole
    accuracy: _Accuracy
    routing_accuracy: Measured
    routing: _Routing = _Routing()
    asked: Amounts = {}
    collision_rate: Measured = None
    trained_parameters: Measured = None
    transmitted_parameters: Measured = None
    bytes: _Bytes
    emulated_s: float
    last_arrival_s: float = 0.0
    airtime_s: float
    energy_j: Measured = None
    energy_transmit_j: float
    energy_compute_j: float
    wall_s: float
    pacing: dict[str, bool | float] = {}


def _own_folder(text: str) -> str:
    """The folder of an expert: the task's name, or `NAME~2` for its second expert. Raises ValueError."""
    name, _, count = text.partition("~")
    check_name(name)
    if count and not count.isdecimal():
        raise ValueError(f"got {text!r}, wanted the name of a task")
    return text


class ExpertRow(_Part):
    """One expert of a device: its folder, and how to load it."""

    folder: Annotated[str, AfterValidator(_own_folder)]
    task: str
    samples: Whole
    scaling: float
    form: Literal["low_rank", "weights"]


class LinkRow(_Part):
    """One direction of a link of a round."""

    sender: Whole
    receiver: Whole


class RunTopology(_Part):
    """The positions of the devices and the links of the mixing graph."""

    positions_m: list[Annotated[list[float], Field(min_length=2, max_length=2)]]
    links: list[LinkRow]


class PeftConfig(_Part):
    """The part of adapter_config.json that the emulator reads: full names of the adapted modules."""

    target_modules: list[str]


def read_summary(folder: Path) -> Summary:
    """Read summary.json of a run. Raises ScenarioError if the file is missing or damaged."""
    path = folder / "summary.json"
    if not is_file(path):
        if is_folder(folder / "checkpoints"):
            raise ScenarioError(
                [
                    f"{folder}: got a run that has not ended, wanted one that has (emulator resume {folder})"
                ]
            )
        raise ScenarioError([f"{folder}: got no summary.json there, wanted the folder of a run"])
    raw: Any = read_json(path, "a run's summary")
    _checked(raw, _Summary, path, "a run's summary")
    summary: Summary = raw
    return summary


def read_experts(path: Path) -> list[ExpertRow]:
    """Read experts.json of a device, with at least one expert. Raises ScenarioError."""
    rows: list[ExpertRow] = _checked(
        read_json(path, "a run's list of experts"),
        Annotated[list[ExpertRow], Field(min_length=1)],
        path,
        "a run's list of experts",
    )
    return rows


def read_topology(folder: Path) -> RunTopology:
    """topology.json of a run. Raises ScenarioError."""
    path = folder / "topology.json"
    topology: RunTopology = _checked(
        read_json(path, "a run's topology"), RunTopology, path, "a run's topology"
    )
    return topology


def read_adapted_modules(folder: Path) -> list[str]:
    """Read the full names of the modules that the adapter in a folder adapts. Raises ScenarioError."""
    path = folder / "adapter_config.json"
    config: PeftConfig = _checked(
        read_json(path, "an adapter's config"), PeftConfig, path, "an adapter's config"
    )
    return config.target_modules


def read_metrics(folder: Path) -> pa.Table:
    """All measurements of a run. Raises ScenarioError."""
    return read_columns(folder / "metrics.parquet", MetricRecord, "table of metrics")


def _checked(raw: Any, kind: Any, path: Path, wanted: str) -> Any:
    """The content of a file as `kind`. Raises ScenarioError with all missing and wrong keys."""
    try:
        return TypeAdapter(kind).validate_python(raw, strict=True)
    except ValidationError as error:
        problems = error.errors()
    missing = [_key(p["loc"]) for p in problems if p["type"] == "missing"]
    lines = [f"got no {', '.join(sorted(missing))}, wanted {wanted}"] if missing else []
    for problem in problems:
        if problem["type"] != "missing":
            key = _key(problem["loc"])
            lines += explain_problem(problem, key, wanted="" if key else wanted)
    raise ScenarioError([f"{path}: {line}" for line in lines])


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))
