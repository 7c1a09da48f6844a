"""Links without a path: at a gain of exactly 0, no power and no rate law carries any bit."""

import math

import numpy as np
import pytest
from rich.console import Console

from emulator.analysis.channel.link_budget import Occasion, build_link_report
from emulator.analysis.channel.plots import draw_channel_figures
from emulator.core.types.transmission import Request
from emulator.core.units import db_from_linear, dbm_from_watts, gain_from_path_loss
from emulator.network.channel.access import OfdmaAccess
from emulator.network.channel.cqi import NrCqiRate
from emulator.network.channel.energy import FixedPower, LeastPower
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import PowerLawPathLoss
from emulator.network.channel.placement import FixedPlacement
from emulator.network.channel.rates import FixedRate, ShannonRate
from emulator.scenario.load import read_preset

BAND_HZ = 1e6
LAWS = [
    (FixedRate(link_bit_per_s=1e6), FixedPower(power_w=0.1)),
    (ShannonRate(), FixedPower(power_w=0.1)),
    (ShannonRate(), LeastPower()),
    (NrCqiRate(), FixedPower(power_w=0.1)),
]


def bound(rate, power):
    """Devices 0 and 1 near each other, 2 without a path to them."""
    return Wireless(
        placement=FixedPlacement(positions_m=((0.0, 0.0), (1.1, 0.0), (500.0, 0.0))),
        path_loss=PowerLawPathLoss(exponent=200.0),
        rate=rate,
        power=power,
        max_power_w=1.0,
    ).bind(3, seed=1)


def test_a_loss_of_more_than_300_db_is_no_path():
    gains = gain_from_path_loss(np.array([300.0, 300.1, math.inf]))
    assert gains.tolist() == [pytest.approx(1e-30), 0.0, 0.0]
    assert db_from_linear(0.0) == dbm_from_watts(0.0) == -math.inf


@pytest.mark.parametrize(("rate", "power"), LAWS)
def test_a_device_without_a_path_is_out_of_range(rate, power):
    snapshot = bound(rate, power).at(0.0)
    assert snapshot.mean_gain[0, 1] > 0.0
    assert snapshot.mean_gain[:, 2].tolist() == [0.0, 0.0, 0.0]
    needed_MM = snapshot.required_power_w(1500, BAND_HZ, 1.0)
    assert np.isposinf(needed_MM[2, :2]).all()
    assert snapshot.in_range(BAND_HZ, 1.0).sum(axis=1).tolist() == [1, 1, 0]


@pytest.mark.parametrize(("rate", "power"), LAWS[1:])
def test_a_grant_without_a_path_has_all_the_power_and_no_snr(rate, power):
    channel, requests = bound(rate, power), [Request(0, (2,), 1500, 0.0, 0)]
    (grant,) = channel.set_powers(OfdmaAccess(bandwidth_hz=BAND_HZ).plan(requests), requests)
    assert channel.log_needed_w(grant, 1500) == math.inf
    assert grant.tx_power_w == pytest.approx(0.1 if isinstance(power, FixedPower) else 1.0)
    assert channel.signal.snr(grant, 0).tolist() == [0.0]


@pytest.fixture(params=["paper", "indoor_office", "lossy_link"])
def without_a_path(request, tmp_path):
    """A preset with gains from a file: devices 0 and 1 have a path, 2 has none to either."""
    (tmp_path / "gains.csv").write_text(
        "time_s,first,second,gain_db\n0,0,1,-75\n0,0,2,-9999\n0,1,2,-301\n"
    )
    gain = f"channel.gain={{kind: file, path: {tmp_path / 'gains.csv'}}}"
    return read_preset(request.param, ["devices=3", gain]).scenario


def test_no_path_is_shown_as_such(without_a_path):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(build_link_report(without_a_path, Occasion(), "all"))
    text = " ".join(capture.get().split())
    assert "0 1 - - 75.0 " in text
    assert "0 2 - - no path" in text
    assert "1 2 - - no path" in text
    assert "islands 2: 0, 1; 2" in text
    assert "has no path at all (gain 0)" in text
    assert "inf" not in text


def test_figures_are_drawn_of_what_has_a_path(without_a_path, monkeypatch):
    monkeypatch.setattr("emulator.analysis.channel.plots.DENSITIES", (0.1, 0.5))
    monkeypatch.setattr("emulator.analysis.channel.plots.MASK_SIZE", 1 << 12)
    monkeypatch.setattr("emulator.analysis.channel.plots.DRAWS", 20)
    figures = draw_channel_figures(without_a_path)
    assert "mask_bits" in {picture.name for picture in figures.pictures}
    if without_a_path.channel.fading.kind != "none":
        assert "rate_cdf: half of the links and more have no path" in figures.left_out
