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
    done = "quick-sparse_orthogonal-1: checked and loaded, nothing was run; number of devices:\n"
    assert call(*again) == (0, "2\n", f"{note} folder or --force\n{done}")
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
    monkeypatch.setattr("emulator.runtime.execution.run_forked", lambda *_: pytest.fail("it began"))
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


RANKED = ("lora", "lora_by_task", "experts_once", "lori", "ffa", "fedsa", "alternating", "stacking")


@pytest.mark.parametrize("kind", [*RANKED, "local", "sparse_orthogonal, projection: gaussian"])
def test_a_rank_above_that_of_a_module_is_refused(quick, kind):
    code, stdout, stderr = call(
        "check", quick, f"method={{kind: {kind}, lora_rank: 129}}", "topology.degree=1"
    )
    blocks = kind == "experts_once"  # of which the orthogonal projections are refused first
    wanted = "got 2 orthogonal blocks of rank 129" if blocks else "got 129, wanted at most 128, the"
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith(f"error: quick.yaml: method.lora_rank: {wanted}")
    if not blocks:
        most = f"method={{kind: {kind}, lora_rank: 128}}"
        assert call("check", quick, most, "topology.degree=1")[::2] == (0, "")


@pytest.mark.parametrize("verb", [("run", "--dry-run"), ("run",)], ids=" ".join)
def test_a_rank_above_that_of_a_module_costs_no_run(quick, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("emulator.runtime.execution.run_forked", lambda *_: pytest.fail("it began"))
    code, stdout, stderr = call(
        *verb, quick, "method={kind: lora, lora_rank: 100000}", "topology.degree=1"
    )
    assert (code, stdout) == (2, "")
    assert stderr.startswith(
        "error: quick.yaml: method.lora_rank: got 100000, wanted at most 128, "
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [("check",), ("run", "--dry-run")], ids=" ".join)
@pytest.mark.parametrize("method", ["{}", "{kind: lori}"])
def test_a_density_that_keeps_next_to_nothing_is_noted(quick, verb, method):
    few = (f"method={method}", "topology.degree=1", "method.density=1e-9")
    code, _, stderr = call(*verb, quick, *few)
    noted = (
        "note: method.density: 1e-09 keeps 1 of 27648 entries of B in 21 modules, so some modules"
    )
    assert code == 0
    assert stderr.startswith(f"{noted} learn nothing\n")
    assert "method.density" not in call(*verb, quick, *few, "method.density=0.001")[2]
