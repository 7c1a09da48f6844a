"""`--set`, presets and paths: changes of the file before it is checked."""

import json
from pathlib import Path

import pytest

from emulator.learning.tasks.partition import ByTask
from emulator.methods import Lora
from emulator.network.channel.access import OfdmaAccess
from emulator.network.channel.losses import BernoulliLoss
from emulator.scenario.load import read_scenario

# ── overrides ────────────────────────────────────────────────────────────────────────────────────


def test_overrides_reach_every_depth(read):
    scenario = read(
        "channel: paper\ntasks: {kind: synthetic}",
        "rounds=3",
        "local.steps=7",
        "channel.losses.probability=0.5",
        "access.bandwidth_hz=1.0e+6",
        "tasks.names=[sort, reverse]",
    ).scenario
    assert (scenario.rounds, scenario.local.steps) == (3, 7)
    assert scenario.channel.losses == BernoulliLoss(probability=0.5)
    assert scenario.access == OfdmaAccess(bandwidth_hz=1e6)
    assert scenario.tasks.names == ("sort", "reverse")


def test_an_override_wins_over_the_file_and_the_last_over_the_first(read):
    assert read("rounds: 5", "rounds=3", "rounds=4").scenario.rounds == 4


def test_another_kind_drops_the_fields_it_lacks_in_one_note(read):
    reading = read("method: {kind: sparse_orthogonal, density: 0.1}", "method.kind=lora")
    assert reading.scenario.method == Lora()
    assert reading.notes == ("method.kind=lora drops method.density (lora has no such field)",)


def test_another_kind_keeps_the_fields_both_have(read):
    reading = read(
        "method: {kind: sparse_orthogonal, density: 0.1, learning_rate: 0.03}", "method.kind=lora"
    )
    assert reading.scenario.method == Lora(learning_rate=0.03)


def test_another_kind_deep_down_drops_in_one_note(read):
    reading = read(
        "channel: paper",
        "channel.rate.kind=fixed",
        "channel.rate.link_bit_per_s=1000",
        "channel.power={kind: fixed, power_w: 0.1}",
    )
    assert reading.notes == (
        "channel.rate.kind=fixed drops channel.rate.gap_db (fixed has no such field)",
    )
    assert reading.scenario.channel.rate.link_bit_per_s == 1000


def test_a_key_deep_down_leaves_its_section_of_its_default_kind(read):
    scenario = read("rounds: 2", "tasks.partition.imbalance=1.5", "channel=paper").scenario
    assert scenario.tasks.partition == ByTask(imbalance=1.5)


def test_repeated_clustering_without_mobility_is_noted(read):
    again = "method.recluster_every=2"
    (note,) = read("rounds: 4", again, "channel=paper").notes
    assert note.startswith("method.recluster_every: 2 repeats the setup with the same clusters")
    walks = "channel: {preset: paper, mobility: {kind: random_waypoint, min_speed_m_per_s: 1, max_speed_m_per_s: 2}}"
    assert read(f"rounds: 4\n{walks}", again).notes == ()


@pytest.mark.parametrize(
    ("override", "reported"),
    [
        ("method.exchange_every=4", "method.exchange_every: 4 has no effect in a run of 4 rounds"),
        (
            "method.recluster_every=9",
            "method.recluster_every: 9 has no effect in a run of 4 rounds",
        ),
        (
            "evaluation.own_task_every=5",
            "evaluation.own_task_every: 5 has no effect in a run of 4 rounds",
        ),
        (
            "method.active_ranks=16",
            "method.active_ranks: 16 keeps all (2 experts of rank 8)",
        ),
        ("router.top_m=3", "router.top_m: 3 opens all gates (2 experts)"),
        ("method.exchange_every=3", None),
        ("method.active_ranks=15", None),
        ("router.top_m=2", None),
        ("evaluation.own_task_every=4", None),
    ],
)
def test_settings_without_effect_are_noted(read, override, reported):
    given = "rounds: 4\ntasks: {kind: synthetic, names: [sort, reverse]}"
    assert read(given, override).notes == ((reported,) if reported else ())


def test_measurements_without_effect_under_a_method_are_noted(read):
    asked = ("evaluation.unseen_tasks=[mirror]", "evaluation.paraphrases=routing")
    assert read("rounds: 2", *asked).notes == ()
    assert read("method: {kind: lora}", *asked).notes == (
        "evaluation.unseen_tasks measures nothing under lora, which does not route",
        "evaluation.paraphrases: routing measures nothing under lora, which does not route",
    )


def test_the_same_kind_drops_nothing(read):
    reading = read("method: {kind: lora, learning_rate: 0.03}", "method.kind=lora")
    assert reading.notes == ()
    assert reading.scenario.method == Lora(learning_rate=0.03)


@pytest.mark.parametrize("key", ["channel", "channel.preset"])
def test_another_preset_brings_channel_and_access(read, key):
    wanted = read("channel: lossy_link").scenario
    changed = read("channel: paper\naccess: {bandwidth_hz: 5.0}", f"{key}=lossy_link").scenario
    assert (changed.channel, changed.access) == (wanted.channel, wanted.access)


