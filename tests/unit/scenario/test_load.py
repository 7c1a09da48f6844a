"""Reading a scenario: every problem is one line with where, got and wanted."""

import re
from pathlib import Path

import pytest

from emulator.core.errors import ScenarioError
from emulator.scenario.load import dump_scenario, read_scenario

ROOT = Path(__file__).resolve().parents[3]

# ── one problem, one line ────────────────────────────────────────────────────────────────────────

WRONG = {
    "misspelt key": ("rouds: 3", "s.yaml: rouds: got an unknown key; did you mean 'rounds'?"),
    "misspelt nested key": (
        "local: {stepss: 3}",
        "s.yaml: local.stepss: got an unknown key; did you mean 'steps'?",
    ),
    "misspelt key of a kind": (
        "method: {kind: sparse_orthogonal, densty: 0.1}",
        "s.yaml: method.densty: got an unknown key; did you mean 'density'?",
    ),
    "a key like no other": (
        "local: {zzz: 3}",
        "s.yaml: local.zzz: got an unknown key, wanted one of steps, batch_size, micro_batch_size, ",
    ),
    "misspelt kind": (
        "method: {kind: sparse_orthogonl}",
        "s.yaml: method.kind: got 'sparse_orthogonl', wanted one of alternating, experts_once",
    ),
    "misspelt kind has a hint": (
        "method: {kind: sparse_orthogonl}",
        "; did you mean 'sparse_orthogonal'?",
    ),
    "misspelt kind deep down": (
        "channel: {preset: paper, fading: {kind: raileigh}}",
        "s.yaml: channel.fading.kind: got 'raileigh', wanted one of none, rayleigh",
    ),
    "a number for a section in a list": (
        "channel: {preset: paper, offline: [3]}",
        "s.yaml: channel.offline.0: got 3, wanted a mapping of device, ",
    ),
    "out of range": (
        "method: {kind: sparse_orthogonal, density: 1.7}",
        "s.yaml: method.density: got 1.7, wanted a number in (0, 1] (kept share of B",
    ),
    "not a number": (
        "method: {kind: sparse_orthogonal, density: .nan}",
        "s.yaml: method.density: got nan, wanted a number in (0, 1]",
    ),
    "a unit in the text": (
        "channel: paper\naccess: {bandwidth_hz: 20 MHz}",
        "s.yaml: access.bandwidth_hz: got '20 MHz', wanted a number in (0, inf) in Hz, "
        "written as a plain number",
    ),
    "a unit in a deep text": (
        "channel: {preset: paper, deadline_s: 1 s}",
        "s.yaml: channel.deadline_s: got '1 s', wanted a number in (0, inf) in seconds",
    ),
    "missing key": (
        "channel: {kind: wireless}\naccess: {kind: ofdma}",
        "s.yaml: access.bandwidth_hz: got nothing, wanted a number in (0, inf) in Hz",
    ),
    "text for a number": ("devices: eight", "s.yaml: devices: got 'eight', wanted a whole number in"),
    "a broken number": ("rounds: 2.5", "s.yaml: rounds: got 2.5, wanted a whole number in (0, inf)"),
    "a list for a number": ("seed: [1]", "s.yaml: seed: got [1], wanted a whole number"),
    "a number for a section": ("local: 3", "s.yaml: local: got 3, wanted a mapping"),
    "nothing for a section": ("local:", "s.yaml: local: got None, wanted a mapping"),
    "text for a list": (
        "tasks: {kind: synthetic, names: reverse}",
        "s.yaml: tasks.names: got 'reverse', wanted a list",
    ),
    "misspelt task": (
        "tasks: {kind: synthetic, names: [revers, sort]}",
        "s.yaml: tasks.names: got 'revers'; did you mean 'reverse'?",
    ),
    "no such clock": ("clock: {kind: real}", "s.yaml: clock.kind: got 'real', wanted one of paced, v"),
    "one kind only": (
        "schedule: {kind: chaotic}",
        "s.yaml: schedule.kind: got 'chaotic', wanted one of asynchronous, ",
    ),
    "not a folder's name": ("name: a/b", "s.yaml: name: got 'a/b', wanted text"),
    "too many devices": ("devices: 5000", "s.yaml: devices: got 5000, wanted a whole number in [2, 1"),
    # conflicts between keys
    "odd degree x devices": (
        "devices: 5\nmethod: {kind: lora}",
        "s.yaml: topology.degree: got 3 for 5 devices, wanted less than devices, and degree x",
    ),
    "degree of all devices": (
        "devices: 4\nmethod: {kind: lora}\ntopology: {kind: random_regular, degree: 4}",
        "s.yaml: topology.degree: got 4 for 4 devices, wanted less than devices",
    ),
    "masks on a ring": (
        "topology: {kind: ring}",
        "s.yaml: topology.kind: got ring for sparse_orthogonal, wanted by_method, clusters, complete or",
    ),
    "an encoder that should write": (
        "backbone: {kind: sentence_encoder, name: some/encoder}",
        "s.yaml: tasks.kind: got synthetic under a sentence encoder, wanted choice tasks",
    ),
    "fewer devices than tasks": (
        "devices: 2",
        "s.yaml: devices: got 2, wanted at least one for each of 4 tasks",
    ),
    "an endless band": (
        "channel: {preset: paper}\naccess: {kind: ideal}",
        "s.yaml: access.kind: got ideal, but rate or losses depend on the noise of the band, wanted",
    ),
    "an endless band under losses that know noise": (
        "channel: {preset: lossy_link, losses: {kind: outage, threshold_db: 3}}",
        "s.yaml: access.kind: got ideal, but rate or losses depend on the noise of the band, wanted",
    ),
    "an option inside the experts": (
        "method: {kind: experts_once, options: {mask_selektion: random}}",
        "s.yaml: method.options.mask_selektion: got an unknown key, wanted an option of "
        "sparse_orthogonal; did you mean 'mask_selection'?",
    ),
    "two options inside the experts that contradict each other": (
        "method: {kind: experts_once, options: {mask_selection: disjoint, recluster_every: 2}}",
        "s.yaml: method.options.recluster_every: got 2 with mask_selection disjoint, wanted another",
    ),
    "a choice inside the experts": (
        "method: {kind: experts_once, options: {mask_selection: rendom}}",
        "s.yaml: method.options.mask_selection: got 'rendom', wanted 'magnitude', 'random' or",
    ),
    "an option that has a place of its own": (
        "method: {kind: experts_once, options: {density: 0.2}}",
        "s.yaml: method.options: got density, wanted it beside options, not inside",
    ),
    "a policy that the experts cannot mean": (
        "method: {kind: experts_once, options: {aggregation: printed}}\n"
        "wire: {lost_coordinates: renormalise}",
        "s.yaml: wire.lost_coordinates: got renormalise with method.aggregation printed, wanted",
    ),
    "a number for options": (
        "method: {kind: experts_once, options: 3}",
        "s.yaml: method.options: got 3, wanted a mapping",
    ),
    "two keys for the duration of a fade": (
        "channel: {preset: paper, fading: {speed_mps: 1.5, fc_ghz: 5.9}}",
        "s.yaml: channel.fading.coherence_s: got 1.0 with speed_mps 1.5, wanted one of them",
    ),
    "correlated fades of one exchange": (
        "channel: {preset: paper, fading: {correlation: jakes}}",
        "s.yaml: channel.fading.correlation: got jakes with blocks per_exchange, wanted blocks "
        "over_time",
    ),
    "a frozen gain with a Doppler shift": (
        "channel: {preset: lossy_link, fading: {kind: rayleigh, coherence_s: null, "
        "correlation: jakes}}",
        "s.yaml: channel.fading.correlation: got jakes with coherence_s null, wanted a coherence time",
    ),
    "a wait of no time": (
        "channel: {preset: urban_sidelink, max_wait_s: 0}",
        "s.yaml: channel.max_wait_s: got 0, wanted",
    ),
    "acknowledgements by another name": (
        "channel: {preset: urban_sidelink, acks: none}",
        "s.yaml: channel.acks: got 'none', wanted",
    ),
    "an outage on top of fading": (
        "channel: {preset: paper, losses: {kind: outage, threshold_db: 3}}",
        "s.yaml: channel.losses.kind: got outage with fading.kind rayleigh, wanted fading.kind none",
    ),
    # presets
    "misspelt preset": (
        "channel: papper",
        "channel.preset: got 'papper', wanted one of ideal, indoor_office, lossy_link, paper, ",
    ),
    "a preset like no other": ("channel: {preset: 3}", "channel.preset: got 3, wanted one of ideal"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line"), WRONG.values(), ids=WRONG)
def test_a_problem_names_where_got_and_wanted(problems, text, line):
    (problem,) = problems(text)
    assert line in problem


def test_all_problems_are_reported_together(problems):
    found = problems(
        "devices: eight\nrounds: 0\nrouds: 3\nlocal: {stepss: 3}\nmethod: {kind: loar}\n"
        "channel: {preset: paper, deadline_s: 1 s}\naccess: {bandwidth_hz: -1}"
    )
    where = [line.split(": ")[1] for line in found]
    assert sorted(where) == [
        "access.bandwidth_hz",
        "channel.deadline_s",
        "devices",
        "local.stepss",
        "method.kind",
        "rouds",
        "rounds",
    ]


def test_all_impossible_combinations_are_reported_together(problems):
    found = problems(
        "devices: 3\nmethod: {kind: lora}\ntopology: {kind: by_method, degree: 5}\n"
        "backbone: {kind: sentence_encoder, name: some/encoder}"
    )
    assert [line.split(": ")[1] for line in found] == ["devices", "tasks.kind", "topology.degree"]


def test_the_name_is_needed(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("rounds: 3\n")
    with pytest.raises(ScenarioError, match=r"^s\.yaml: name: got nothing, wanted text"):
        read_scenario(path)


# ── files without a scenario ───────────────────────────────────────────────────────────────────

NO_SCENARIO = {
    "not YAML": ("a: [1\nb: 2\n", r"s\.yaml:2: .*wanted a YAML mapping"),
    "a tab": ("local:\n\tsteps: 3\n", r"s\.yaml:2: .*cannot start any token, wanted a YAML"),
    "two documents": ("a: 1\n---\nb: 1\n", r"s\.yaml:2: .*another document"),
    "a list": ("- 1\n", r"s\.yaml: got a list, wanted a mapping of sections"),
    "text": ("hello\n", r"s\.yaml: got a str, wanted a mapping of sections"),
    "empty": ("", r"s\.yaml: got nothing, wanted a mapping of sections"),
    "code": ("a: !!python/object:os.system x\n", r"s\.yaml:1: could not determine a constructor"),
}


@pytest.mark.parametrize(("text", "pattern"), NO_SCENARIO.values(), ids=NO_SCENARIO)
def test_a_file_without_a_mapping_is_reported_with_its_line(tmp_path, text, pattern):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        read_scenario(path)
    (problem,) = caught.value.problems
    assert re.search(pattern, problem)
    assert "\n" not in problem


def test_no_such_file_a_folder_and_foreign_bytes(tmp_path):
    with pytest.raises(ScenarioError, match=r"nowhere\.yaml: no such file, wanted a scenario"):
        read_scenario(tmp_path / "nowhere.yaml")
    with pytest.raises(ScenarioError, match="got a folder, wanted a scenario"):
        read_scenario(tmp_path)
    (tmp_path / "s.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ScenarioError, match="cannot be read"):
        read_scenario(tmp_path / "s.yaml")


# ── known defects ────────────────────────────────────────────────────────────────────────────────


def test_least_power_with_a_fixed_rate(problems):
    (problem,) = problems("channel: {kind: wireless, rate: {kind: fixed, link_bit_per_s: 1.0e+6}}")
    assert problem.startswith(
        "s.yaml: channel.power.kind: got least_power with rate.kind fixed, wanted power.kind fixed"
    )


@pytest.mark.parametrize("access", ["ofdma", "[1]", "3"])
def test_an_access_that_is_no_mapping_beside_a_preset(problems, access):
    (problem,) = problems(f"channel: paper\naccess: {access}")
    assert problem.startswith("s.yaml: access: got")


def test_problems_in_the_rows_of_a_list(problems):
    found = problems("tasks: {kind: hub, tasks: [{name: a, datset: b}]}")
    assert "s.yaml: tasks.tasks.0.datset: got an unknown key; did you mean 'dataset'?" in found
    assert all(not line.endswith("wanted ") for line in found)


def test_a_rate_is_not_in_seconds(problems):
    (problem,) = problems("channel: {preset: lossy_link, rate: {link_bit_per_s: 10 Mbit/s}}")
    assert "in seconds" not in problem


def test_a_section_given_as_text(problems):
    (problem,) = problems("method: lora")
    assert problem.count("a mapping") == 1


def test_an_import_path_is_offered_only_where_it_is_taken(problems):
    (problem,) = problems("backbone: {kind: x}")
    assert "import path" not in problem
    (problem,) = problems("router: {kind: x}")
    assert "or an import path package.module:Class" in problem


def test_the_message_for_a_name_lists_its_characters(problems):
    (problem,) = problems("name: a:b")
    assert "got 'a:b', wanted text of letters, digits, spaces and . _ + -" in problem


def test_a_key_that_is_a_number(problems):
    (problem,) = problems("3: 4")
    assert "unknown key" in problem


def test_a_wrong_preset_names_the_file(problems):
    (problem,) = problems("channel: papper")
    assert problem.startswith("s.yaml: channel.preset: ")


def test_a_key_written_twice(problems):
    problems("rounds: 3\nrounds: 4")


def test_the_path_of_a_trace_starts_in_the_scenarios_folder(tmp_path):
    (tmp_path / "links").mkdir()
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\nchannel:\n  preset: lossy_link\n  rate: {kind: trace, path: links/lte.trace}\n"
    )
    reading = read_scenario(path)
    assert reading.scenario.channel.rate.path == (tmp_path / "links/lte.trace").resolve()
    resolved = tmp_path / "links" / "resolved.yaml"
    resolved.write_text(dump_scenario(reading.scenario))
    assert read_scenario(resolved).scenario == reading.scenario


@pytest.mark.parametrize("there", [False, True], ids=["nothing", "a file"])
def test_a_folder_from_the_environment_names_its_variable(tmp_path, monkeypatch, there) -> None:
    place = tmp_path / "place"
    if there:
        place.touch()
    monkeypatch.setenv("EMULATOR_TASKS", str(place))
    with pytest.raises(ScenarioError) as caught:
        read_scenario(ROOT / "configs" / "real_text.yaml")
    assert caught.value.problems == (
        f"real_text.yaml: tasks.folder: got {str(place)!r}, the value of the environment variable "
        "EMULATOR_TASKS, wanted a folder there, or none set",
    )


def test_all_wrong_options_inside_the_experts_are_reported(tmp_path: Path) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text(
        "name: s\nmethod: {kind: experts_once, options: {mask_selection: x, recluster_every: y}}\n"
    )
    with pytest.raises(ScenarioError) as caught:
        read_scenario(scenario, [])
    first, second = caught.value.problems
    assert first.startswith("s.yaml: method.options.mask_selection: got 'x', wanted 'magnitude', ")
    assert second == (
        "s.yaml: method.options.recluster_every: got 'y', wanted a whole number "
        "(an option of sparse_orthogonal)"
    )
