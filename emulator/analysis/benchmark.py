"""`emulator bench`: the benchmarks of a source checkout, each in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from emulator.analysis.benchmark_table import Figure
from emulator.core.errors import EmulatorError, ScenarioError

FOLDER = Path(__file__).parents[2] / "tests" / "benchmarks"
PREFIX = "bench_"

USUAL = ("start", "efficiency", "ring", "exchange", "wire", "answers", "scale")
ALL = (*USUAL, "paced")


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The benchmarks of those names; the usual ones where none is named. Raises ScenarioError."""
    if not FOLDER.is_dir():
        raise ScenarioError(
            [
                f"bench: got a package without {FOLDER.parent.name}/{FOLDER.name}, wanted a source checkout"
            ]
        )
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise ScenarioError([f"bench: got {unknown[0]!r}, wanted one of {', '.join(ALL)}"])
    return tuple(names) or USUAL


def figures_of(name: str) -> Iterator[Figure]:
    """What a benchmark measures, as it comes. Raises EmulatorError when it fails."""
    command = [sys.executable, str(FOLDER / f"{PREFIX}{name}.py"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise EmulatorError(f"bench {name}: failed (exit code {process.returncode}, see above)")
