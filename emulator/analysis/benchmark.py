"""`emulator bench`: run the benchmarks of a source checkout, each in its own process."""

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


def select_benchmarks(names: Sequence[str]) -> tuple[str, ...]:
    """Check the names; without names return the usual benchmarks. Raises ScenarioError."""
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


def run_benchmark(name: str) -> Iterator[Figure]:
    """Yield each figure as soon as the benchmark prints it. Raises EmulatorError when it fails."""
    command = [sys.executable, str(FOLDER / f"{PREFIX}{name}.py"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise EmulatorError(f"bench {name}: failed (exit code {process.returncode}, see above)")
