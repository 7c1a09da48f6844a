"""Files with positions and gains, read whole or refused with a line for every problem."""

import io
import math

import numpy as np
import pytest
from rich.console import Console

from emulator.analysis.channel.link_budget import (
    MeanLinks,
    Occasion,
    compute_link_budget,
    list_links,
)
from emulator.analysis.channel.link_table import build_link_table
from emulator.analysis.channel.plots import draw_channel_figures
from emulator.core.errors import ScenarioError
from emulator.network.channel.access import OfdmaAccess
from emulator.network.channel.csv_table import MOST_PROBLEMS
from emulator.network.channel.gains import FileGain
from emulator.network.channel.model import Wireless
from emulator.network.channel.placement import FilePlacement
from emulator.network.relay_paths import Network
from emulator.scenario.load import read_preset

PLACES = "device,x_m,y_m\n"
GAINS = "time_s,first,second,gain_db\n"


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "table.csv"
        path.write_text(text)
        return path

    return write


# ── positions ────────────────────────────────────────────────────────────────────────────────────


def test_positions_are_read_in_any_order(file):
    path = file(PLACES + "1, 3.5 ,-2\n\n0,0,1e2\n")
    assert FilePlacement(path=path).place(2, seed=9).tolist() == [[0.0, 100.0], [3.5, -2.0]]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["table.csv:1: got nothing, wanted the header device,x_m,y_m"]),
        ("id,x,y\n", ["table.csv:1: got id,x,y, wanted the header device,x_m,y_m"]),
        (
            PLACES + "0,1\n1,a,2\n1.5,1,2\n2,nan,inf\n",
            [
                "table.csv:2: got 2 values, wanted 3: device,x_m,y_m",
                "table.csv:3: x_m: got 'a', wanted a finite number",
                "table.csv:4: device: got '1.5', wanted a whole number",
                "table.csv:5: x_m: got 'nan', wanted a finite number",
            ],
        ),
        (
            PLACES + "0,1,1\n0,2,2\n3,1,1\n-1,1,1\n",
            [
                "table.csv:3: device: got 0 twice, wanted one row a device",
                "table.csv:4: device: got 3, wanted one of 3, counted from 0",
                "table.csv:5: device: got -1, wanted one of 3, counted from 0",
                "table.csv: got no row for device 1, wanted one",
                "table.csv: got no row for device 2, wanted one",
            ],
        ),
    ],
)
def test_wrong_positions_are_refused_line_by_line(file, text, problems):
    with pytest.raises(ScenarioError) as error:
        FilePlacement(path=file(text)).place(3, seed=0)
    assert list(error.value.problems) == problems


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ScenarioError, match=r"channel\.placement\.path: got no file .*x\.csv"):
        FilePlacement(path=tmp_path / "x.csv").place(1, seed=0)
    with pytest.raises(ScenarioError, match=r"channel\.gain\.path: .* cannot be read"):
        FileGain(path=tmp_path).bind(1)


def test_a_long_list_of_problems_is_cut(file):
    with pytest.raises(ScenarioError) as error:
        FilePlacement(path=file(PLACES + "x,0,0\n" * 50)).place(1, seed=0)
    assert len(error.value.problems) == MOST_PROBLEMS + 1
    assert error.value.problems[-1] == "... and 30 more problems"


# ── gains ────────────────────────────────────────────────────────────────────────────────────────


def test_a_gain_holds_from_its_time_to_the_next(file):
    rows = "0,0,1,-80\n0,2,0,-90\n0,1,2,-100\n2.5,0,1,-70\n2.5,1,0,-70\n2.5,0,2,-90\n2.5,1,2,-60\n"
    table = FileGain(path=file(GAINS + rows)).bind(3)
    before = np.array([[0.0, 1e-8, 1e-9], [1e-8, 0.0, 1e-10], [1e-9, 1e-10, 0.0]])
    after = np.array([[0.0, 1e-7, 1e-9], [1e-7, 0.0, 1e-6], [1e-9, 1e-6, 0.0]])
    for time_s, expected in [(0.0, before), (2.49, before), (2.5, after), (1e9, after)]:
        assert table.mean_gain(time_s) == pytest.approx(expected)
        assert table.gain(1, 2, time_s) == table.gain(2, 1, time_s) == table.mean_gain(time_s)[1, 2]
    assert table.moving
    assert not FileGain(path=file(GAINS)).bind(1).moving


