"""What is said of a network that falls apart, held against the channel itself."""

import re

import pytest
from typer.testing import CliRunner

from emulator.cli import app
from emulator.errors import ScenarioError
from emulator.joining import joined
from emulator.reading import read_preset

NLOS = ["devices=2", "channel.line_of_sight={kind: never}", "channel.shadowing.kind=none"]


def problem(preset, *overrides):
    scenario = read_preset(preset, overrides).scenario
    with pytest.raises(ScenarioError) as caught:
        joined(*scenario.bind_air(), 0.0)
    (line,) = caught.value.problems
    return line


def is_joined(preset, *overrides):
    try:
        joined(*read_preset(preset, overrides).scenario.bind_air(), 0.0)
    except ScenarioError:
        return False
    return True


def cure(line, key):
    (value,) = re.findall(rf"{re.escape(key)} of ([^ ,]+)", line)
    return float(value)


def test_a_deadline_that_is_too_short_is_named_with_one_that_is_not():
    line = problem("paper", "devices=2", "channel.deadline_s=1e-9")
    assert "1500 bytes within channel.deadline_s = 1e-09 need 1.2e+13 bit/s" in line
    assert "bandwidth_hz of" not in line  # no band is wide enough at this power
    deadline_s = cure(line, "channel.deadline_s")
    assert is_joined("paper", "devices=2", f"channel.deadline_s={deadline_s}")
    assert not is_joined("paper", "devices=2", f"channel.deadline_s={0.99 * deadline_s}")


def test_a_band_that_is_too_narrow_is_named_with_one_that_is_not():
    line = problem("paper", "devices=2", "access.bandwidth_hz=1")
    hz = cure(line, "access.bandwidth_hz")
    assert 1.0 < hz < 2000.0
    assert is_joined("paper", "devices=2", f"access.bandwidth_hz={hz}")
    assert not is_joined("paper", "devices=2", f"access.bandwidth_hz={hz / 1.2}")


def test_a_band_that_is_too_wide_for_its_power_is_named_too():
    wide = [*NLOS, "access.bandwidth_hz=1e10"]
    line = problem("urban_sidelink", *wide)
    assert "carries nothing with 0.2 W on 1e+10 Hz" in line
    assert "channel.deadline_s of" not in line  # below the first CQI no time is enough
    hz, watts = cure(line, "access.bandwidth_hz"), cure(line, "a power")
    assert hz < 1e10
    assert is_joined("urban_sidelink", *NLOS, f"access.bandwidth_hz={hz}")
    for power_w, enough in ((watts, True), (0.99 * watts, False)):
        power = [f"channel.max_power_w={power_w}", f"channel.power.power_w={power_w}"]
        assert is_joined("urban_sidelink", *wide, *power) == enough


def test_of_several_missing_links_the_best_is_named():
    places = "channel.placement={kind: fixed, positions_m: [[0, 0], [10, 0], [4000, 0], [9000, 0]]}"
    line = problem("paper", "devices=4", places, "channel.max_power_w=1e-7")
    assert "3 islands of devices out of each other's range ([0, 1]; [2]; [3])" in line
    assert "the best link between them, 1 -> 2," in line
    lacks = re.findall(r"a power of (\S+) W or more", line)
    assert float(lacks[0]) == pytest.approx(
        (2**0.6 - 1) * _noise_w() / (1e-4 / 3990.0**2), rel=0.01
    )


def _noise_w():
    """Of 20 kHz with the preset's noise figure of 30 dB."""
    return 10 ** ((-174.0 + 30.0) / 10.0 - 3.0) * 2e4


def test_where_there_is_no_path_nothing_helps():
    line = problem("paper", "devices=2", "channel.path_loss.exponent=200")
    assert line.endswith("the best link between them, 0 -> 1, has no path at all (gain 0)")


def test_a_rate_that_no_power_changes_asks_for_time_only():
    line = problem("lossy_link", "devices=2", "channel.deadline_s=1e-6")
    assert line.endswith("it takes channel.deadline_s of 0.00121 or more")


def test_check_finds_islands_before_anything_is_loaded(tmp_path):
    scenario = tmp_path / "apart.yaml"
    text = "name: apart\ndevices: 2\nchannel: paper\ntasks: {names: [reverse]}\n"
    scenario.write_text(text)
    asked = ["check", str(scenario), "channel.deadline_s=1e-9"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 2
    assert "2 islands" in result.stderr
    assert "channel.deadline_s of" in result.stderr
    assert CliRunner().invoke(app, [*asked, "method.kind=local"]).exit_code == 0
