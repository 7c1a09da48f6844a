"""What a benchmark has measured, beside what was aimed at: a table, or JSON lines under --json."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from rich.console import Console

from emulator.analysis.benchmark_table import build_figures_table


@dataclass(frozen=True)
class Figure:
    """One figure; `unit` may be empty for ratios, `at_least` and `at_most` are targets."""

    what: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None


def print_figures(title: str, figures: Iterable[Figure]) -> None:
    """Print figures as they come, or all of them as one table."""
    if "--json" in sys.argv:
        for figure in figures:
            sys.stdout.write(json.dumps(asdict(figure)) + "\n")
            sys.stdout.flush()
        return
    Console(width=100).print(build_figures_table(title, [asdict(figure) for figure in figures]))


def best_s(work: Callable[[], object], runs: int) -> float:
    """Shortest wall time of some runs: others use the machine too."""
    times = []
    for _ in range(runs):
        began_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - began_s)
    return min(times)