def test_gains_that_have_not_changed_are_the_same_array(file):
    """Then paths are computed once for each time of the file, and not at each call."""
    table = FileGain(path=file(GAINS + "0,0,1,-80\n5,0,1,-90\n")).bind(2)
    assert table.mean_gain(0.5) is table.mean_gain(4.9)
    assert table.mean_gain(5.0) is table.mean_gain(77.0)
    assert table.mean_gain(4.9) is not table.mean_gain(5.0)
    channel = Wireless(gain=FileGain(path=file(GAINS + "0,0,1,-80\n5,0,1,-90\n"))).bind(2, seed=0)
    network = Network(channel, OfdmaAccess(bandwidth_hz=1e6))
    assert network.at(0.5) is network.at(4.9)
    assert network.at(4.9) is not network.at(5.0)


@pytest.mark.parametrize(
    ("rows", "problems"),
    [
        ("", ["table.csv: got no rows, wanted a gain for every pair from time_s = 0 on"]),
        (
            "0,0,1,-80\n0,0,2,-80\n5,0,1,-80\n5,0,2,-80\n5,1,2,-80\n",
            ["table.csv: time_s = 0: got no gain for devices 1 and 2"],
        ),
        ("-1,0,1,-80\n", ["table.csv:2: time_s: got -1, wanted 0 or more"]),
        ("3,0,1,-80\n", ["table.csv:2: time_s: got 3 first, wanted 0: a run begins there"]),
        (
            "0,0,1,-80\n9,0,1,-80\n4,0,1,-80\n",
            ["table.csv:4: time_s: got 4 after 9, wanted times in order"],
        ),
        (
            "0,0,1,-80\n0,1,0,-81\n0,0,1,-80\n",
            [
                "table.csv:3: gain_db: got -81, and -80 the other way in line 2, wanted the same "
                "both ways",
                "table.csv:4: got devices 0 and 1 again, wanted one row a time",
            ],
        ),
        (
            "0,0,3,-80\n0,1,1,-80\n0,0,1,80\n",
            [
                "table.csv:2: got devices 0 and 3, wanted two of 3, counted from 0",
                "table.csv:3: got device 1 with itself, wanted two devices",
                "table.csv:4: gain_db: got 80, wanted 0 or less (a loss has the other sign)",
            ],
        ),
    ],
)
def test_wrong_gains_are_refused_line_by_line(file, rows, problems):
    with pytest.raises(ScenarioError) as error:
        FileGain(path=file(GAINS + rows)).bind(3)
    assert list(error.value.problems) == problems


# ── numbers that are none, and pairs without a path ──────────────────────────────────────────────


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("0,1e308,0", "x_m: got 1e+308, wanted a magnitude of at most 1e+30"),
        ("0,1_0,0", "x_m: got '1_0', wanted a finite number"),
        (f"0,{'9' * 5000},0", "x_m: got '9999"),
        (
            "12345678901234567890,0,0",
            "device: got '12345678901234567890', wanted at most 15 digits",
        ),
        (f"{'9' * 5000},0,0", "(5002 characters), wanted at most 15 digits"),
        ("\u0663,0,0", "device: got '\u0663', wanted a whole number"),
        ("1_0,0,0", "device: got '1_0', wanted a whole number"),
    ],
)
def test_an_unusable_number_is_reported_with_its_line(file, row, told):
    with pytest.raises(ScenarioError) as error:
        FilePlacement(path=file(f"{PLACES}{row}\n")).place(1, seed=1)
    assert error.value.problems[0].startswith("table.csv:2: ")
    assert told in error.value.problems[0]
    assert len(error.value.problems[0]) < 400


NO_PATH = ["-inf", "-Infinity", "-INF", "-9999", "-999.0", "-300.1", "-1e9"]


