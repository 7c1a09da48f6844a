"""Link budgets against sums by hand: nothing here may depend on the code that it tests."""

import math

import numpy as np
import pytest
from rich.console import Console

from emulator.analysis.channel.link_budget import (
    MeanLinks,
    Occasion,
    build_link_report,
    compute_link_budget,
    list_links,
)
from emulator.core.errors import ScenarioError
from emulator.scenario.load import preset_names, read_preset

LOG2 = math.log(2.0)
PLAIN = """
devices: {devices}
tasks: {{names: [reverse]}}
channel:
  kind: wireless
  placement: {{kind: fixed, positions_m: {positions}}}
  path_loss: {{kind: power_law, gain_at_1m: 1.0e-4, exponent: 2.0}}
  {more}
access: {access}
"""
FIXED = "power: {kind: fixed, power_w: 0.1}"
OFDMA = "{kind: ofdma, bandwidth_hz: 1.0e+6}"


@pytest.fixture
def budget(read):
    """The budget of all links of devices at given places, with the defaults of `Wireless`."""

    def made(positions, more=FIXED, access=OFDMA, occasion=None):
        text = PLAIN.format(devices=len(positions), positions=positions, more=more, access=access)
        links = MeanLinks(read(text).scenario, occasion or Occasion())
        return compute_link_budget(links, list_links(links))

    return made


def shown(scenario, occasion=None, extent="readable"):
    """What is printed, its spaces evened out."""
    console = Console(width=160)
    with console.capture() as capture:
        console.print(build_link_report(scenario, occasion or Occasion(), extent))
    return " ".join(capture.get().split())


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────


def test_two_devices_at_100_m(budget):
    found = budget([[0, 0], [60, 80]], f"{FIXED}\n  losses: {{kind: bernoulli, probability: 0.05}}")
    (line,) = found.lines
    assert (line.sender, line.receiver, line.line_of_sight) == (0, 1, True)
    assert line.distance_m == pytest.approx(100.0)
    assert line.path_loss_db == pytest.approx(40.0 + 20.0 * 2.0)
    assert line.shadowing_db is None
    assert line.power_dbm == pytest.approx(20.0)
    assert found.noise_dbm == pytest.approx(-174.0 + 60.0)
    assert line.snr_db == pytest.approx(20.0 - 80.0 + 114.0)
    rate = 1e6 * math.log1p(10**5.4) / LOG2
    assert line.bit_per_s == pytest.approx(rate)
    assert line.loss == 0.05
    assert line.message_s == pytest.approx(8 * 6400 / rate)
    assert not line.above_limit
    assert found.in_range_MM.tolist() == [[False, True], [True, False]]


def test_neighbours_share_band_and_power(budget):
    alone = budget([[0, 0], [100, 0], [0, 100]]).lines[0]
    two = budget([[0, 0], [100, 0], [0, 100]], occasion=Occasion(neighbours=2)).lines[0]
    assert two.power_dbm == pytest.approx(alone.power_dbm - 10 * math.log10(2.0))
    assert two.snr_db == pytest.approx(alone.snr_db)
    assert two.bit_per_s == pytest.approx(alone.bit_per_s / 2.0)


@pytest.mark.parametrize("num_bytes", [250_000, 3_000_000])
def test_least_power_is_what_eq_25_asks_for(budget, num_bytes):
    found = budget(
        [[0, 0], [100, 0]], "max_power_w: 0.2", occasion=Occasion(message_bytes=num_bytes)
    )
    (line,) = found.lines
    efficiency = 8 * num_bytes / 1.0 / 1e6
    needed_dbm = 10 * math.log10(2.0**efficiency - 1.0) - 114.0 + 80.0
    limit_dbm = 10 * math.log10(200.0)
    assert found.least_power
    assert line.power_dbm == pytest.approx(needed_dbm)
    assert line.above_limit == (needed_dbm > limit_dbm) == (num_bytes == 3_000_000)
    used_dbm = min(needed_dbm, limit_dbm)
    assert line.snr_db == pytest.approx(used_dbm - 80.0 + 114.0)
    if line.above_limit:
        assert line.message_s > found.deadline_s
    else:
        assert line.message_s == pytest.approx(found.deadline_s)


def test_slots_stretch_a_message(budget):
    access = "{kind: tdma, bandwidth_hz: 1.0e+6, slot_s: 0.01, reuse: none}"
    rate = f"{FIXED}\n  rate: {{kind: fixed, link_bit_per_s: 1.0e+6}}"
    found = budget([[0, 0], [100, 0], [0, 100]], rate, access, Occasion(message_bytes=3125))
    # 25 kbit: two slots of 10 kbit, 30 ms apart, and half a third one.
    assert [line.message_s for line in found.lines] == pytest.approx([0.065] * 3)
    assert found.slot_of == (0, 1, 2)
    assert len(found.lines) == found.pairs == 3


