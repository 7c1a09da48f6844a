"""The files of a finished run: damage is reported in one line, with file and key."""

import io
import json
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from emulator.cli.app import app
from emulator.core.errors import ScenarioError
from emulator.core.records import parquet, sort_ledger
from emulator.core.run_files import (
    read_adapted_modules,
    read_experts,
    read_metrics,
    read_summary,
    read_topology,
)
from emulator.core.types.records import LinkRecord, MetricRecord
from emulator.experiments.runs import read_run

SUMMARY: dict[str, Any] = {
    "name": "quick", "method": "lora", "devices": 2, "rounds": 3, "rounds_planned": 3, "seed": 1,
    "accuracy": {"mean": 0.25, "own_task": None, "per_task": {"sort": 0.25}},
    "routing_accuracy": None, "collision_rate": None,
    "routing": {"abstained": 0.1, "confusion": {"sort": {"sort": 1.0}}},
    "asked": {"forgetting": 0.1, "dilution": None},
    "bytes": {"total": 0, "setup": 0, "in_cluster": 0, "inter_cluster": 0},
    "emulated_s": 12.25, "airtime_s": 3, "energy_transmit_j": 0.125, "energy_compute_j": 10.0,
    "wall_s": 4.2, "pacing": {"lag_p99_s": 0.1, "keeps_pace": True},
}  # fmt: skip
EXPERTS: list[dict[str, Any]] = [
    {"task": "sort", "samples": 1, "scaling": 1.0, "form": "low_rank", "folder": "sort"},
    {"task": "sort", "samples": 1, "scaling": 2, "form": "low_rank", "folder": "sort~2"},
]
METRICS = [MetricRecord(0, 0, "sort", "accuracy", 0.25)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a run that reports can read."""
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    (tmp_path / "scenario.yaml").write_text("name: quick\n")
    (tmp_path / "metrics.parquet").write_bytes(parquet(METRICS, MetricRecord))
    (tmp_path / "ledger.parquet").write_bytes(parquet(sort_ledger([]), LinkRecord))
    return tmp_path


def changed(document: Any, key: str, value: Any) -> Any:
    """A copy with one value at a dotted key set, or removed if it is ..."""
    whole = json.loads(json.dumps(document))
    *path, last = (int(part) if part.isdigit() else part for part in key.split("."))
    place = reduce(lambda inner, part: inner[part], path, whole)
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return whole


def call(*arguments: object) -> tuple[int, list[str]]:
    """Exit code and lines on standard error; a traceback fails the test."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stderr.splitlines()


def test_a_whole_folder_is_read(folder: Path) -> None:
    assert read_summary(folder) == SUMMARY
    assert read_run("lora", None, folder).per_task == {"sort": 0.25}
    assert read_metrics(folder).to_pylist() == [vars(record) for record in METRICS]
    for verb in ("report", "compare", "ledger"):
        assert call(verb, folder) == (0, [])


DAMAGE = [
    *((key, ..., f"got no {key}, wanted a run's summary") for key in (
        "name", "seed", "accuracy", "accuracy.mean", "accuracy.per_task", "bytes.total", "wall_s",
    )),
    ("name", 3, "name: got 3, wanted text"),
    ("devices", "two", "devices: got 'two', wanted a whole number"),
    ("devices", 2.0, "devices: got 2.0, wanted a whole number"),
    ("rounds", None, "rounds: got None, wanted a whole number"),
    ("rounds_planned", "x", "rounds_planned: got 'x', wanted a whole number"),
    ("accuracy", [], "accuracy: got [], wanted a mapping"),
    ("accuracy.mean", "high", "accuracy.mean: got 'high', wanted a number"),
    ("accuracy.per_task", None, "accuracy.per_task: got None, wanted a mapping"),
    ("accuracy.per_task.sort", None, "accuracy.per_task.sort: got None, wanted a number"),
    ("routing", 1, "routing: got 1, wanted a mapping"),
    ("routing.abstained", "x", "routing.abstained: got 'x', wanted a number"),
    ("routing.confusion.sort", 1, "routing.confusion.sort: got 1, wanted a mapping"),
    ("asked.forgetting", {}, "asked.forgetting: got {}, wanted a number"),
    ("bytes.total", "1", "bytes.total: got '1', wanted a whole number"),
    ("bytes.total", 10**400, "(401 characters), wanted at most 9223372036854775807"),
    ("bytes.control", 10**400, "bytes.control: got "),
    ("bytes.setup", [1], "bytes.setup: got [1], wanted a whole number"),
    ("emulated_s", True, "emulated_s: got True, wanted a number"),
    ("emulated_s", float("nan"), "emulated_s: got nan, wanted a finite number"),
    ("collision_rate", "x", "collision_rate: got 'x', wanted a number"),
    ("pacing", [], "pacing: got [], wanted a mapping"),
    ("wall_s", "x" * 5000, "(5002 characters), wanted a number"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "reported"), DAMAGE, ids=lambda part: str(part)[:30])
def test_every_verb_names_file_and_key_of_a_damaged_summary(
    folder: Path, key: str, value: Any, reported: str
) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps(changed(SUMMARY, key, value)))
    for verb in ("report", "compare", "ledger"):
        code, lines = call(verb, folder)
        assert (code, len(lines)) == (2, 1)
        assert lines[0].startswith(f"error: {path}: ")
        assert reported in lines[0]


