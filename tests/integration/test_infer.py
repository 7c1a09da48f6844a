"""A finished run answers: the same as in the run, with everything it needs from its folder."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from safetensors.numpy import load, load_file, save, save_file
from typer.testing import CliRunner

from emulator.cli.app import app
from emulator.core.errors import EmulatorError, ScenarioError
from emulator.core.types.result import Expert
from emulator.device import Device
from emulator.learning.backbone.load import Tiny
from emulator.runtime.inference import Respondent, format_reply, load_respondent, read_prompts
from emulator.runtime.run import RunRequest, run_scenario
from emulator.runtime.run_folder import name_expert_folders
from emulator.scenario.schema import Scenario

NAMES = ("reverse", "sort")


def finished(out: Path, **sections: object) -> Path:
    """Two devices, two tasks, one short round."""
    small: dict[str, object] = {
        "name": "small",
        "devices": 2,
        "rounds": 1,
        "tasks": {"kind": "synthetic", "names": NAMES, "train_samples": 60, "test_samples": 8},
        "local": {"steps": 12, "batch_size": 8},
        "router": {"kind": "ridge_lda", "gate_layer": 0},
    }
    order = RunRequest(Scenario.model_validate(small | sections), "one_process", out, force=False)
    run_scenario(order, Console(quiet=True))
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("runs") / "run")


def call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["infer", *(str(argument) for argument in arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_it_answers_and_routes_as_the_run_did(folder: Path) -> None:
    answers_as_in_the_run(folder)


def answers_as_in_the_run(folder: Path) -> None:
    scenario = Scenario.model_validate(
        {"name": "s", "tasks": {"kind": "synthetic", "names": NAMES, "test_samples": 8}}
    )
    rows = pq.read_table(folder / "metrics.parquet").to_pylist()
    told = {(r["device"], r["task"], r["metric"]): r["value"] for r in rows}
    for device in (0, 1):
        asked = load_respondent(folder, device)
        for task in NAMES:
            tests = scenario.tasks.examples(task, "test", 1)
            replies = [asked.reply(example.prompt, (), 8) for example in tests]
            right = sum(r.answer == e.answer for r, e in zip(replies, tests, strict=True))
            assert right / 8 == told[device, task, "exact_match"]
            by = [reply.answered_by == (task,) for reply in replies]
            assert sum(by) / 8 == told[device, task, "routing_accuracy"]


def test_experts_that_no_mask_is_put_over_again_answer_as_in_the_run(tmp_path: Path) -> None:
    """printed_24 in one cluster: all stored adapters share one B, each over its own A."""
    method = {"kind": "sparse_orthogonal", "aggregation": "printed_24"}
    out = finished(tmp_path / "run", method=method, topology={"kind": "complete"})
    answers_as_in_the_run(out)
    stored = [
        load_file(out / f"experts/device-01/{task}/adapter_model.safetensors") for task in NAMES
    ]
    for name, values in stored[0].items():
        assert np.array_equal(values, stored[1][name]) == ("lora_B" in name)
    own = load_file(out / "adapters/device-00/adapter_model.safetensors")
    assert all(np.array_equal(values, own[name]) for name, values in stored[0].items())


def test_a_prompt_that_is_too_long_is_reported(folder: Path) -> None:
    long = "tag01 : " + "g d c p " * 20 + "->"
    code, stdout, _ = call(folder, long, "--max-tokens", 4)
    assert code == 0
    unread = len(Tiny().load().tokenizer(long)["input_ids"]) - (64 - 4)
    assert f"  not read     the first {unread} tokens: longer than backbone" in stdout
    assert "not read" not in call(folder, "tag01 : g d c p ->")[1]


def test_words_that_the_backbone_does_not_know_are_reported(folder: Path) -> None:
    assert (
        "  not known    50 % of the prompt, to the backbone\n" in call(folder, "a b hello you")[1]
    )
    assert "not known" not in call(folder, "tag01 : g d c p ->")[1]


def test_the_command_shows_answer_expert_and_gates(folder: Path, tmp_path: Path) -> None:
    more = tmp_path / "prompts.txt"
    more.write_text("\ntag02 : g d c p ->\n", encoding="utf-8")
    code, stdout, stderr = call(folder, "--device", 1, "tag01 : g d c p ->", "--file", more)
    assert (code, stderr) == (0, "")
    first, second = stdout.split("\n\n")[0].split("tag02")
    assert first.startswith("tag01 : g d c p ->\n  answer       ")
    assert "  answered by  reverse\n  gates        reverse 1.000, sort 0.000\n" in first
    assert "  answered by  sort\n" in second


def test_it_chooses_among_choices(folder: Path) -> None:
    code, stdout, _ = call(folder, "tag01 : g d c p ->", "--choices", "p c d g, g d c p")
    assert code == 0
    assert any(f"answer       {choice}\n" in stdout for choice in ("p c d g", "g d c p"))


def test_choices_change_no_route_where_tasks_have_none(folder: Path) -> None:
    asked = load_respondent(folder, 0)
    for prompt, task in (("tag01 : g d c p ->", "reverse"), ("tag02 : g d c p ->", "sort")):
        free, choosing = (asked.reply(prompt, choices, 8) for choices in ((), ("a", "p c d g")))
        assert free.gates == choosing.gates
        assert choosing.answered_by == (task,)


def test_an_oracle_needs_the_true_task(tmp_path: Path) -> None:
    told = finished(tmp_path / "run", router={"kind": "oracle"})
    code, _, stderr = call(told, "tag01 : g d c p ->")
    assert (code, stderr) == (
        2,
        "error: --task: got none under router.kind oracle, wanted the true one of reverse, sort\n",
    )
    assert "answered by  sort" in call(told, "tag01 : g d c p ->", "--task", "sort")[1]


def test_settings_of_the_router_may_be_changed_that_its_tensors_do_not_hold(folder: Path) -> None:
    asked = load_respondent(folder, 0, ["router.top_m=2", "router.temperature=1e6"])
    reply = asked.reply("tag01 : g d c p ->", (), 4)
    assert reply.answered_by == NAMES
    assert [gate for _, gate in reply.gates] == pytest.approx([0.5, 0.5], abs=0.01)


def test_a_known_task_is_answered_by_its_own_expert(folder: Path) -> None:
    told = call(folder, "tag01 : g d c p ->", "--task", "sort")[1].splitlines()
    assert told[2] == "  answered by  sort"
    assert told[3] == "  gates        reverse 0.000, sort 1.000"


def test_experts_of_one_task_lie_side_by_side() -> None:
    assert name_expert_folders(["sort", "echo", "sort", "sort"]) == [
        "sort",
        "echo",
        "sort~2",
        "sort~3",
    ]


def test_a_stranger_goes_to_the_backbone_which_knows_operations_by_name(tmp_path: Path) -> None:
    shy = {"kind": "ridge_lda", "gate_layer": 0, "abstain": 0.02}
    asked = load_respondent(finished(tmp_path / "run", router=shy), 0)
    reply = asked.reply("reverse : g d c p ->", (), 8)
    assert reply.answered_by == ()
    assert reply.answer == "p c d g"
    assert "  answered by  the backbone alone\n" in format_reply(reply)


def test_a_method_that_routes_nothing_answers_with_its_one_adapter(tmp_path: Path) -> None:
    topology = {"kind": "complete"}
    out = finished(tmp_path / "run", method={"kind": "lora"}, topology=topology)
    assert load_respondent(out, 1).reply("tag01 : a b ->", (), 4).gates == (("all", 1.0),)
    with pytest.raises(
        ScenarioError, match="got 'sort' under lora, wanted none: one adapter for all"
    ):
        load_respondent(out, 1).reply("tag01 : a b ->", (), 4, "sort")


def test_a_file_of_prompts_that_cannot_be_read_is_told_without_codes(tmp_path):
    def told(file):
        with pytest.raises(ScenarioError) as caught:
            read_prompts(file)
        return str(caught.value)

    missing, latin = tmp_path / "no.txt", tmp_path / "latin.txt"
    latin.write_bytes(b"one\ntwo\nK\xf6ln\n")
    wanted = "wanted a text file to read (no such file or directory)"
    assert told(missing) == f"--file: got {missing}, {wanted}"
    assert told(tmp_path).endswith("wanted a text file to read (is a directory)")
    wanted = "wanted text in UTF-8 (line 3: invalid start byte)"
    assert told(latin) == f"--file: got {latin}, {wanted}"


WRONG = {
    "device": (("--device", 2, "x"), "--device: got 2, wanted 0 ... 1"),
    "no prompt": ((), "PROMPT: got none, wanted at least one, or --file"),
    "one choice": (("x", "--choices", "a"), "--choices: got 'a', wanted two or more, each once"),
    "no file": (("--file", "nowhere.txt"), "--file: got nowhere.txt, wanted a text file"),
    "too long": (("x", "--max-tokens", 64), "--max-tokens: got 64, wanted 1 ... 63"),
    "misspelt": (("x", "--set", "router.topm=1"), "--set: got router.topm=1, wanted router.top_m"),
    "no task": (("x", "--task", "rotate"), "--task: got 'rotate', wanted one of reverse, sort"),
    "no words": ((" ",), "PROMPT: got an empty one, wanted some text"),
    "no last choice": (("x", "--choices", "a,b,"), "--choices: got 'a,b,', wanted two or more"),
    "one to the tokenizer": (
        ("x", "--choices", "yes,no"),
        "--choices: got yes, no, which the tokenizer of package:",
    ),
    "other router": (
        ("x", "--set", "router.kind=cosine"),
        "--set: got router.kind=cosine, wanted ",
    ),
    "too late": (
        ("x", "--set", "router.abstain=0.1"),
        "router.top_m or router.temperature or back",
    ),
}


@pytest.mark.parametrize(("arguments", "line"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_line(folder: Path, arguments: tuple[object, ...], line: str) -> None:
    code, stdout, stderr = call(folder, *arguments)
    assert (code, stdout) == (2, "")
    assert line in stderr
    assert stderr.count("\n") == 1


def test_a_router_that_does_not_fit_its_scenario_is_reported(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, copied := tmp_path / "run")
    scenario = (copied / "scenario.yaml").read_text()
    narrower = scenario.replace("max_width: 128", "max_width: 8")
    assert narrower != scenario
    (copied / "scenario.yaml").write_text(narrower)
    code, _, stderr = call(copied, "x")
    assert code == 2
    assert "router: got ridge_lda with settings that do not fit the stored router" in stderr


def test_a_folder_that_is_no_whole_run_is_reported(folder: Path, tmp_path: Path) -> None:
    code, _, stderr = call(tmp_path, "x")
    assert (code, "wanted the folder of a run" in stderr) == (2, True)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    router = copy / "experts" / "device-00" / "router.safetensors"
    router.write_bytes(b"no router")
    assert "got no safetensors" in call(copy, "x")[2]
    router.unlink()
    assert f"{router}: no such file, wanted the folder of a finished run" in call(copy, "x")[2]
    listed = json.loads((copy / "experts/device-00/experts.json").read_text())
    assert [row["folder"] for row in listed] == list(NAMES)
    (copy / "experts/device-01/sort/adapter_model.safetensors").write_bytes(b"")
    assert "wanted an expert of a run" in call(copy, "--device", 1, "x")[2]
    (copy / "experts/device-01/experts.json").write_text(json.dumps([{"task": "sort"}]))
    assert "got no 0.folder, 0.form, 0.samples, 0.scaling" in call(copy, "--device", 1, "x")[2]


def test_a_renamed_tensor_or_a_strange_task_is_reported_by_file_and_key(
    folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / "experts/device-00/sort/adapter_model.safetensors"
    tensors = load(path.read_bytes())
    first = sorted(tensors)[0]
    path.write_bytes(save({f"{n}x" if n == first else n: v for n, v in tensors.items()}))
    code, _, stderr = call(copy, "x")
    assert (code, stderr.startswith(f"error: {path}: got ")) == (2, True)
    listed = copy / "experts/device-00/experts.json"
    rows = json.loads(listed.read_text())
    listed.write_text(json.dumps([row | {"task": "other"} for row in rows]))
    code, _, stderr = call(copy, "x")
    told = f"error: {listed}: 0.task: got 'other', wanted one of reverse, sort\n"
    assert (code, stderr) == (2, told)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_experts_and_routers_that_are_no_numbers_are_reported(
    value: float, folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / "experts/device-00/sort/adapter_model.safetensors"
    tensors = load_file(path)
    broken = sorted(tensors)[-1]
    tensors[broken].flat[3] = value
    save_file(tensors, path)
    code, stdout, stderr = call(copy, "x")
    assert (code, stdout) == (1, "")
    name = broken.removeprefix("base_model.model.").removesuffix(".weight")
    assert stderr == f"error: {path}: got NaN or infinity in {name}, wanted numbers\n"
    router = copy / "experts/device-01/router.safetensors"
    fitted = load_file(router)
    fitted["means"].flat[0] = np.nan
    save_file(fitted, router)
    code, stdout, stderr = call(copy, "--device", 1, "x")
    assert (code, stdout) == (1, "")
    assert stderr == f"error: {router}: got NaN in means, wanted numbers\n"


def test_whole_weights_that_are_no_numbers_are_reported(tmp_path: Path) -> None:
    whole = {"kind": "full", "max_parameters": 1_000_000}
    run_folder = finished(
        tmp_path / "run",
        method=whole,
        topology={"kind": "complete"},
        local={"steps": 1, "batch_size": 2},
    )
    (path,) = (run_folder / "experts/device-00").glob("*/model.safetensors")
    weights = load_file(path)
    weights["model.norm.weight"][0] = np.nan
    save_file(weights, path)
    code, _, stderr = call(run_folder, "x")
    assert code == 1
    assert stderr == f"error: {path}: got NaN or infinity in model.norm.weight, wanted numbers\n"


def no_number(expert: Expert) -> Expert:
    return replace(expert, tensors={n: np.full_like(t, np.nan) for n, t in expert.tensors.items()})


def test_no_expert_that_is_no_number_answers_or_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, answer = Device.result, Device.answer
    monkeypatch.setattr(
        Device, "result", lambda self, own, experts: result(self, no_number(own), experts)
    )
    with pytest.raises(EmulatorError, match=r"adapters/device-00: got NaN or infinity in model\."):
        finished(tmp_path / "own", local={"steps": 1, "batch_size": 2}, checkpoint_every=0)
    monkeypatch.setattr(
        Device, "answer", lambda self, experts: answer(self, [no_number(e) for e in experts])
    )
    with pytest.raises(EmulatorError, match=r"the expert of reverse: got NaN or infinity"):
        finished(tmp_path / "answers", local={"steps": 1, "batch_size": 2}, checkpoint_every=0)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_needs_choices() -> None:
    backbone = Tiny().load()
    name = backbone.target_modules[0]
    width = backbone.model.config.hidden_size
    nothing = {
        f"{name}.lora_A": np.zeros((1, width), dtype=np.float32),
        f"{name}.lora_B": np.zeros((width, 1), dtype=np.float32),
    }
    asked = Respondent(
        Scenario.model_validate({"name": "s"}),
        replace(backbone, family="sentence_encoder"),
        {"sort": Expert("sort", 1, 1.0, nothing)},
        {},
    )
    with pytest.raises(ScenarioError, match="--choices: got none"):
        asked.reply("x", (), None)
