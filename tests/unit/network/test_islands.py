"""The description of a network in islands, compared with the channel itself."""

import re

import pytest
from typer.testing import CliRunner

from emulator.cli.app import app
from emulator.core.errors import ScenarioError
from emulator.network.islands import Reach, require_connected
from emulator.scenario.load import read_preset

NLOS = ["devices=2", "channel.line_of_sight={kind: never}", "channel.shadowing.kind=none"]


def join(preset, *overrides):
    scenario = read_preset(preset, overrides).scenario
    require_connected(Reach(*scenario.bind_channel(), scenario.access, scenario.seed))


def problem(preset, *overrides):
    with pytest.raises(ScenarioError) as caught:
        join(preset, *overrides)
    (line,) = caught.value.problems
    return line


def is_joined(preset, *overrides):
    try:
        join(preset, *overrides)
    except ScenarioError:
        return False
    return True


def cures(line):
    """What a message advises: the overrides of each cure."""
    advised = re.findall(r"((?:(?: and )?(?:channel|access)\.[a-z_.]+)+) to ([^ ,;]+)", line)
    return [[f"{key}={value}" for key in keys.split(" and ")] for keys, value in advised]


def cure(line, key):
    (value,) = re.findall(rf"{re.escape(key)} to ([^ ,]+)", line)
    return float(value)


def test_a_deadline_that_is_too_short_is_named_with_one_that_is_not():
    line = problem("paper", "devices=2", "channel.deadline_s=1e-9")
    assert "1500 bytes within channel.deadline_s = 1e-09 need 1.2e+13 bit/s" in line
    assert "bandwidth_hz to" not in line  # no band is wide enough at this power
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
    assert "channel.deadline_s to" not in line  # below the first CQI no time is enough
    hz, watts = cure(line, "access.bandwidth_hz"), cure(line, "channel.power.power_w")
    assert hz < 1e10
    assert f"access.bandwidth_hz to {hz:g} (a narrower band has less noise)" in line
    assert "channel.max_power_w and channel.power.power_w to" in line
    assert is_joined("urban_sidelink", *NLOS, f"access.bandwidth_hz={hz}")
    for power_w, enough in ((watts, True), (0.99 * watts, False)):
        power = [f"channel.max_power_w={power_w}", f"channel.power.power_w={power_w}"]
        assert is_joined("urban_sidelink", *wide, *power) == enough


def test_the_best_missing_link_is_named_and_the_power_that_connects_all():
    places = "channel.placement={kind: fixed, positions_m: [[0, 0], [10, 0], [4000, 0], [9000, 0]]}"
    line = problem("paper", "devices=4", places, "channel.max_power_w=1e-7")
    assert "3 islands of devices out of each other's range ([0, 1]; [2]; [3])" in line
    assert "the best link between them, 1 -> 2," in line
    furthest_w = (2**0.6 - 1) * _noise_w() / (1e-4 / 5000.0**2)
    assert cure(line, "channel.max_power_w") == pytest.approx(furthest_w, rel=0.01)
    assert "channel.power.power_w" not in line  # least power has no such key


def _noise_w():
    """Of 20 kHz with the preset's noise figure of 30 dB."""
    return 10 ** ((-174.0 + 30.0) / 10.0 - 3.0) * 2e4


def _square(side_m, *overrides):
    return [
        f"channel.placement={{kind: rectangle, width_m: {side_m}, height_m: {side_m}}}",
        *overrides,
    ]


ALOHA = "access={kind: aloha, bandwidth_hz: 2e7, send_probability: 0.2}"
FALL_APART = {
    "shared slots": ("urban_sidelink", _square(2500)),
    "short of time": ("urban_sidelink", _square(1500, "channel.deadline_s=0.005")),
    "a slot each": (
        "urban_sidelink",
        _square(2000, "access.reuse=none", "channel.deadline_s=0.02"),
    ),
    "broadcast": ("urban_sidelink", _square(2000, "access.cast=broadcast")),
    "aloha": ("urban_sidelink", _square(1500, ALOHA, "channel.deadline_s=0.02")),
    "own bands": ("paper", ["channel.max_power_w=1e-7"]),
    "walkers": (
        "urban_sidelink",
        _square(
            2000,
            "channel.mobility={kind: random_waypoint, min_speed_m_per_s: 1, max_speed_m_per_s: 2}",
        ),
    ),
}


