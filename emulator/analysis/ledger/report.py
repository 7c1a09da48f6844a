"""Reads the ledger of a finished run, checks it against the summary, writes it as tables or JSON."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import RenderableType

from emulator.analysis.ledger.account import GROUPINGS
from emulator.analysis.ledger.tables import LedgerReport, build_json_report, build_tables
from emulator.analysis.ledger.what_if import list_alternatives
from emulator.core.errors import EmulatorError, ScenarioError, drop_consequences
from emulator.core.records import bytes_account, read_ledger
from emulator.core.run_files import read_summary
from emulator.core.validation_errors import explain_problem
from emulator.core.yaml_file import read_mapping
from emulator.network.wire import WireFormat


def read_ledger_report(folder: Path, by: str | None) -> LedgerReport:
    """Read the ledger of a run. by: a key of GROUPINGS, or None for no groups.

    Raises ScenarioError for wrong input, EmulatorError where the files of the run contradict each other.
    """
    if by is not None and by not in GROUPINGS:
        raise ScenarioError([f"--by: got {by!r}, wanted one of {', '.join(GROUPINGS)}"])
    summary = read_summary(folder)
    records = read_ledger(folder / "ledger.parquet")
    _check_summary(folder, bytes_account(records), summary["bytes"])
    return LedgerReport(
        folder, summary, records, list_alternatives(records, _read_wire(folder)), by
    )


def build_ledger_tables(folder: Path, by: str | None) -> RenderableType:
    """Build the tables of the report for a terminal."""
    return build_tables(read_ledger_report(folder, by))


def format_ledger_json(folder: Path, by: str | None) -> str:
    """Write the report as JSON text."""
    return json.dumps(build_json_report(read_ledger_report(folder, by)), indent=2) + "\n"


def _check_summary(folder: Path, found: dict[str, int], reported: dict[str, Any]) -> None:
    """Raise EmulatorError for the first sum in which ledger and summary differ."""
    for name in found.keys() & reported.keys():
        if found[name] != reported[name]:
            raise EmulatorError(
                f"{folder}: bytes.{name}: got {found[name]} in ledger.parquet and {reported[name]} in "
                "summary.json, wanted the same (one of the files is damaged)"
            )


def _read_wire(folder: Path) -> WireFormat:
    """Read the section `wire` of the run's scenario."""
    path = folder / "scenario.yaml"
    raw = read_mapping(path, "a run's scenario")
    try:
        return WireFormat.model_validate(raw.get("wire") or {})
    except ValidationError as error:
        lines = []
        for problem in drop_consequences(error.errors()):
            where = ".".join(map(str, ("wire", *problem["loc"])))
            lines += explain_problem(problem, where, known=list(WireFormat.model_fields))
        raise ScenarioError([f"{path}: {line}" for line in lines]) from None
