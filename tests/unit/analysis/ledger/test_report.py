"""The ledger of a run's folder: tables, JSON, and the errors for wrong or damaged files."""

import json
from dataclasses import fields, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from emulator.analysis.ledger.account import GROUPINGS
from emulator.cli.app import app
from emulator.core.records import bytes_account, parquet, read_ledger, sort_ledger
from emulator.core.types.records import UNRECORDED, LinkRecord

SUMMARY = {
    "name": "quick", "method": "lora", "devices": 2, "rounds": 1, "seed": 1,
    "accuracy": {"mean": None, "own_task": None, "per_task": {}},
    "routing_accuracy": None, "emulated_s": 0.0, "airtime_s": 0.0, "energy_transmit_j": 0.0,
    "energy_compute_j": 0.0, "wall_s": 0.0,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, burst):
    """A run of two devices that send each other something in the setup and in a round."""
    records = [
        burst(s, 1 - s, exchange_index=i, traffic=traffic, round_index=i - 1)
        for i, traffic in enumerate(("setup", "in_cluster"))
        for s in (0, 1)
    ]
    return written(tmp_path / "run", records)


def written(folder, records, **summary):
    folder.mkdir()
    (folder / "ledger.parquet").write_bytes(parquet(sort_ledger(records), LinkRecord))
    (folder / "scenario.yaml").write_text("name: quick\nwire: {value_type: bfloat16}\n")
    written_summary = SUMMARY | {"bytes": bytes_account(records)} | summary
    (folder / "summary.json").write_text(json.dumps(written_summary))
    return folder


