"""A clone stands alone: .ci/run, launch/smoke.sh, and what hosts of the repository run."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from processes import LIMIT_S
from written import differences

ROOT = Path(__file__).resolve().parents[2]
BESIDE = Path("share" + "d", "data")  # written so that no path outside the repository is in it
FAKE_TESTS = """\
#!/usr/bin/env bash
{ pwd; echo "$@"; ls -A ..; echo "${EMULATOR_TASKS:-none}"; ls -A; } > "$REPORT"
exit 3
"""


def called(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("EMULATOR_", "GIT_"))}
    return subprocess.run(
        command,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small repository with our .ci/run, and tests that fail and report where they ran."""
    if shutil.which("git") is None:
        pytest.skip("no git here: nothing can be cloned")
    place = tmp_path / "checkout"
    for name in (".ci", "launch"):
        (place / name).mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", place / ".ci/run")
    (place / "launch/test.sh").write_text(FAKE_TESTS)
    (place / "launch/test.sh").chmod(0o755)
    git = ["git", "-C", str(place), "-c", "user.name=x", "-c", "user.email=x@y.invalid"]
    for order in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "x"]):
        done = called([*git, *order])
        assert done.returncode == 0, done.stderr
    return place


def seen_by_tests(checkout: Path, tmp_path: Path, **more: str) -> tuple[Path, list[str], str]:
    """Where the tests ran, what they saw there, and what was said on standard error."""
    report, temporary = tmp_path / "report", tmp_path / "temporary"
    temporary.mkdir(exist_ok=True)
    done = called([str(checkout / ".ci/run")], REPORT=str(report), TMPDIR=str(temporary), **more)
    assert done.returncode == 3, done.stderr
    assert list(temporary.iterdir()) == []
    place, *seen = report.read_text().splitlines()
    assert Path(place).is_relative_to(temporary.resolve())
    return Path(place), seen, done.stderr


def test_ci_runs_all_tests_in_a_clone_with_nothing_beside_it(checkout, tmp_path):
    (checkout / "not-committed").touch()
    place, seen, said = seen_by_tests(checkout, tmp_path)
    assert seen[:3] == ["--all", place.name, "none"]
    assert sorted(seen[3:]) == [".ci", ".git", "launch"]
    assert said == "note: changes that are not committed are not tested\n"


def test_ci_takes_real_text_from_beside_the_checkout_or_from_the_environment(checkout, tmp_path):
    (tmp_path / BESIDE).mkdir(parents=True)
    assert seen_by_tests(checkout, tmp_path)[1][2] == str((tmp_path / BESIDE).resolve())
    (tmp_path / "mine").mkdir()
    given = str(tmp_path / "mine")
    assert seen_by_tests(checkout, tmp_path, EMULATOR_TASKS=given)[1][2] == str(
        Path(given).resolve()
    )


@pytest.mark.parametrize(
    ("arguments", "handed_on"),
    [
        ([], ["-m", "not slow"]),
        (["tests/unit", "-x"], ["-m", "not slow", "tests/unit", "-x"]),
        (["--all"], []),
        (["--all", "-x"], ["-x"]),
    ],
)
def test_the_test_command_leaves_out_the_slow_unless_asked(arguments, handed_on, tmp_path):
    says = '#!/usr/bin/env bash\n[ "${0##*/}" != pytest ] || printf "%s\\n" "$@"\n'
    tools = [f".venv/bin/{name}" for name in ("ruff", "mypy", "lint-imports", "pytest")]
    for name in (*tools, "launch/install.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(says)
        (tmp_path / name).chmod(0o755)
    shutil.copy(ROOT / "launch/test.sh", tmp_path / "launch/test.sh")
    done = called([str(tmp_path / "launch/test.sh"), *arguments])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["-n", "2", "--dist", "loadfile", *handed_on]


def test_runs_are_compared_file_by_file(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name / "adapters").mkdir(parents=True)
        machine = '{"wall_s": 1, "cpu_s": 1, "train_cpu_s": 1, "peak_rss_mb": 1, "own_memory_mb": 1'
        (tmp_path / name / "environment.json").write_text(name)
        (tmp_path / name / "summary.json").write_text(machine + ', "bytes": 5}')
        (tmp_path / name / "adapters" / "x").write_text("same")
    runs = [str(tmp_path / name) for name in ("one", "other")]
    command = [sys.executable, str(ROOT / "tests/support/written.py"), *runs]
    assert called(command).stdout == "2 files are the same bytes\n"
    (tmp_path / "one" / "adapters" / "x").write_text("changed")
    (tmp_path / "other" / "more").touch()
    assert differences(tmp_path / "one", tmp_path / "other") == ["adapters/x", "more"]
    done = called(command)
    assert (done.returncode, done.stderr) == (1, "2 files differ: adapters/x, more\n")


def test_hosts_of_the_repository_run_both_scripts():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    orders = [step.get("run") for job in workflow["jobs"].values() for step in job["steps"]]
    assert list(filter(None, orders)) == ["launch/smoke.sh", "launch/test.sh"]
    for name in ("launch/smoke.sh", "launch/test.sh", ".ci/run"):
        assert (ROOT / name).stat().st_mode & stat.S_IXUSR, name


def test_hooks_call_tools_that_the_development_install_has():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    called_tools = {hook["entry"].split()[0] for hook in local["hooks"]}
    assert called_tools == {".venv/bin/ruff", ".venv/bin/lint-imports"}
    for tool in called_tools:
        assert Path(sys.executable).with_name(Path(tool).name).is_file()


@pytest.mark.slow
@pytest.mark.skipif(
    not (ROOT / ".venv" / "installed-dev").is_file(),
    reason="launch/install.sh dev has not run here: the script would, for minutes",
)
def test_the_smoke_test_passes():
    done = called([str(ROOT / "launch/smoke.sh")])
    assert done.returncode == 0, done.stderr
    *compared, last = done.stdout.splitlines()
    assert last == "smoke test passed"
    assert [line.split(": ")[0] for line in compared] == ["lora", "sparse_orthogonal"]
    assert all(line.endswith(" files are the same bytes") for line in compared)