@pytest.mark.parametrize("kind", FALL_APART)
@pytest.mark.parametrize("seed", range(4))
def test_a_network_with_an_advised_setting_is_connected(kind, seed):
    preset, overrides = FALL_APART[kind]
    overrides = [*overrides, "devices=10", f"seed={seed}"]
    line = problem(preset, *overrides)
    advised = cures(line)
    assert len(advised) >= 1, line
    for each in advised:
        join(preset, *overrides, *each)


@pytest.mark.parametrize("kind", ["a slot each", "own bands"])
def test_or_more_is_written_where_more_power_cannot_cost_time(kind):
    preset, overrides = FALL_APART[kind]
    overrides = [*overrides, "devices=10"]
    keys, value = re.findall(
        r"(channel\.max_power_w\S*(?: and \S+)?) to (\S+) or more", problem(preset, *overrides)
    )[0]
    for factor in (1.3, 3.0, 10.0, 1e3):
        join(preset, *overrides, *(f"{key}={factor * float(value)}" for key in keys.split(" and ")))


def test_or_more_is_not_written_where_more_power_may_cost_slots():
    preset, overrides = FALL_APART["shared slots"]
    line = problem(preset, *overrides, "devices=10")
    assert "channel.max_power_w and channel.power.power_w to " in line
    assert " or more" not in line


def test_where_there_is_no_path_nothing_helps():
    line = problem("paper", "devices=2", "channel.path_loss.exponent=200")
    assert line.endswith("the best link between them, 0 -> 1, has no path at all (gain 0)")


def test_where_one_device_has_no_path_no_setting_is_advised(tmp_path):
    """The best link could be mended, but that would not connect all."""
    gains = tmp_path / "gains.csv"
    gains.write_text("time_s,first,second,gain_db\n0,0,1,-150\n0,0,2,-inf\n0,1,2,-inf\n")
    line = problem("paper", "devices=3", f"channel.gain={{kind: file, path: {gains}}}")
    assert "the best link between them, 0 -> 1, carries" in line
    assert line.endswith(
        "no deadline, band or power alone connects all: wanted devices in other places"
    )


def test_a_rate_that_no_power_changes_asks_for_time_only():
    line = problem("lossy_link", "devices=2", "channel.deadline_s=1e-6")
    assert line.endswith("to connect all, set channel.deadline_s to 0.00121 or more")


def test_check_finds_islands_before_anything_is_loaded(tmp_path):
    scenario = tmp_path / "apart.yaml"
    text = "name: apart\ndevices: 2\nchannel: paper\ntasks: {names: [reverse]}\n"
    scenario.write_text(text)
    asked = ["check", str(scenario), "channel.deadline_s=1e-9"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 2
    assert "2 islands" in result.stderr
    assert "channel.deadline_s to" in result.stderr
    assert CliRunner().invoke(app, [*asked, "method.kind=local"]).exit_code == 0


def test_the_power_of_a_users_own_channel_is_named_without_keys():
    scenario = read_preset("paper", ["devices=2", "channel.max_power_w=1e-9"]).scenario
    channel, access = scenario.bind_channel()
    protocol_only = OwnChannel(channel)
    with pytest.raises(ScenarioError, match=r"the power of each device to \S+ or more \("):
        require_connected(Reach(protocol_only, access, scenario.access, scenario.seed))


def test_a_users_own_channel_may_name_the_keys_of_its_power():
    scenario = read_preset("paper", ["devices=2", "channel.max_power_w=1e-9"]).scenario
    channel, access = scenario.bind_channel()
    own = OwnChannel(channel)
    own.power_keys = lambda power_w: ["channel.amplifier_w"] if power_w > 1e-9 else []
    with pytest.raises(ScenarioError, match=r"or channel.amplifier_w to \S+ or more \("):
        require_connected(Reach(own, access, scenario.access, scenario.seed))


class OwnChannel:
    """A channel with the members of the protocol only."""

    def __init__(self, channel):
        self.max_power_w = channel.max_power_w
        self.deadline_s = channel.deadline_s
        self.at = channel.at