def test_collisions_stretch_a_message(budget):
    access = "{kind: aloha, bandwidth_hz: 1.0e+6, slot_s: 0.01, send_probability: 0.25}"
    rate = f"{FIXED}\n  rate: {{kind: fixed, link_bit_per_s: 1.0e+6}}"
    places = [[0, 0], [100, 0], [0, 100], [100, 100]]
    found = budget(places, rate, access, Occasion(message_bytes=1_250_000))
    # 10 Mbit: 1000 slots that carry, of which there are p (1-p)^3; standard deviation below 4 %.
    expected_s = 1000 * 0.01 / (0.25 * 0.75**3)
    assert [line.message_s for line in found.lines] == pytest.approx([expected_s] * 6, rel=0.12)
    assert found.access == "aloha, unicast, sends with 0.25; at least 0.11 of the slots carry"
    assert found.slot_of is None
    assert found.in_range_MM.sum() == 12


def test_devices_that_share_a_slot_interfere(budget):
    """Two pairs far apart: 0 and 2 (or 1 and 3) are at once on the air, at full power."""
    places = [[0, 0], [10, 0], [2000, 0], [2010, 0]]
    more = f"{FIXED}\n  rate: {{kind: shannon}}\n  deadline_s: 0.001"
    found = budget(places, more, "{kind: tdma, bandwidth_hz: 1.0e+6, reuse: distance_2}")
    assert len(found.lines) == found.pairs == 12
    assert len(set(found.slot_of)) == 2
    (line,) = [x for x in found.lines if (x.sender, x.receiver) == (0, 1)]
    (other,) = (i for i in (2, 3) if found.slot_of[i] == found.slot_of[0])
    apart_m = places[other][0] - 10
    noise_w = 10 ** (-114.0 / 10.0 - 3.0)
    interference_w = 0.1 * 1e-4 / apart_m**2
    assert line.snr_db == pytest.approx(
        10 * math.log10(0.1 * 1e-4 / 10**2 / (noise_w + interference_w))
    )


def test_a_cqi_link_loses_packets_of_many_code_blocks(budget):
    more = f"{FIXED}\n  rate: {{kind: nr_cqi}}\n  losses: {{kind: logistic}}"
    (line,) = budget([[0, 0], [15000, 0]], more).lines
    assert line.snr_db == pytest.approx(20.0 - 40.0 - 20 * math.log10(15000.0) + 114.0)
    # 10.48 dB: CQI 10 (2.7305 bit/s/Hz) from 9.81 dB on, of 86 % of 0.8904 resource elements /s/Hz.
    assert line.bit_per_s == pytest.approx(2.7305e6 * 0.86 * 0.8904)
    block_loss = 1.0 / (1.0 + 9.0 * math.exp(5.0 * (line.snr_db - 9.81)))
    assert line.loss == pytest.approx(1.0 - (1.0 - block_loss) ** (12_000 / 1024), rel=1e-6)


def test_an_outage_and_a_burst_have_their_mean_loss(budget):
    outage = f"{FIXED}\n  fading: {{kind: none}}\n  losses: {{kind: outage, threshold_db: 20.0}}"
    (line,) = budget([[0, 0], [100, 0]], outage).lines
    assert line.loss == pytest.approx(1.0 - math.exp(-(10 ** (2.0 - 5.4))))
    burst = "losses: {kind: gilbert_elliott, p: 0.01, r: 0.25, k: 0.99, h: 0.2}"
    (line,) = budget([[0, 0], [100, 0]], f"{FIXED}\n  {burst}").lines
    assert line.loss == pytest.approx((0.25 * 0.01 + 0.01 * 0.8) / 0.26)


def test_a_link_below_the_first_cqi_never_ends(budget):
    (line,) = budget([[0, 0], [1e6, 0]], f"{FIXED}\n  rate: {{kind: nr_cqi}}").lines
    assert (line.bit_per_s, line.message_s) == (0.0, math.inf)


def test_a_broadcast_needs_all_of_the_band_whatever_the_neighbours(budget):
    access = "{kind: ofdma, bandwidth_hz: 1.0e+6, cast: broadcast}"
    places = [[0, 0], [100, 0], [0, 100]]
    one, two = (budget(places, FIXED, access, Occasion(neighbours=n)).lines[0] for n in (1, 2))
    assert one == two
    assert one.power_dbm == pytest.approx(20.0)