def test_keys_beside_a_preset_override_it(read):
    plain = read("channel: paper").scenario
    scenario = read("channel: {preset: paper, deadline_s: 2, losses: {probability: 0}}").scenario
    assert scenario.channel.deadline_s == 2
    assert scenario.channel.losses.probability == 0
    assert scenario.channel.placement == plain.channel.placement
    other = read("channel: {preset: paper, losses: {kind: lossless}}").scenario
    assert other.channel.losses.kind == "lossless"


WRONG_OVERRIDES = {
    "no value": ("rounds", "--set: got 'rounds', wanted key.path=value"),
    "no key": ("=3", "--set: got '=3', wanted key.path=value"),
    "not YAML": ("rounds=[1", "--set rounds: got '[1', wanted a value in YAML"),
    "misspelt section": ("locl.steps=3", "locl: got an unknown key; did you mean 'local'?"),
    "misspelt key": ("local.stps=3", "local.stps: got an unknown key; did you mean 'steps'?"),
    "into a number": ("rounds.a=3", "rounds: got {'a': 3}, wanted a whole number"),
    "misspelt kind": ("method.kind=loraa", "did you mean 'lora'?"),
    "swapped letters": ("method.kind=loar", "did you mean 'lora'?"),
    "misspelt preset": ("channel=papper", "channel.preset: got 'papper'"),
    "a unit": ("access.bandwidth_hz=20 MHz", "access.bandwidth_hz: got '20 MHz', wanted a number"),
}


@pytest.mark.parametrize(("override", "line"), WRONG_OVERRIDES.values(), ids=WRONG_OVERRIDES)
def test_a_wrong_override_is_reported_in_one_line(problems, override, line):
    (problem,) = problems("channel: paper\nmethod: {kind: lora}", override)
    assert line in problem


# ── paths ────────────────────────────────────────────────────────────────────────────────────────


def test_existing_paths_of_an_override_start_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "here" / "data").mkdir(parents=True)
    (tmp_path / "s.yaml").write_text(
        "name: s\nbackbone: {kind: sentence_encoder, name: x}\n"
        "tasks: {kind: jsonl, folder: there, names: [a, b]}\n"
    )
    monkeypatch.chdir(tmp_path / "here")
    for reported, meant in (("data", "here/data"), ("elsewhere", "elsewhere")):
        whole = f"tasks={{kind: jsonl, folder: {reported}, names: [a, b]}}"
        section = read_scenario(tmp_path / "s.yaml", [whole]).scenario.tasks
        assert section.folder == tmp_path / meant
        scenario = read_scenario(tmp_path / "s.yaml", [f"tasks.folder={reported}"]).scenario
        assert scenario.tasks.folder == tmp_path / meant


def test_relative_paths_start_in_the_folder_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "a" / "model").mkdir(parents=True)
    path = tmp_path / "a" / "s.yaml"
    path.write_text(
        "name: s\nbackbone: {kind: causal_lm, name: model}\n"
        "tasks: {kind: jsonl, folder: ../data, names: [x]}\n"
    )
    monkeypatch.chdir(tmp_path)
    scenario = read_scenario(Path("a/s.yaml")).scenario
    assert scenario.tasks.folder == (tmp_path / "data").resolve()
    assert scenario.backbone.name == str((tmp_path / "a" / "model").resolve())


def test_files_of_a_component_start_in_the_folder_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "s.yaml"
    path.write_text(
        "name: s\nchannel: {preset: paper, placement: {kind: file, path: places.csv}}\n"
    )
    monkeypatch.chdir(tmp_path)
    scenario = read_scenario(Path("a/s.yaml")).scenario
    assert scenario.channel.placement.path == (tmp_path / "a" / "places.csv").resolve()


HUB = "{kind: hub, folder: $EMULATOR_TASKS, tasks: [{name: a, dataset: x/y, prompt: '{b}', answer_column: b}]}"
LINES = "{kind: jsonl, folder: $EMULATOR_TASKS, names: [a]}"


