"""Paths to which the system denies access are missing files, in one line, under every key."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emulator.cli.app import app
from emulator.core.places import is_file, is_folder, resolved
from emulator.runtime.claim_holder import Holder

LONG = "a" * 300
SCENARIO = "devices: 2\ntasks: {kind: synthetic, names: [reverse, sort]}\n"


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path / "loop"


def test_a_path_without_access_does_not_exist(loop: Path) -> None:
    for path in (loop, Path(LONG), Path("a\0b")):
        assert not is_file(path)
        assert not is_folder(path)
    assert resolved(loop).name == "loop"
    assert resolved(Path(LONG)).is_absolute()


@pytest.mark.parametrize(
    "words",
    [
        ("report", LONG),
        ("compare", LONG, LONG),
        ("infer", LONG, "x"),
        ("channel", "show", LONG),
        ("check", f"{LONG}.yaml"),
        ("run", "SCENARIO", "--dry-run", f"tasks={{kind: jsonl, folder: {LONG}, names: [a]}}"),
        ("run", "SCENARIO", "--dry-run", "tasks={kind: jsonl, folder: LOOP, names: [a]}"),
        ("run", "SCENARIO", "--dry-run", 'tasks={kind: jsonl, folder: "a\\0b", names: [a]}'),
        ("run", "SCENARIO", "--dry-run", "channel=paper", f"channel.gain={{kind: file, path: {LONG}}}"),
        ("run", "SCENARIO", "--dry-run", f"backbone={{kind: causal_lm, name: ./{LONG}}}"),
    ],
    ids=lambda words: " ".join(words)[:40],
)  # fmt: skip
def test_each_is_one_line(words: tuple[str, ...], loop: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SCENARIO)
    places = {"SCENARIO": str(tmp_path / "s.yaml"), "LOOP": str(loop)}
    for name, place in places.items():
        words = tuple(word.replace(name, place) for word in words)
    result = CliRunner().invoke(app, words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1


@pytest.mark.parametrize("number", [-1, 0, 10**30])
def test_a_claim_of_a_process_that_cannot_be_is_not_alive(number: int) -> None:
    assert not Holder(number, "here", "then", float(sys.maxsize)).is_running
