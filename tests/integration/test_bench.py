"""`emulator bench` runs the benchmarks of a source checkout and prints their tables."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from emulator.analysis import benchmark
from emulator.cli.app import app

STUB = """\
from figures import Figure, print_figures
print_figures("Stub", iter([Figure("speed", 3.0, "1/s", at_least=2.0), Figure("size", 5.0, "MB", at_most=4.0)]))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Benchmarks of its own: one that measures, one that breaks."""
    (tmp_path / "figures.py").write_text((benchmark.FOLDER / "figures.py").read_text())
    (tmp_path / "bench_wire.py").write_text(STUB)
    (tmp_path / "bench_ring.py").write_text("raise SystemExit(3)\n")
    monkeypatch.setattr(benchmark, "FOLDER", tmp_path)
    return tmp_path


def test_every_benchmark_is_there() -> None:
    names = {path.stem.removeprefix("bench_") for path in benchmark.FOLDER.glob("bench_*.py")}
    assert names == {*benchmark.ALL, "routers"}


def test_help_names_every_benchmark() -> None:
    told = CliRunner().invoke(app, ["bench", "--help"]).stdout
    assert [name for name in benchmark.ALL if name not in told] == []


def test_figures_are_shown_beside_their_targets(folder: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "wire"])
    assert done.exit_code == 0
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "speed 3.00 1/s >= 2.00 1/s 1.50" in rows
    assert "size 5.00 MB <= 4.00 MB 0.80" in rows


def test_a_benchmark_that_breaks_is_named(folder: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "ring"])
    assert done.exit_code == 1
    assert "bench ring: failed (exit code 3" in done.stderr


def test_an_unknown_name_is_reported_in_one_line() -> None:
    done = CliRunner().invoke(app, ["bench", "speed"])
    assert done.exit_code == 2
    assert done.stderr.startswith(
        "error: bench: got 'speed', wanted one of start, efficiency, ring"
    )


def test_a_package_without_its_tests_is_reported(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(benchmark, "FOLDER", tmp_path / "tests" / "benchmarks")
    done = CliRunner().invoke(app, ["bench"])
    assert done.exit_code == 2
    assert "wanted a source checkout" in done.stderr
