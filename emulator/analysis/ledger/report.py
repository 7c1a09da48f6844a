"""The ledger of a finished run, checked against its summary, as tables or as JSON."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import RenderableType

from emulator.analysis.ledger.account import GROUPINGS
from emulator.analysis.ledger.tables import LedgerReport, as_json, tables
from emulator.analysis.ledger.what_if import alternatives
from emulator.core.errors import EmulatorError, ScenarioError, drop_consequences
from emulator.core.records import bytes_account, read_ledger
from emulator.core.run_files import read_summary
from emulator.core.validation_errors import explained
from emulator.core.yaml_file import read_mapping
from emulator.network.wire import WireFormat


def ledger_report(folder: Path, by: str | None) -> LedgerReport:
    """All that a run's ledger tells, broken down by `by` if that is named.

    Raises ScenarioError for wrong input, EmulatorError where the files of the run contradict each
    other.
    """
    if by is not None and by not in GROUPINGS:
        raise ScenarioError([f"--by: got {by!r}, wanted one of {', '.join(GROUPINGS)}"])
    summary = read_summary(folder)
    records = read_ledger(folder / "ledger.parquet")
    _check_summary(folder, bytes_account(records), summary["bytes"])
    return LedgerReport(folder, summary, records, alternatives(records, _wire(folder)), by)


def ledger_tables(folder: Path, by: str | None) -> RenderableType:
    """The report for a terminal."""
    return tables(ledger_report(folder, by))


def ledger_json(folder: Path, by: str | None) -> str:
    """The report as JSON."""
    return json.dumps(as_json(ledger_report(folder, by)), indent=2) + "\n"


def _check_summary(folder: Path, found: dict[str, int], told: dict[str, Any]) -> None:
    """EmulatorError for the first sum that the summary tells otherwise."""
    for name in found.keys() & told.keys():
        if found[name] != told[name]:
            raise EmulatorError(
                f"{folder}: bytes.{name}: got {found[name]} in ledger.parquet and {told[name]} in "
                "summary.json, wanted the same (one of the files is damaged)"
            )


def _wire(folder: Path) -> WireFormat:
    """How the run wrote its messages."""
    path = folder / "scenario.yaml"
    raw = read_mapping(path, "a run's scenario")
    try:
        return WireFormat.model_validate(raw.get("wire") or {})
    except ValidationError as error:
        lines = []
        for problem in drop_consequences(error.errors()):
            where = ".".join(map(str, ("wire", *problem["loc"])))
            lines += explained(problem, where, known=list(WireFormat.model_fields))
        raise ScenarioError([f"{path}: {line}" for line in lines]) from None
