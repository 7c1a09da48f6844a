"""Consistency of the parts of a channel: contradictions, doubts, and parts that fit."""

import warnings

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from emulator.core.errors import ScenarioError
from emulator.network.channel.consistency import CARRIER_KINDS
from emulator.network.channel.fading import COHERENCE_CYCLES, RayleighFading
from emulator.network.channel.line_of_sight import InfLineOfSight, UmaLineOfSight, UmiLineOfSight
from emulator.network.channel.mobility import RandomWaypoint
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import FreeSpacePathLoss, Macro128PathLoss
from emulator.network.channel.pathloss_base import ValidityWarning
from emulator.network.channel.tr37885 import SidelinkHighwayPathLoss, SidelinkUrbanPathLoss
from emulator.network.channel.tr38901 import InfPathLoss, InhPathLoss, UmaPathLoss, UmiPathLoss
from emulator.scenario.load import dump_scenario, preset_names, read_preset, read_scenario

TWO = "devices=2"
FAR = "channel.placement={kind: fixed, positions_m: [[0, 0], [66000, 0]]}"


def notes(preset, *overrides):
    return read_preset(preset, [TWO, *overrides]).notes


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_fits_together(name):
    assert read_preset(name).notes == ()


# ── one carrier ──────────────────────────────────────────────────────────────────────────────────


def test_the_carrier_of_a_channel_is_that_of_all_its_parts():
    channel = read_preset("urban_sidelink", [TWO, "channel.fc_ghz=28"]).scenario.channel
    assert (channel.path_loss.fc_ghz, channel.fading.fc_ghz) == (28.0, 28.0)
    at_5_9 = read_preset("urban_sidelink").scenario.channel
    assert channel.fading.block_s == pytest.approx(at_5_9.fading.block_s * 5.9 / 28.0)


def test_two_carriers_are_refused_with_both_named():
    with pytest.raises(ScenarioError) as caught:
        read_preset("urban_sidelink", [TWO, "channel.path_loss.fc_ghz=28"])
    assert caught.value.problems == (
        "urban_sidelink: channel.fading.fc_ghz: got 5.9 with path_loss.fc_ghz 28, wanted one carrier "
        "(channel.fc_ghz is that of every part which states none)",
    )


def test_each_part_may_still_state_its_own_carrier():
    parts = ["channel.path_loss.fc_ghz=28", "channel.fading.fc_ghz=28"]
    (note,) = notes("urban_sidelink", *parts)
    assert note.startswith("channel.fc_ghz: 5.9 changes nothing: path_loss.fc_ghz is 28, fading")
    model = Wireless(
        path_loss=UmiPathLoss(fc_ghz=28.0), fading=RayleighFading(speed_mps=1.0, fc_ghz=28.0)
    )
    assert model.fc_ghz is None
    assert model.doubts(1e6) == []


def test_a_carrier_that_no_part_needs_is_noted():
    assert notes("paper", "channel.fc_ghz=28") == (
        "channel.fc_ghz: 28 changes nothing: no part of this channel has a carrier",
    )


def test_a_carrier_is_given_to_every_kind_that_has_one_and_to_no_other():
    assert CARRIER_KINDS["path_loss"] == {
        "free_space", "umi", "uma", "inh", "inf", "sidelink_urban", "sidelink_highway",
    }  # fmt: skip
    assert CARRIER_KINDS["fading"] == {"rayleigh", "rician"}
    plain = Wireless.model_validate({"fc_ghz": 2.4, "fading": {"kind": "rayleigh"}})
    assert plain.fading.fc_ghz is None  # no speed, so no use of a carrier


def test_a_scenario_with_one_carrier_reads_back_to_itself(tmp_path):
    scenario = read_preset("urban_sidelink").scenario
    written = tmp_path / "scenario.yaml"
    written.write_text(dump_scenario(scenario))
    assert read_scenario(written).scenario == scenario
    assert yaml.safe_load(written.read_text())["channel"]["path_loss"]["fc_ghz"] == 5.9