BYTES = {
    "no UTF-8": b'{"name": "\xff"}',
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "zeros": b"\0" * 100,
    "deep": b"[" * 100_000,
    "digits": b'{"seed": ' + b"1" * 5000 + b"}",
}


@pytest.mark.parametrize("data", BYTES.values(), ids=BYTES)
def test_bytes_that_are_no_summary(folder: Path, data: bytes) -> None:
    (folder / "summary.json").write_bytes(data)
    for verb in ("report", "compare", "ledger"):
        code, lines = call(verb, folder)
        assert (code, len(lines)) == (2, 1)
        assert "summary.json: got " in lines[0]


@pytest.mark.parametrize("size", [0, 4, 100, 500])
@pytest.mark.parametrize("name", ["metrics.parquet", "ledger.parquet"])
def test_a_table_that_is_cut_short(folder: Path, name: str, size: int) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ScenarioError, match=rf"{name}: got no Parquet \(.*, wanted a "):
        read_metrics(folder) if name.startswith("m") else _ledger(folder)


def _ledger(folder: Path) -> None:
    code, lines = call("ledger", folder)
    raise ScenarioError(lines) if code == 2 else AssertionError(lines)


def test_metrics_without_a_column_or_of_another_type(folder: Path) -> None:
    path = folder / "metrics.parquet"
    table = read_metrics(folder)
    for damaged, reported in (
        (table.drop_columns("value"), "got no value, wanted a table of metrics"),
        (table.set_column(4, "value", pa.array(["x"])), "value: got string or gaps, wanted double"),
        (table.set_column(4, "value", pa.array([None], pa.float64())), "value: got double or gaps"),
        (table.append_column("value", pa.array([1.0])), "got no Parquet (Multiple matches"),
    ):
        buffer = io.BytesIO()
        pq.write_table(damaged, buffer)
        path.write_bytes(buffer.getvalue())
        with pytest.raises(ScenarioError, match=r"metrics\.parquet: ") as caught:
            read_run("lora", None, folder)
        assert reported in caught.value.problems[0]
    path.unlink()
    with pytest.raises(ScenarioError, match="no such file, wanted the table of metrics of a run"):
        read_run("lora", None, folder)


@pytest.mark.parametrize(
    ("key", "value", "reported"),
    [
        ("0.folder", ..., "got no 0.folder, wanted a run's list of experts"),
        ("1.folder", "../../x", "1.folder: got '../../x', wanted text of letters"),
        ("1.folder", "sort~x", "1.folder: got 'sort~x', wanted the name of a task"),
        ("0.form", "whole", "0.form: got 'whole', wanted"),
        ("0.samples", 1.5, "0.samples: got 1.5, wanted a whole number"),
        ("1.scaling", "2", "1.scaling: got '2', wanted a number"),
        ("0", 3, "0: got 3, wanted a mapping"),
    ],
)
def test_damaged_experts(tmp_path: Path, key: str, value: Any, reported: str) -> None:
    path = tmp_path / "experts.json"
    path.write_text(json.dumps(EXPERTS))
    assert [row.folder for row in read_experts(path)] == ["sort", "sort~2"]
    path.write_text(json.dumps(changed(EXPERTS, key, value)))
    with pytest.raises(ScenarioError, match=r"experts\.json: ") as caught:
        read_experts(path)
    assert reported in caught.value.problems[0]


@pytest.mark.parametrize("text", ["[]", "{}", "null", "3", '"x"', ""])
def test_a_file_without_a_list_of_experts(tmp_path: Path, text: str) -> None:
    (tmp_path / "experts.json").write_text(text)
    with pytest.raises(ScenarioError, match=r"experts\.json: .*wanted a run's list of experts"):
        read_experts(tmp_path / "experts.json")


def test_damaged_topology_and_adapter_config(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"topology\.json: no such file"):
        read_topology(tmp_path)
    (tmp_path / "topology.json").write_text(
        '{"positions_m": [[0, 0], [1]], "links": [{"sender": 0}]}'
    )
    with pytest.raises(ScenarioError) as caught:
        read_topology(tmp_path)
    assert "got no links.0.receiver, wanted a run's topology" in caught.value.problems[0]
    assert "positions_m.1: got [1], wanted at least 2 of them" in caught.value.problems[1]
    (tmp_path / "adapter_config.json").write_text('{"target_modules": "all"}')
    with pytest.raises(ScenarioError, match="target_modules: got 'all', wanted a list"):
        read_adapted_modules(tmp_path)
