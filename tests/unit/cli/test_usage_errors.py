"""Wrong arguments are one line and exit code 2, whatever is wrong with them."""

import pytest
from typer.testing import CliRunner

from emulator.cli.app import app
from emulator.cli.usage_errors import Ending


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
            "emulator: no such command 'rum'. Did you mean 'run'?; see emulator --help",
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
    told = Ending("nothing", "s.yaml").located
    assert told("channel: got 2 islands") == "s.yaml: channel: got 2 islands"
    assert told("method.lora_rank: got 9") == "s.yaml: method.lora_rank: got 9"
    for as_it_is in ("--out: got x", "s.yaml: rouds: got 3", "data/a.jsonl:1: got nothing"):
        assert told(as_it_is) == as_it_is
    assert Ending("nothing").located("channel: got 2 islands") == "channel: got 2 islands"
