"""Plots of the channel: their data against closed forms."""

import csv
import io
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from emulator.analysis.channel.link_budget import MESSAGE_BYTES
from emulator.analysis.channel.plots import draw_channel_figures, draw_mask_bits, entropy_bits
from emulator.analysis.plotly_page import PLOTLY
from emulator.network.wire import WireFormat
from emulator.scenario.load import preset_names, read_preset

PRESETS = {
    "ideal": {"mask_bits"},
    "lossy_link": {"mask_bits"},
    "wfl_classic": {"path_loss", "spectral_efficiency", "cast_airtime", "mask_bits"},
}
ALL = {"path_loss", "spectral_efficiency", "rate_cdf", "cast_airtime", "mask_bits"}


def data(scenario, name):
    """The rows of one CSV file."""
    (picture,) = [p for p in draw_channel_figures(scenario).pictures if p.name == name]
    text = picture.render()[f"{name}.csv"].decode()
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(autouse=True)
def few_masks(monkeypatch, request):
    """Masks are measured in a test of their own; everywhere else two small ones do."""
    if "measured" not in request.node.name:
        monkeypatch.setattr("emulator.analysis.channel.plots.DENSITIES", (0.1, 0.5))
        monkeypatch.setattr("emulator.analysis.channel.plots.MASK_SIZE", 1 << 12)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_drawn(name):
    scenario = read_preset(name).scenario
    figures = draw_channel_figures(scenario)
    drawn = {picture.name for picture in figures.pictures}
    assert drawn == PRESETS.get(name, ALL)
    assert {line.partition(":")[0] for line in figures.left_out} == ALL - drawn
    for picture in figures.pictures:
        files = picture.render()
        assert set(files) == {f"{picture.name}.html", f"{picture.name}.csv", PLOTLY}
        assert all(len(trace.x) == len(trace.y) > 0 for trace in picture.figure.data)
        assert len(files[f"{picture.name}.csv"].splitlines()) == 1 + len(picture.rows) > 2
    assert draw_channel_figures(scenario) == figures


@pytest.mark.parametrize("access", ["ofdma", "tdma"])
def test_one_broadcast_takes_what_one_unicast_takes(access):
    """At a fixed rate R: devices x neighbours x bits / R against devices x bits / R."""
    overrides = ["channel.rate={kind: fixed, link_bit_per_s: 1.0e+6}", "channel.power={kind: fixed, power_w: 0.1}",
           f"access={{kind: {access}, bandwidth_hz: 1.0e+6}}", "devices=5"]  # fmt: skip
    rows = data(read_preset("paper", overrides).scenario, "cast_airtime")
    assert len(rows) == 2 * 4
    for row in rows:
        neighbours = int(row["neighbours_at_most"])
        assert float(row["density"]) == pytest.approx(neighbours / 4)
        transmissions = 5 * (neighbours if row["cast"] == "unicast" else 1)
        wanted_s = transmissions * 8 * MESSAGE_BYTES / 1e6
        assert float(row["airtime_s"]) == pytest.approx(wanted_s)


@pytest.mark.parametrize(("gap_db", "cap"), [(0.0, None), (3.0, None), (0.0, 3.0)])
def test_rates_under_rayleigh_follow_their_closed_form(gap_db, cap):
    rate = f"channel.rate={{kind: shannon, gap_db: {gap_db}, max_bit_per_s_hz: {cap or 'null'}}}"
    rows = data(read_preset("paper", [rate]).scenario, "rate_cdf")
    rates = np.array([float(row["bit_per_s_hz"]) for row in rows])
    mean_snr = 10 ** (float(rows[0]["mean_snr_db"]) / 10.0)

    def share(r):
        return -np.expm1(-(10 ** (gap_db / 10.0)) * np.expm1(r * math.log(2.0)) / mean_snr)

    below = rates[rates < (cap or math.inf)]
    assert stats.kstest(below, lambda r: share(r) / (share(cap) if cap else 1.0)).pvalue > 1e-3
    closed = np.array([float(row["closed_form"]) for row in rows])
    wanted = np.where(rates < (cap or math.inf), share(rates), 1.0)
    assert closed == pytest.approx(wanted, abs=1e-6)
    if cap:
        capped = stats.binomtest(len(rates) - len(below), len(rates), 1.0 - float(share(cap)))
        assert capped.pvalue > 1e-3


def test_rates_under_rician_follow_theirs():
    fading = "channel.fading={kind: rician, k_db: 6.0}"
    rows = data(read_preset("paper", [fading]).scenario, "rate_cdf")
    mean_snr, steady = 10 ** (float(rows[0]["mean_snr_db"]) / 10.0), 10**0.6
    power = np.array([(2 ** float(row["bit_per_s_hz"]) - 1.0) / mean_snr for row in rows])
    law = stats.ncx2(2, 2 * steady, scale=1.0 / (2 * (steady + 1.0)))
    assert stats.kstest(power, law.cdf).pvalue > 1e-3
    closed = [float(row["closed_form"]) for row in rows]
    assert closed == pytest.approx(law.cdf(power), abs=1e-6)


