"""A dry run and a check refuse what a run refuses, and write nothing."""

import pytest
from typer.testing import CliRunner

from emulator.cli.app import app

pytestmark = pytest.mark.usefixtures("no_launcher")


@pytest.fixture
def quick(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "quick.yaml"
    path.write_text(
        "name: quick\ndevices: 2\nrounds: 1\nlocal: {steps: 1}\n"
        "tasks: {kind: synthetic, names: [reverse, sort], train_samples: 100, test_samples: 4}\n"
    )
    return path


def call(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_dry_run_names_at_its_end_what_keeps_a_run_from_the_folder(quick, tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    again = ("run", quick, "--dry-run", "--out", tmp_path)
    note = (
        f"note: a run would be refused: --out: got {tmp_path}, which is not empty, wanted another"
    )
    assert call(*again) == (0, "2\n", f"{note} folder or --force\n")
    code, stdout, stderr = call(*again, "method.lora_rank=1000")
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith(
        "error: quick.yaml: method.lora_rank: got 2 orthogonal blocks of rank 1000 in a "
    )


@pytest.mark.parametrize("verb", [("check",), ("run", "--dry-run"), ("run",)], ids=" ".join)
@pytest.mark.parametrize(
    "wrong",
    [
        ("method.lora_rank=1000",),
        ("method={kind: experts_once, lora_rank: 100000}",),
        ("method={kind: sparse_orthogonal, lora_rank: 65, projection_by: device}",),
    ],
    ids=["rank", "the adapter of experts_once", "by device"],
)
def test_a_rank_that_does_not_fit_the_layers_costs_no_run(
    quick, tmp_path, monkeypatch, verb, wrong
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("emulator.runtime.run.run_forked", lambda *_: pytest.fail("it began"))
    code, stdout, stderr = call(*verb, quick, *wrong)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith(
        "error: quick.yaml: method.lora_rank: got 2 orthogonal blocks of rank "
    )
    assert "in a module with 128 inputs, wanted blocks x rank <= inputs" in stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_a_driver_that_cannot_keep_pace_is_refused_at_once(quick, tmp_path, monkeypatch, dry):
    monkeypatch.setattr(
        "emulator.runtime.run.build_world", lambda scenario: pytest.fail("it began")
    )
    paced = ("clock.kind=paced", "--driver", "one_process", "--out", tmp_path / "out")
    wanted = "error: --driver: got one_process under clock.kind paced, wanted many_processes\n"
    assert call("run", quick, *paced, *dry) == (2, "", wanted)
