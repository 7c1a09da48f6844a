"""Numbers that parsers read differently, and numbers beyond the range of floats."""

import pytest

MISREAD = {
    "an endless rate": ("method: {learning_rate: .inf}", "method.learning_rate: got inf, wanted a"),
    "minus endless": ("local: {compute_power_w: -.inf}", "local.compute_power_w: got -inf, wanted a"),
    "no number": ("local: {step_s: .nan}", "local.step_s: got nan, wanted a number"),
    "endless as text": ("method: {learning_rate: inf}", "method.learning_rate: got inf, wanted"),
    "endless in a list": ("local: {speeds: [1.0, .inf]}", "local.speeds.1: got inf, wanted"),
    "endless in the channel": ("channel: {preset: paper, deadline_s: .inf}", "channel.deadline_s: got"),
    "endless in the access": (
        "channel: paper\naccess: {kind: ofdma, bandwidth_hz: .inf}", "access.bandwidth_hz: got inf"),
    "a word for a whole number": ("rounds: true", "rounds: got true, wanted a number"),
    "a word for a number": ("local: {step_s: true}", "local.step_s: got true, wanted a number"),
    "yes for a number": ("rounds: yes", "rounds: got 'yes', wanted a whole number"),
    "underscores in quotes": ("devices: '1_0'", "devices: got '1_0', wanted a number in plain decimal"),
    "a zero in front, in quotes": ("seed: '010'", "seed: got '010', wanted a whole number in plain"),
    "other digits": ("seed: \u0663", "seed: got '\u0663', wanted a"),
    "decibels": (
        "channel: {preset: paper, rate: {kind: shannon, gap_db: 1.0e+23}}",
        "channel.rate.gap_db: got 1e+23, wanted a number of dB from -1000 to 1000",
    ),
    "decibels below": (
        "channel: {preset: paper, losses: {kind: outage, threshold_db: -1.0e+9}, fading: {kind: none}}",
        "channel.losses.threshold_db: got -1e+09, wanted a number of dB from -1000 to 1000",
    ),
    "a place": (
        "devices: 2\ntasks: {names: [sort, reverse]}\n"
        "channel: {preset: paper, placement: {kind: fixed, positions_m: [[0, 0], [1.0e+308, 0]]}}",
        "channel.placement.positions_m.1.0: got 1e+308, wanted a magnitude of at most 1e+30",
    ),
    "a band": (
        "channel: paper\naccess: {kind: ofdma, bandwidth_hz: 1.0e-300}",
        "access.bandwidth_hz: got 1e-300, wanted at least 1e-30",
    ),
    "a speed": (
        "channel: {preset: paper, mobility: {kind: random_waypoint, min_speed_m_per_s: 1, "
        "max_speed_m_per_s: 1.0e+9}}",
        "channel.mobility.max_speed_m_per_s: got 1000000000.0, wanted a number in (0, 10000]",
    ),
    "a whole number": (f"rounds: 1{'0' * 30}", "rounds: got 1000000000000000000000000000000, wanted a"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line"), MISREAD.values(), ids=MISREAD)
def test_a_number_is_what_it_looks_like_and_within_bounds(problems, text, line):
    (problem,) = problems(text)
    assert problem.startswith(f"s.yaml: {line}")


@pytest.mark.parametrize("value", [".inf", "inf", ".nan", "true", "'1_0'", "1.0e+40"])
def test_an_override_is_held_to_the_same(problems, value):
    (problem,) = problems("", f"local.step_s={value}")
    assert problem.startswith("s.yaml: local.step_s: got ")


@pytest.mark.parametrize(("text", "rounds"), [("0x1F", 31), ("'12'", 12), ("+4", 4)])
def test_what_is_written_plainly_is_taken(read, text, rounds):
    assert read(f"rounds: {text}").scenario.rounds == rounds


def test_numbers_with_exponents_and_words_for_a_choice_are_taken(read):
    text = "local: {step_s: 1e-3, gradient_checkpointing: yes}\nmethod: {learning_rate: '5e-4'}"
    scenario = read(text).scenario
    assert (scenario.local.step_s, scenario.local.gradient_checkpointing) == (1e-3, True)
    assert scenario.method.learning_rate == 5e-4


def test_yes_and_no_are_text_where_text_is_wanted(read):
    assert read("name: no").scenario.name == "no"