@pytest.mark.parametrize("written", NO_PATH)
def test_no_path_is_a_gain_of_nothing(file, written):
    path = file(f"{GAINS}0,0,1,-60\n0,0,2,{written}\n0,1,2,-300\n")
    gains = FileGain(path=path).bind(3)
    assert gains.gain(0, 2, 0.0) == gains.gain(2, 0, 0.0) == 0.0
    assert gains.gain(0, 1, 0.0) == pytest.approx(1e-6)
    assert gains.gain(1, 2, 0.0) == pytest.approx(1e-30)


@pytest.mark.parametrize("written", ["nan", "inf", "+Infinity", "none", "", "1_0", "0x10"])
def test_a_value_that_is_no_gain_is_refused_with_what_is_wanted(file, written):
    with pytest.raises(ScenarioError) as error:
        FileGain(path=file(f"{GAINS}0,0,1,{written}\n")).bind(2)
    assert error.value.problems == (
        f"table.csv:2: gain_db: got {written!r}, wanted a number of dB, or -inf for no path",
    )


PARTS = [
    ("{kind: shannon}", "{kind: lossless}", "{kind: least_power}", "ofdma"),
    ("{kind: shannon}", "{kind: outage, threshold_db: 3}", "{kind: fixed, power_w: 0.1}", "tdma"),
    ("{kind: nr_cqi}", "{kind: logistic}", "{kind: fixed, power_w: 0.1}", "ofdma"),
    ("{kind: nr_cqi}", "{kind: lossless}", "{kind: least_power}", "aloha"),
    ("{kind: fixed, link_bit_per_s: 1.0e+6}", "{kind: lossless}", "{kind: fixed, power_w: 0.1}", "tdma"),
    ("{kind: trace, path: TRACE}", "{kind: lossless}", "{kind: fixed, power_w: 0.1}", "ofdma"),
]  # fmt: skip
SHARED = {
    "ofdma": "{kind: ofdma, bandwidth_hz: 1.0e+6}",
    "tdma": "{kind: tdma, bandwidth_hz: 1.0e+6, slot_s: 0.01}",
    "aloha": "{kind: aloha, bandwidth_hz: 1.0e+6, slot_s: 0.01, send_probability: 0.3}",
}


@pytest.mark.parametrize(("rate", "losses", "power", "access"), PARTS)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_pair_without_a_path_is_never_in_range_also_in_its_link_budget(
    tmp_path, file, rate, losses, power, access
):
    path = file(f"{GAINS}0,0,1,-60\n0,0,2,-9999\n0,1,2,-70\n")
    (tmp_path / "trace").write_text("1\n")
    told = [f"gain={{kind: file, path: {path}}}", "fading={kind: none}", f"power={power}"]
    told += [f"rate={rate.replace('TRACE', str(tmp_path / 'trace'))}", f"losses={losses}"]
    overrides = ["devices=3", f"access={SHARED[access]}", *(f"channel.{part}" for part in told)]
    scenario = read_preset("paper", overrides).scenario
    links = MeanLinks(scenario, Occasion())
    budget = compute_link_budget(links, list_links(links))
    line = next(line for line in budget.lines if {line.sender, line.receiver} == {0, 2})
    assert (line.path_loss_db, line.bit_per_s, line.message_s) == (math.inf, 0.0, math.inf)
    assert line.snr_db is None
    assert not budget.in_range_MM[0, 2]
    assert budget.in_range_MM[0, 1]
    console = Console(width=150, file=io.StringIO())
    console.print(build_link_table(budget))
    assert "no path" in console.file.getvalue()
    channel, _ = scenario.bind_channel()
    needed_MM = channel.at(0.0).required_power_w(1500, 1e6, 1.0)
    assert needed_MM[0, 2] == math.inf


def test_the_figures_of_a_channel_without_any_path(file, monkeypatch):
    monkeypatch.setattr("emulator.analysis.channel.plots.DENSITIES", (0.5,))
    monkeypatch.setattr("emulator.analysis.channel.plots.MASK_SIZE", 1 << 10)
    path = file(f"{GAINS}0,0,1,-inf\n")
    overrides = ["devices=2", f"channel.gain={{kind: file, path: {path}}}"]
    figures = draw_channel_figures(read_preset("paper", overrides).scenario)
    assert "rate_cdf: half of the links and more have no path" in figures.left_out
