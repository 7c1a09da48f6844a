"""A small sample of tests/benchmarks/fuzz.py: what is mutated is read, or refused with the documented error."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("what", "mutants"), [("messages", 5000), ("scenarios", 60)])
def test_no_mutant_is_faulty(what: str, mutants: int) -> None:
    command = [sys.executable, "tests/benchmarks/fuzz.py", what, "--mutants", str(mutants)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"{what}: {mutants} mutants of seed 1: ")
    assert " 0 accepted" not in ended.stdout
    assert " 0 refused" not in ended.stdout
    assert " 0 faulty" in ended.stdout
