"""Model folders on the command line: decoders of every kind run; what cannot is one line and exit code 2."""

import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emulator.cli.app import app

sys.path.append(str(Path(__file__).parents[1] / "support"))

from tiny_models import DECODERS, MAMBA, bert, llama, model_folder, with_json

pytestmark = pytest.mark.usefixtures("no_launcher")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two choice tasks, and two whose answers are generated."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = {
        "parity": [
            {"prompt": f"is {n} even ?", "choices": ["yes", "no"], "answer": "yes" if n % 2 == 0 else "no"}
            for n in range(16)
        ],
        "size": [
            {"prompt": f"is {n} large ?", "choices": ["large", "small"], "answer": "large" if n > 7 else "small"}
            for n in range(16)
        ],
        "echo": [{"prompt": f"say {n} :", "completion": f"{n} {n}", "answer": f"{n} {n}"} for n in "abcdefgh"],
        "next": [{"prompt": f"{n} + 1 =", "completion": f"{n + 1}", "answer": n + 1} for n in range(8)],
    }  # fmt: skip
    for task, of_task in rows.items():
        (folder / task).mkdir()
        for split in ("train", "test"):
            lines = [json.dumps(row) for row in of_task]
            (folder / task / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


def run(
    model: Path, modules: list[str], tasks: Path, names: list[str], out: Path, *more: str
) -> tuple[int, str]:
    """`emulator run` of one round of two devices in this process: exit code and standard error."""
    scenario = out.with_suffix(".yaml")
    sections = {
        "name": "folders",
        "devices": 2,
        "rounds": 1,
        "backbone": {
            "kind": "causal_lm",
            "name": str(model),
            "max_tokens": 40,
            "target_modules": modules,
        },
        "tasks": {"kind": "jsonl", "folder": str(tasks), "names": names},
        "method": {"kind": "sparse_orthogonal", "density": 0.25, "lora_rank": 2},
        "channel": "ideal",
        "local": {"steps": 2, "batch_size": 4, "calibration_samples": 4},
    }
    scenario.write_text(json.dumps(sections))
    order = ["run", str(scenario), "--driver", "one_process", "--quiet", "--out", str(out), *more]
    result = CliRunner().invoke(app, order)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stderr


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_learns_and_answers(name: str, tasks: Path, tmp_path: Path) -> None:
    model, fields, modules = DECODERS[name]
    folder = model_folder(tmp_path / "model", model, fields)
    for number, names in enumerate((["parity", "size"], ["echo", "next"])):
        out = tmp_path / f"out{number}"
        code, told = run(folder, modules, tasks, names, out)
        assert (code, told) == (0, "")
        assert (out / "summary.json").is_file()


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["run", "dry run"])
@pytest.mark.parametrize("case", ["bert, query", "mamba, in_proj", "half wrong, v_porj", "layer"])
def test_what_cannot_answer_costs_no_step(
    case: str, more: tuple[str, ...], tasks: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    match case:
        case "bert, query":
            bert(folder, "BertForMaskedLM")
            modules, words = ["query", "value"], "keeps no key-value cache"
        case "mamba, in_proj":
            model_folder(folder, "MambaForCausalLM", MAMBA)
            modules, words = ["in_proj"], "keeps no key-value cache"
        case "half wrong, v_porj":
            llama(folder)
            modules, words = ["q_proj", "v_porj"], "backbone.target_modules: got ['v_porj']"
        case _:
            with_json(llama(folder), "config.json", num_hidden_layers=3)
            modules, words = ["q_proj"], "missing: model.layers.2."
    out = tmp_path / "out"
    code, told = run(folder, modules, tasks, ["parity", "size"], out, *more)
    assert code == 2
    assert re.match(r"error: \w+\.yaml: backbone\.", told)
    assert told.count("\n") == 1
    assert words in told
    assert not out.exists()