@pytest.mark.parametrize("wrong", ["fast", -1, 0, ".nan"])
def test_a_carrier_that_is_none_is_reported_once(wrong):
    with pytest.raises(ScenarioError) as caught:
        read_preset("urban_sidelink", [TWO, f"channel.fc_ghz={wrong}"])
    assert caught.value.problems[0].startswith("urban_sidelink: channel.fc_ghz: got ")


def test_a_band_wider_than_twice_its_carrier_is_refused():
    with pytest.raises(
        ScenarioError, match=r"access\.bandwidth_hz: got 2e\+10 around a carrier of 5"
    ):
        read_preset("urban_sidelink", [TWO, "access.bandwidth_hz=2e10"])


def test_a_band_wider_than_the_model_allows_is_noted():
    assert notes("indoor_office", "access.bandwidth_hz=6e8") == (
        "access.bandwidth_hz: got 6e+08, channel.path_loss inh is valid up to 5.2e+08 Hz: its loss is "
        "taken all the same",
    )
    assert notes("indoor_office", "access.bandwidth_hz=5e8") == ()


def test_the_overhead_of_fr1_is_noted_in_fr2():
    (note,) = notes("indoor_office", "channel.fc_ghz=60")
    assert note.startswith("channel.rate.overhead: 0.14 is that of carriers up to 7.125 GHz")
    assert notes("indoor_office", "channel.fc_ghz=60", "channel.rate.overhead=0.18") == ()


def test_a_law_of_one_carrier_is_noted_at_another():
    fading = RayleighFading(speed_mps=1.0, fc_ghz=5.9)
    (note,) = Wireless(path_loss=Macro128PathLoss(), fading=fading).doubts(1e6)
    assert note.startswith(
        "channel.path_loss: macro_128 is valid at 2 GHz, got a carrier of 5.9 GHz"
    )
    assert Wireless(path_loss=Macro128PathLoss(), fc_ghz=2.0).doubts(1e6) == [
        "channel.fc_ghz: 2 changes nothing: no part of this channel has a carrier"
    ]


# ── line of sight and path loss ──────────────────────────────────────────────────────────────────


def test_a_line_of_sight_of_other_surroundings_is_noted():
    assert notes("urban_sidelink", "channel.line_of_sight={kind: inh_mixed}") == (
        "channel.line_of_sight: inh_mixed is a law for offices, channel.path_loss sidelink_urban is one "
        "for streets: their states differ",
    )


@pytest.mark.parametrize(
    ("path_loss", "fits"),
    [
        (UmiPathLoss(fc_ghz=3.5), True),
        (SidelinkUrbanPathLoss(fc_ghz=5.9), True),
        (SidelinkHighwayPathLoss(fc_ghz=5.9), False),
        (UmaPathLoss(fc_ghz=3.5), False),
        (InhPathLoss(fc_ghz=3.5), False),
        (FreeSpacePathLoss(fc_ghz=3.5), False),
    ],
)
def test_street_states_fit_streets(path_loss, fits):
    doubts = Wireless(path_loss=path_loss, line_of_sight=UmiLineOfSight()).doubts(1e6)
    assert (
        [line.split(" is ")[0] for line in doubts] == [] if fits else ["channel.line_of_sight: umi"]
    )


def test_states_that_change_nothing_are_noted():
    (note,) = notes("paper", "channel.line_of_sight={kind: umi}")
    assert note.endswith("channel.path_loss power_law is the same with and without line of sight")