def call(*arguments):
    """(exit code, stdout, stderr) of `emulator ledger`."""
    result = CliRunner().invoke(app, ["ledger", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def rows_of(stdout):
    """Cells by the first of them."""
    lines = [line.strip(" │┃").replace("┃", "│") for line in stdout.splitlines()]
    rows = [[cell.strip() for cell in line.split("│")] for line in lines]
    return {row[0]: row[1:] for row in rows}


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


def test_the_whole_and_its_parts(folder):
    code, stdout, stderr = call(folder)
    assert (code, stderr) == (0, "")
    rows = rows_of(stdout)
    assert stdout.startswith("quick: lora, 2 devices, rounds 1, seed 1")
    assert rows["payload"] == ["800 B", "400 B", "400 B"]
    assert rows["total"] == ["1.6 kB", "806 B", "806 B"]
    assert rows["airtime"] == ["2.000 s", "1.000 s", "1.000 s"]
    assert rows["Hz·s"] == ["2.000 MHz·s", "1.000 MHz·s", "1.000 MHz·s"]
    assert rows["transmit energy"] == ["0.200 J", "0.100 J", "0.100 J"]
    assert rows["tries"] == ["8", "4", "4"]
    assert rows["values as bfloat16"] == ["1.6 kB", "+0.0 %", "unchanged"]
    assert rows["values as float32"][1] == "+49.6 %"


@pytest.mark.parametrize("by", GROUPINGS)
def test_the_same_in_groups(folder, by):
    code, stdout, stderr = call(folder, "--by", by)
    assert (code, stderr) == (0, "")
    assert f"bytes by {by}" in stdout
    assert "…" not in stdout
    lines = [line.strip() for line in stdout.splitlines()]
    for name, part in GROUPINGS[by](read_ledger(folder / "ledger.parquet")).items():
        of_part = [line.removeprefix(name).split() for line in lines if line.startswith(f"{name} ")]
        assert [str(part.payload_bytes), "B"] in [line[:2] for line in of_part]
    report = json.loads(call(folder, "--by", by, "--json")[1])
    assert sum(part["total_bytes"] for part in report[f"by_{by}"].values()) == 1612


def test_json_has_the_same_values(folder):
    code, stdout, stderr = call(folder, "--json")
    assert (code, stderr) == (0, "")
    report = json.loads(stdout)
    assert report["total"]["total_bytes"] == 1612
    assert report["total"]["hz_s"] == 2e6
    assert set(report["by_traffic"]) == {"setup", "rounds"}
    line = next(line for line in report["what_if"] if line["what"] == "values as float32")
    assert line["total_bytes"] == 1612 + 800
    assert line["change_percent"] == pytest.approx(100 * 800 / 1612)
    assert all(line["assumes"] for line in report["what_if"])


def test_a_run_without_a_burst_has_a_ledger_too(tmp_path):
    folder = written(tmp_path / "silent", [])
    for by in GROUPINGS:
        assert call(folder, "--by", by)[0] == 0
    assert rows_of(call(folder)[1])["values as float32"][:2] == ["0 B", "-"]


def test_an_older_ledger_is_read_without_the_counts_that_it_lacks(folder):
    path = folder / "ledger.parquet"
    newer = [f.name for f in fields(LinkRecord) if f.default == UNRECORDED]
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([*newer, "on_air"]), path)
    records = read_ledger(path)
    assert {getattr(r, name) for r in records for name in newer} == {UNRECORDED}
    assert all(r.on_air for r in records)
    code, stdout, _ = call(folder)
    assert code == 0
    rows = rows_of(stdout)
    assert rows["values as int8"] == ["-", "-", "an older ledger does not record it"]
    assert rows["total"][0] == "1.6 kB"


# ── damaged: exit code 1 ─────────────────────────────────────────────────────────────────────────


def test_a_burst_that_does_not_add_up_is_an_error(tmp_path, burst):
    right, wrong = burst(), replace(burst(exchange_index=3), delivered_bytes=353)
    folder = written(tmp_path / "damaged", [right, wrong])
    code, stdout, stderr = call(folder)
    assert (code, stdout) == (1, "")
    assert stderr == (
        f"error: {folder / 'ledger.parquet'}: account of exchange 3, link 0->1: got 354 B sent, "
        "353 delivered, 0 lost; wanted sent = delivered + lost\n"
    )


@pytest.mark.parametrize("name", ["total", "payload", "lost", "setup"])
def test_a_summary_of_another_ledger_is_an_error(tmp_path, burst, name):
    reported = bytes_account([burst()])
    reported[name] += 1
    folder = written(tmp_path / "damaged", [burst()], bytes=reported)
    code, stdout, stderr = call(folder, "--json")
    assert (code, stdout) == (1, "")
    assert stderr == (
        f"error: {folder}: bytes.{name}: got {reported[name] - 1} in ledger.parquet and {reported[name]} "
        "in summary.json, wanted the same (one of the files is damaged)\n"
    )


# ── wrong input: exit code 2 ─────────────────────────────────────────────────────────────────────


def refused(*arguments):
    code, stdout, stderr = call(*arguments)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    return stderr.removeprefix("error: ").rstrip("\n")


def test_a_folder_without_a_run_is_a_line(tmp_path):
    assert refused(tmp_path) == (
        f"{tmp_path}: got no summary.json there, wanted the folder of a run"
    )


def test_an_unknown_grouping_is_a_line(folder):
    assert refused(folder, "--by", "weekday") == (
        "--by: got 'weekday', wanted one of link, device, round, traffic"
    )


def test_a_run_without_a_ledger_is_a_line(folder):
    path = folder / "ledger.parquet"
    path.unlink()
    assert refused(folder) == f"{path}: no such file, wanted the ledger of a run"


def test_a_ledger_that_is_no_parquet_is_a_line(folder):
    (folder / "ledger.parquet").write_bytes(b"no")
    assert "ledger.parquet: got no Parquet (" in refused(folder)


def test_a_table_of_something_else_is_a_line(folder):
    path = folder / "ledger.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["sender", "late"]), path)
    assert refused(folder) == f"{path}: got no late, sender, wanted a ledger"
    odd = pa.array(["a lot"] * len(table))
    pq.write_table(table.set_column(table.column_names.index("sender"), "sender", odd), path)
    assert refused(folder) == f"{path}: sender: got string or gaps, wanted int64 without any"


def test_a_scenario_of_something_else_is_a_line(folder):
    (folder / "scenario.yaml").write_text("name: quick\nwire: {value_type: int3}\n")
    assert "scenario.yaml: wire.value_type: got 'int3', wanted 'float32', 'bfloat16'" in refused(
        folder
    )
