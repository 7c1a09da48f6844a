"""What several verbs share: their arguments, how a scenario is read, and where notes and tables go."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from emulator.scenario.load import Reading

ScenarioFile = Annotated[Path, typer.Argument(help="scenario in YAML", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="override a value; may be repeated"),
]
MoreOverrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="more overrides")
]
ScenarioOrPreset = Annotated[
    str,
    typer.Argument(
        metavar="SCENARIO|PRESET",
        help="scenario in YAML, or a channel preset: a name, or a file of channel and access",
        show_default=False,
    ),
]
Driver = Annotated[str, typer.Option(help="many_processes (one per device) or one_process")]
DevicesPerHost = Annotated[
    int | None,
    typer.Option(min=1, help="under a launcher of one process a host: fork so many devices here"),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="no table, and nothing in a log")]
Runs = Annotated[list[Path], typer.Argument(help="output folders of runs", show_default=False)]


def print_notes(notes: Sequence[str]) -> None:
    """Print notes on standard error."""
    sys.stderr.writelines(f"note: {note}\n" for note in notes)


def read_overridden(
    path: Path, overrides: list[str] | None, more: list[str] | None, *, prints: bool
) -> "Reading":
    """Read a scenario file with overrides. prints: whether this process prints the notes on it."""
    from emulator.experiments.load import read_scenario_only

    reading = read_scenario_only(path, [*(overrides or []), *(more or [])])
    if prints:
        print_notes(reading.notes)
    return reading


def open_console() -> Console:
    """Standard output, wide enough for a table also where no terminal reports its width."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=110)