def test_rates_in_stairs_are_as_frequent_as_their_steps():
    rows = data(read_preset("urban_sidelink").scenario, "rate_cdf")
    mean_snr = 10 ** (float(rows[0]["mean_snr_db"]) / 10.0)
    thresholds_db = [
        -math.inf,
        -8.28,
        -6.28,
        -4.00,
        -1.62,
        0.45,
        2.40,
        4.23,
        6.11,
        8.09,
        9.81,
        11.82,
    ]
    edges = [-math.expm1(-(10 ** (db / 10.0)) / mean_snr) for db in thresholds_db] + [1.0]
    efficiencies = [
        0.0,
        0.1523,
        0.2344,
        0.377,
        0.6016,
        0.877,
        1.1758,
        1.4766,
        1.9141,
        2.4063,
        2.7305,
    ]
    usable = 0.8904 * (1.0 - 0.217)  # the preset's: 106 resource blocks, a sidelink's overhead
    drawn_bit_per_s_hz = [round(float(row["bit_per_s_hz"]) / usable, 6) for row in rows]
    counted = Counter(drawn_bit_per_s_hz)
    steps = [counted[efficiency] for efficiency in efficiencies]
    steps.append(len(rows) - sum(steps))
    assert stats.chisquare(steps, len(rows) * np.diff(edges)).pvalue > 1e-3
    closed = dict(zip(drawn_bit_per_s_hz, (float(row["closed_form"]) for row in rows), strict=True))
    for efficiency, edge in zip(efficiencies, edges[1:], strict=False):
        assert closed.get(efficiency, edge) == pytest.approx(edge, abs=1e-6)


def test_path_loss_is_that_of_the_law_and_of_every_pair():
    scenario = read_preset("paper", ["devices=5"]).scenario
    rows = data(scenario, "path_loss")
    links = [row for row in rows if row["series"] == "link"]
    assert len(links) == 10
    for row in rows:
        wanted = 40.0 + 20.0 * math.log10(float(row["distance_m"]))
        assert float(row["path_loss_db"]) == pytest.approx(wanted)
    places = scenario.channel.placement.place(5, scenario.seed)
    for row in links:
        apart_m = math.dist(places[int(row["first"])], places[int(row["second"])])
        assert float(row["distance_m"]) == pytest.approx(apart_m)


def test_both_states_of_a_path_are_drawn_where_both_occur():
    rows = data(read_preset("urban_sidelink").scenario, "path_loss")
    for state, constant, slope, of_fc in (("1", 38.77, 16.7, 18.2), ("0", 36.85, 30.0, 18.9)):
        curve = [r for r in rows if r["line_of_sight"] == state and r["series"] != "link"]
        assert len(curve) > 100
        for row in curve:
            lg_d = math.log10(float(row["distance_m"]))
            wanted = constant + slope * lg_d + of_fc * math.log10(5.9)
            assert float(row["path_loss_db"]) == pytest.approx(wanted)


def test_spectral_efficiency_is_shannons_with_its_gap_and_stairs():
    rate = "channel.rate={kind: shannon, gap_db: 3.0}"
    rows = data(read_preset("paper", [rate]).scenario, "spectral_efficiency")
    assert {row["series"] for row in rows} == {
        "Shannon",
        "Shannon, gap 3 dB",
        "NR CQI, 14 % overhead",
    }
    for row in rows:
        snr_db, efficiency = float(row["snr_db"]), float(row["bit_per_s_hz"])
        if "NR CQI" not in row["series"]:
            less_db = 3.0 if "gap" in row["series"] else 0.0
            wanted = math.log2(1.0 + 10 ** ((snr_db - less_db) / 10.0))
            assert efficiency == pytest.approx(wanted)
        elif snr_db < -8.28:
            assert efficiency == 0.0
        elif snr_db > 19.82:
            assert efficiency == pytest.approx(5.5547 * 0.8904 * 0.86)


def test_the_measured_codec_stays_near_the_entropy():
    rows = draw_mask_bits(WireFormat(), "x").rows
    assert len(rows) > 20
    for density, bits, entropy in rows:
        assert entropy == pytest.approx(stats.entropy([density, 1.0 - density], base=2))
        if density <= 0.6:
            assert entropy < bits <= 1.043 * entropy
        else:  # the codec codes gaps, not runs: a mask that is nearly full costs a bitmap
            assert bits == pytest.approx(1.0, abs=0.001)


def test_a_bitmap_costs_a_bit():
    rows = draw_mask_bits(WireFormat(mask_codec="bitmap"), "x").rows
    assert [bits for _, bits, _ in rows] == pytest.approx([1.0, 1.0], abs=0.01)


def test_entropy_of_a_coin_is_a_bit():
    assert (entropy_bits(0.5), entropy_bits(1.0), entropy_bits(0.0)) == (1.0, 0.0, 0.0)