def test_an_antenna_has_one_height_and_a_factory_one_clutter():
    with pytest.raises(
        ValidationError, match=r"line_of_sight\.h_ut_m: got 1\.5 with path_loss\.h_ut"
    ):
        Wireless(path_loss=UmaPathLoss(fc_ghz=2.0, h_ut_m=10.0), line_of_sight=UmaLineOfSight())
    with pytest.raises(ValidationError) as caught:
        Wireless(
            path_loss=InfPathLoss(fc_ghz=2.0, variant="sl"),
            line_of_sight=InfLineOfSight(variant="dh"),
        )
    text = str(caught.value)
    assert "line_of_sight.variant: got dh with path_loss.variant sl, wanted the same" in text
    assert "line_of_sight.h_bs_m: got 8.0 with path_loss.h_bs_m 1.5, wanted the same" in text
    Wireless(path_loss=UmaPathLoss(fc_ghz=2.0), line_of_sight=UmaLineOfSight())


# ── speed ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("speed_mps", "fits"), [(0.9, False), (1.0, True), (4.0, True), (4.1, False)]
)
def test_fading_is_as_fast_as_two_devices_can_move(speed_mps, fits):
    model = Wireless(
        mobility=RandomWaypoint(min_speed_m_per_s=1.0, max_speed_m_per_s=2.0),
        fading=RayleighFading(speed_mps=speed_mps, fc_ghz=5.9),
    )
    assert len(model.doubts(1e6)) == (0 if fits else 1)


def test_a_coherence_stands_for_a_speed_where_there_is_a_carrier():
    walk = RandomWaypoint(min_speed_m_per_s=1.0, max_speed_m_per_s=2.0)
    (note,) = Wireless(path_loss=InhPathLoss(fc_ghz=5.2), mobility=walk).doubts(1e6)
    speed_mps = COHERENCE_CYCLES * 299_792_458.0 / 5.2e9
    assert f"one draw holds 1 s, as at {speed_mps:.3g} m/s, where channel.mobility moves" in note
    assert note.endswith("wanted a speed_mps of 1 to 4")
    assert Wireless(mobility=walk).doubts(1e6) == []  # the paper's law has no carrier


# ── ranges ───────────────────────────────────────────────────────────────────────────────────────


def test_a_carrier_beyond_the_sidelink_model_counts_as_the_nearest():
    channel = read_preset("urban_sidelink", [TWO, "channel.fc_ghz=1000"]).scenario.channel
    with pytest.warns(
        ValidityWarning, match="sidelink_urban: fc_ghz: got 1000, wanted 0.5 to 100;"
    ):
        beyond = channel.bind(2, 1).gain_at_start
    nearest = read_preset("urban_sidelink", [TWO, "channel.fc_ghz=100"]).scenario.channel
    assert np.array_equal(beyond, nearest.bind(2, 1).gain_at_start)


def test_a_sidelink_of_66_km_is_noted_and_its_formula_goes_on():
    channel = read_preset(
        "urban_sidelink", [TWO, FAR, "channel.shadowing.kind=none"]
    ).scenario.channel
    with pytest.warns(
        ValidityWarning, match="distance_3d_m: got 66000, wanted at most 5000; the form"
    ):
        gain = channel.bind(2, 1).gain_at_start[0, 1]
    nlos_db = 36.85 + 30.0 * np.log10(66000.0) + 18.9 * np.log10(5.9)
    assert -10.0 * np.log10(gain) == pytest.approx(nlos_db)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        channel.path_loss.path_loss_db(np.array([66000.0]), np.array([True]))  # reported once


# ── a user's own channel ─────────────────────────────────────────────────────────────────────────


class OwnChannel(Wireless):
    """A user's own channel that reports a doubt."""

    kind: str = "tests.own:OwnChannel"

    def doubts(self, bandwidth_hz):
        return [f"channel: made for 1 kHz, got {bandwidth_hz:g} Hz"]


def test_a_users_own_channel_may_report_doubts(monkeypatch):
    monkeypatch.setattr("emulator.core.plugins.find", lambda path: OwnChannel)
    notes = read_preset("paper", ["channel.kind=tests.own:OwnChannel"]).notes
    assert "channel: made for 1 kHz, got 20000 Hz" in notes
