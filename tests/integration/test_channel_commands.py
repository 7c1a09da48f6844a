"""`emulator channel show` and `plot` as a user meets them."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emulator.cli.app import app
from emulator.runtime.kept_files import is_written
from emulator.scenario.load import preset_names, read_scenario

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "configs/quickstart.yaml"


def call(*arguments):
    """The command line in this process: (exit code, stdout, stderr)."""
    result = CliRunner().invoke(app, ["channel", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def small(monkeypatch):
    """Figures of little work."""
    monkeypatch.setattr("emulator.analysis.channel.plots.DENSITIES", (0.1, 0.5))
    monkeypatch.setattr("emulator.analysis.channel.plots.MASK_SIZE", 1 << 12)
    monkeypatch.setattr("emulator.analysis.channel.plots.DRAWS", 50)


def test_a_scenario_and_its_preset_show_the_same_links():
    code, stdout, stderr = call("show", QUICKSTART)
    assert (code, stderr) == (0, "")
    assert stdout.startswith("quickstart: 8 devices at 0 s, seed 1; a message of 6,400 bytes")
    assert "\x1b" not in stdout
    preset = call("show", "paper", "seed=1", "--set", "devices=8")[1]
    assert preset.partition("from")[2] == stdout.partition("from")[2]


def test_overrides_and_options_reach_the_table():
    more = ("channel=indoor_office", "--bytes", 84_000, "--at", 2)
    code, stdout, stderr = call("show", QUICKSTART, *more)
    assert (code, stderr) == (0, "")
    assert "quickstart: 8 devices at 2 s, seed 1; a broadcast of 84,000 bytes" in stdout
    assert "shadowing" in stdout
    dropped = call("show", "paper", "--set", "channel.rate.kind=nr_cqi")
    assert dropped[0] == 0
    assert dropped[2].startswith("note: channel.rate.kind=nr_cqi drops channel.rate.gap_db")


def test_all_links_are_shown_when_asked_for():
    many = ("show", "paper", "devices=14")
    assert "42 of 91 links" in call(*many)[1]
    assert "of 91 links" not in call(*many, "--all")[1]


def test_the_readme_shows_what_is_printed():
    text = (ROOT / "emulator" / "analysis" / "README.md").read_text(encoding="utf-8")
    ((command, printed),) = re.findall(
        r"```sh\nemulator channel (show [^\n]*)\n```\n\n```\n(.*?)```", text, re.DOTALL
    )
    code, stdout, stderr = call(*shlex.split(command))
    assert (code, stderr) == (0, "")
    assert [line.rstrip() for line in stdout.splitlines()] == printed.splitlines()


def test_a_preset_file_shows_what_its_name_shows(tmp_path):
    shipped = ROOT / "configs/channels/paper.yaml"
    assert call("show", shipped, "devices=3") == call("show", "paper", "devices=3")
    (tmp_path / "gains.csv").write_text("time_s,first,second,gain_db\n0,0,1,-71\n")
    own = tmp_path / "my own.yaml"
    own.write_text("channel: {preset: paper, gain: {kind: file, path: gains.csv}}\n")
    code, stdout, stderr = call("show", own, "devices=2")
    assert (code, stderr) == (0, "")
    assert stdout.startswith("my-own: 2 devices")
    assert "71.0" in stdout


def test_a_preset_file_has_its_problems_named(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("channel: {kind: wireless, fading: {kind: rayleih}}\naccess: {kind: ideal}\n")
    code, _, stderr = call("show", own)
    assert code == 2
    assert stderr.startswith("error: own.yaml: channel.fading.kind: got 'rayleih', wanted one of")


def test_ideal_has_nothing_to_show():
    code, stdout, stderr = call("show", "ideal")
    assert (code, stderr) == (0, "")
    assert stdout == (
        "ideal: the channel is ideal, every message arrives whole, at once and without cost: there "
        "is nothing to show\n"
    )


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_plotted_into_a_folder(name, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = call("plot", name)
    assert (code, stderr) == (0, "")
    folder = Path("runs/channel") / name
    written = {path.name for path in folder.iterdir()}
    told = [line for line in stdout.splitlines() if not line.startswith("left out: ")]
    assert {Path(line).name for line in told} == written
    assert all(map(is_written, written))
    assert {"scenario.yaml", "mask_bits.html", "mask_bits.csv"} <= written
    assert read_scenario(folder / "scenario.yaml").scenario.name == name


def test_figures_are_never_written_over_anything_silently(small, tmp_path):
    out = tmp_path / "out"
    assert call("plot", "paper", "--out", out)[0] == 0
    before = (out / "rate_cdf.csv").read_bytes()
    refused = f"error: --out: got {out}, which is not empty, wanted another folder or --force\n"
    assert call("plot", "paper", "seed=2", "--out", out) == (2, "", refused)
    assert (out / "rate_cdf.csv").read_bytes() == before
    assert call("plot", "paper", "seed=2", "--out", out, "--force")[0] == 0
    assert (out / "rate_cdf.csv").read_bytes() != before
    (tmp_path / "thesis.txt").write_text("years of work")
    assert call("plot", "paper", "--out", tmp_path, "--force")[0] == 2
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_figures_replace_figures_and_never_a_run(small, tmp_path):
    out = tmp_path / "out"
    assert call("plot", "paper", "--out", out)[0] == 0
    (out / "summary.json").write_text("{}")
    wanted = f"error: --out: got {out}, which holds a run, wanted a folder of figures to replace\n"
    assert call("plot", "paper", "--out", out, "--force") == (2, "", wanted)
    assert (out / "rate_cdf.csv").is_file()


@pytest.mark.parametrize("verb", ["show", "plot"])
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("papr",),
            "papr: no such file, wanted a scenario in YAML or one of ideal, indoor_office, lossy_link, "
            "paper, urban_sidelink, wfl_classic; did you mean 'paper'?",
        ),
        (("nowhere.yaml",), "nowhere.yaml: no such file, wanted a scenario in YAML"),
        (("paper", "devices=1"), "paper: devices: got 1, wanted a whole number in [2, 1024]"),
    ],
    ids=["no preset", "no file", "no network"],
)
def test_wrong_input_is_a_line(verb, arguments, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = call(verb, *arguments)
    assert (code, stdout) == (2, "")
    assert stderr.count("\n") == 1
    assert stderr.startswith(f"error: {line}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--at", "-1"), "--at: got -1, wanted a time of 0 s or more"),
        (("--at", "nan"), "--at: got nan, wanted a time of 0 s or more"),
        (("--bytes", "0"), "--bytes: got 0, wanted 1 or more"),
        (("--neighbours", "8"), "--neighbours: got 8, wanted 1 to 7 of 8 devices"),
    ],
)
def test_an_impossible_occasion_is_a_line(options, line):
    assert call("show", "paper", *options) == (2, "", f"error: {line}\n")