@pytest.mark.parametrize("tasks", [HUB, LINES], ids=["hub", "jsonl"])
def test_a_path_is_taken_from_the_environment(read, tasks, tmp_path, monkeypatch):
    (tmp_path / "here" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("EMULATOR_TASKS", "data")
    assert read(f"tasks: {tasks}").scenario.tasks.folder == tmp_path / "here" / "data"
    reading = read(f"tasks: {tasks}", "tasks.folder=/else/where")
    assert reading.scenario.tasks.folder == Path("/else/where")
    monkeypatch.setenv("EMULATOR_TASKS", str(tmp_path))
    assert read(f"tasks: {tasks}").scenario.tasks.folder == tmp_path


@pytest.mark.parametrize("reported", [None, ""], ids=["not set", "empty"])
def test_a_path_that_the_environment_has_not(read, problems, reported, monkeypatch):
    monkeypatch.delenv("EMULATOR_TASKS", raising=False)
    if reported is not None:
        monkeypatch.setenv("EMULATOR_TASKS", reported)
    assert read(f"tasks: {HUB}").scenario.tasks.folder is None
    (line,) = problems(f"tasks: {LINES}")
    assert line == (
        "s.yaml: tasks.folder: got $EMULATOR_TASKS, but the environment has no EMULATOR_TASKS, wanted it "
        "set to a folder (a relative path starts in the current folder), or tasks.folder=PATH"
    )


def test_a_variable_may_stand_in_braces(read, problems, monkeypatch, tmp_path):
    braces = LINES.replace("$EMULATOR_TASKS", "'${EMULATOR_TASKS}'")
    assert braces != LINES
    monkeypatch.setenv("EMULATOR_TASKS", str(tmp_path))
    assert read(f"tasks: {braces}").scenario.tasks.folder == tmp_path
    monkeypatch.delenv("EMULATOR_TASKS")
    (line,) = problems(f"tasks: {braces}")
    assert "got ${EMULATOR_TASKS}, but the environment has no EMULATOR_TASKS, wanted it set" in line


HINT = "did you mean {0}.kind={1} (in a file {2}: {{kind: {1}}})?"


@pytest.mark.parametrize(
    ("section", "word", "meant"),
    [
        ("router", "oracle", "oracle"),
        ("router", "oracl", "oracle"),
        ("backbone", "causal_lm", "causal_lm"),
        ("method", "mine:Own", "mine:Own"),
        ("access", "tdma", "tdma"),
        ("clock", "paced", "paced"),
        ("tasks.partition", "dirichlet", "dirichlet"),
        ("channel", "wireless", "wireless"),
    ],
)
def test_a_plain_word_in_the_place_of_a_section_is_taken_for_its_kind(
    problems, section, word, meant
):
    (line,) = problems("", f"{section}={word}")
    key = "channel.preset" if section == "channel" else section
    assert line.startswith(f"s.yaml: {key}: got {word!r}, wanted ")
    assert line.endswith(f"; {HINT.format(section, meant, section.rpartition('.')[2])}")
    assert " of kind" not in line


def test_a_wrong_kind_is_reported_with_the_existing_kinds(problems):
    (line,) = problems("router: zzz")
    assert line == (
        "s.yaml: router: got 'zzz', wanted a mapping with a kind, one of arrow, bag_of_words, cosine, "
        "oracle, ridge_lda, uniform, or an import path package.module:Class"
    )


def test_a_plain_word_is_not_lost_to_a_key_below_it(problems):
    (line,) = problems("", "router=oracle", "router.top_m=2")
    assert line.startswith(
        "--set router.top_m: got a key below router, which is 'oracle', wanted a"
    )
    assert line.endswith(HINT.format("router", "oracle", "router"))


@pytest.mark.parametrize(("part", "noted"), [(31, False), (32, False), (33, True)])
def test_more_in_memory_than_a_step_has_is_noted(read, part, noted):
    reported = "local.micro_batch_size: 33 exceeds the examples of a step (32)"
    assert (reported in read("", f"local.micro_batch_size={part}").notes) == noted


def test_shipped_text_scenarios_take_the_hub_or_a_folder(monkeypatch, tmp_path):
    root = Path(__file__).resolve().parents[3]
    for name in ("configs/real_text.yaml", "configs/experiments/suites/real_text.yaml"):
        monkeypatch.delenv("EMULATOR_TASKS", raising=False)
        assert read_scenario(root / name).scenario.tasks.folder is None
        monkeypatch.setenv("EMULATOR_TASKS", str(tmp_path))
        assert read_scenario(root / name).scenario.tasks.folder == tmp_path


@pytest.mark.parametrize("name", ["some/hub-id", "package:some_package/model"])
def test_names_that_are_no_folder_stay_as_they_are(read, name):
    scenario = read(f"backbone: {{kind: causal_lm, name: '{name}'}}").scenario
    assert scenario.backbone.name == name


# ── known defects ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("key", "value"),
    [("method.density", 0.2), ("topology.degree", 1), ("tasks.names", ["sort", "reverse"])],
)
def test_an_override_of_a_section_left_to_its_default(read, key, value):
    section, name = key.split(".")
    scenario = read("devices: 4", f"{key}={json.dumps(value)}").scenario
    assert scenario.model_dump(mode="json")[section][name] == value


@pytest.mark.parametrize("router", ["", "router: {kind: uniform}", "router: {kind: oracle}"])
def test_full_oracle_answers_with_the_oracle_with_a_note(read, router):
    reading = read(f"method: {{kind: full_oracle}}\n{router}")
    assert reading.scenario.router.kind == "oracle"
    wanted = ("router: full_oracle uses oracle in place of uniform",) * ("uniform" in router)
    assert reading.notes == wanted
    assert read(router).scenario.router.kind == (
        router.split("kind: ")[-1].rstrip("}") or "ridge_lda"
    )