# ── where the parts come from ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("at_s", [0.0, 130.5])
def test_the_parts_of_a_loss_add_up_to_the_gain_of_a_run(at_s):
    walk = "channel.mobility={kind: random_waypoint, min_speed_m_per_s: 1, max_speed_m_per_s: 2}"
    scenario = read_preset("indoor_office", ["devices=6", walk]).scenario
    links = MeanLinks(scenario, Occasion(at_s))
    found = compute_link_budget(links, list_links(links))
    run = scenario.channel.bind(6, scenario.seed).at(at_s)
    for line in found.lines:
        loss_db = line.path_loss_db + line.shadowing_db
        assert -10 * math.log10(run.mean_gain[line.sender, line.receiver]) == pytest.approx(loss_db)
        apart_m = math.dist(run.positions_m[line.sender], run.positions_m[line.receiver])
        assert line.distance_m == pytest.approx(apart_m)
        assert line.snr_db == pytest.approx(20.0 - loss_db + 174.0 - 10 * math.log10(2e7) - 7.0)
    assert len({line.line_of_sight for line in found.lines}) == 2


def test_gains_from_a_file_have_no_distance(read, tmp_path):
    (tmp_path / "gains.csv").write_text("time_s,first,second,gain_db\n0,0,1,-75\n")
    text = PLAIN.format(
        devices=2,
        positions=[[0, 0], [9, 9]],
        more=f"{FIXED}\n  gain: {{kind: file, path: gains.csv}}",
        access=OFDMA,
    )
    links = MeanLinks(read(text).scenario, Occasion())
    (line,) = compute_link_budget(links, list_links(links)).lines
    assert (line.distance_m, line.line_of_sight, line.shadowing_db) == (None, None, None)
    assert line.path_loss_db == pytest.approx(75.0)


def test_of_many_devices_the_nearest_are_shown_and_the_rest_is_counted():
    scenario = read_preset("paper", ["devices=15"]).scenario
    text = shown(scenario)
    assert "45 of 105 links, the nearest of each device; --all shows all" in text
    whole = shown(scenario, extent="all")
    assert "nearest" not in whole
    places = scenario.channel.placement.place(15, scenario.seed)
    apart_m = np.hypot(*(places[7] - places).T)
    for j in np.argsort(apart_m)[1:4]:
        assert f" 7 {j} {apart_m[j]:.1f} yes " in text


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_shown(name):
    text = shown(read_preset(name).scenario)
    if name == "ideal":
        assert text.endswith("there is nothing to show")
    else:
        assert "[bit/s] a try [s]" in text  # the second line of the headings
        assert "access" in text
        assert "…" not in text


def test_no_digit_is_cut_where_there_is_little_room():
    console = Console(width=60)
    with console.capture() as capture:
        scenario = read_preset("indoor_office", ["devices=2"]).scenario
        console.print(build_link_report(scenario, Occasion(), "all"))
    assert "…" not in capture.get()


def test_islands_are_named():
    wide = ["channel.placement.width_m=3500", "channel.placement.height_m=3500", "devices=3"]
    text = shown(read_preset("urban_sidelink", wide).scenario)
    assert "in range 0: none; 1: none; 2: none" in text
    assert "islands 3: 0; 1; 2" in text
    assert "to join the best link between them, " in text
    assert "one slot 0 and 1, 0 and 2, 1 and 2 share one, being out of range at the start" in text


@pytest.mark.parametrize(("at_s", "shown_away"), [(0.0, False), (5.0, True), (9.0, False)])
def test_devices_that_are_offline_are_named(at_s, shown_away):
    offline = "channel.offline=[{device: 2, from_s: 5.0, to_s: 9.0}]"
    text = shown(read_preset("paper", [offline]).scenario, Occasion(at_s))
    assert ("away 2; messages from and to them wait" in text) == shown_away


# ── wrong input ──────────────────────────────────────────────────────────────────────────────────


def test_impossible_occasions_are_reported_all_at_once():
    with pytest.raises(ScenarioError) as caught:
        shown(read_preset("paper", ["devices=4"]).scenario, Occasion(-1.0, 0, 4))
    assert caught.value.problems == (
        "--at: got -1, wanted a time of 0 s or more",
        "--bytes: got 0, wanted 1 or more",
        "--neighbours: got 4, wanted 1 to 3 of 4 devices",
    )


def test_another_channel_has_no_parts_to_show():
    scenario = read_preset("paper").scenario.model_copy(update={"channel": object()})
    with pytest.raises(ScenarioError, match=r"channel\.kind: got object, wanted wireless"):
        shown(scenario)
