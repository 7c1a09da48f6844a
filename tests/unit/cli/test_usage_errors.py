"""Every wrong argument gives one line and exit code 2."""

import re

import pytest
import typer
from typer.testing import CliRunner

from emulator.cli.app import app
from emulator.cli.usage_errors import Ending, clear_messages
from emulator.core.errors import EmulatorError, LifeFailedError


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("run", "emulator run: missing argument 'scenario'; see emulator run --help"),
        (
            "run x.yaml --seedz 3",
            "emulator run: no such option: --seedz (Possible options: --set); see emulator run --help",
        ),
        (
            "rum x.yaml",
            "emulator: no such command 'rum'. Did you mean 'run', 'resume'?; see emulator --help",
        ),
        ("channel plot", "emulator channel plot: missing argument 'SCENARIO|PRESET'; see emulator channel plot --help"),
        ("reproduce table1 --seeds 0", "--seeds: got '0', wanted at least 1"),
        ("reproduce table1 --seeds many", "--seeds: got 'many', wanted a whole number"),
        ("infer folder --device 2.5 hello", "--device: got '2.5', wanted a whole number"),
        ("infer folder --device", "emulator: option '--device' requires an argument; see emulator --help"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_reported_in_one_line(arguments, line):
    result = CliRunner().invoke(app, arguments.split(), prog_name="emulator")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {line}\n")


@pytest.mark.parametrize("arguments", [(), ("channel",)])
def test_without_arguments_the_help_is_printed(arguments):
    result = CliRunner().invoke(app, arguments, prog_name="emulator")
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: emulator")
    assert "Commands:" in result.stderr


def test_problems_of_a_scenario_name_its_file() -> None:
    reported = Ending("nothing", "s.yaml").located
    assert reported("channel: got 2 islands") == "s.yaml: channel: got 2 islands"
    assert reported("method.lora_rank: got 9") == "s.yaml: method.lora_rank: got 9"
    for as_it_is in ("--out: got x", "s.yaml: rouds: got 3", "data/a.jsonl:1: got nothing"):
        assert reported(as_it_is) == as_it_is
    assert Ending("nothing").located("channel: got 2 islands") == "channel: got 2 islands"


def fails_with(error: Exception) -> tuple[int, str]:
    """Exit code and standard error of a command that raises an exception."""
    command = typer.Typer()

    @command.command()
    def fail() -> None:
        with clear_messages():
            raise error

    result = CliRunner().invoke(command, [])
    return result.exit_code, result.stderr


def test_an_exception_of_foreign_code_is_one_line() -> None:
    code, reported = fails_with(KeyError("q\n\nr"))
    wanted = r"error: KeyError: 'q\\n\\nr', test_usage_errors\.py:\d+ in fail; EMULATOR_TRACEBACK=1 shows .*\n"
    assert code == 1
    assert re.fullmatch(wanted, reported)
    code, reported = fails_with(FileNotFoundError("no data"))
    assert (code, reported.count("\n")) == (1, 1)
    assert reported.startswith("error: FileNotFoundError: no data, test_usage_errors.py:")


def test_the_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    error = LifeFailedError("device 1 failed")
    error.add_note("the traceback of the child")
    assert fails_with(error) == (
        1,
        "error: device 1 failed; EMULATOR_TRACEBACK=1 shows the traceback\n",
    )
    monkeypatch.setenv("EMULATOR_TRACEBACK", "0")
    assert fails_with(EmulatorError("full")) == (1, "error: full\n")
    monkeypatch.setenv("EMULATOR_TRACEBACK", "1")
    code, reported = fails_with(error)
    assert code == 1
    assert reported.startswith("Traceback (most recent call last)")
    assert "the traceback of the child" in reported
    assert reported.endswith("\nerror: device 1 failed\n")
