"""Where the emulator is started: what is missing there is one line, before anything is done."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import LIMIT_S
from quick import quick_scenario

from emulator.runtime.folder_claim import RUNNING

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("no_launcher")


@pytest.fixture
def quick(tmp_path) -> Path:
    return quick_scenario(tmp_path)


def ended(*arguments, before=None, prefix=(), env=None, **streams):
    """(exit code, stdout, stderr) of the command line in a process of its own."""
    wanted = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "emulator", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        preexec_fn=before, text=True, check=False, timeout=LIMIT_S, **wanted,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def limited_to(soft, hard):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ── before the work ──────────────────────────────────────────────────────────────────────────────


def test_a_deleted_working_directory_is_a_line(quick, tmp_path):
    (tmp_path / "gone").mkdir()

    def stand_in_it():
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()

    assert ended("run", quick, before=stand_in_it) == (
        2,
        "",
        "error: working directory: got one that was deleted, wanted one that is there (cd)\n",
    )


def test_too_few_descriptors_are_a_line(quick, tmp_path):
    code, stdout, stderr = ended("run", quick, "--out", tmp_path / "out", before=limited_to(20, 20))
    assert (code, stdout) == (2, "")
    assert stderr == "error: open files: got a limit of 20, wanted 50 for this run (ulimit -Hn)\n"
    assert not (tmp_path / "out").exists()


def test_a_limit_that_may_be_raised_is_raised(quick, tmp_path):
    code, _, stderr = ended(
        "run", quick, "--out", tmp_path / "out", "--quiet", before=limited_to(20, 50)
    )
    assert (code, stderr) == (0, "")
    assert (tmp_path / "out" / "summary.json").is_file()


def test_a_loopback_that_is_down_is_a_line(quick, tmp_path):
    alone = ("unshare", "--net")
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not here")
    if (tried := subprocess.run([*alone, "true"], capture_output=True, check=False)).returncode:
        pytest.skip(f"no network namespace here: {tried.stderr.decode().strip()}")
    code, stdout, stderr = ended("run", quick, "--out", tmp_path / "out", prefix=alone)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("error: 127.0.0.1: got no connection (Network is unreachable), wanted")
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_port_that_is_none_is_a_line(quick, tmp_path):
    world = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "99999"}
    code, stdout, stderr = ended("run", quick, "--quiet", "--out", tmp_path / "out", env=world)
    assert (code, stdout) == (2, "")
    assert stderr == "error: MASTER_PORT: got 99999, wanted a port (1 to 65535)\n"
    assert not (tmp_path / "out").exists()


# ── standard output ──────────────────────────────────────────────────────────────────────────────


def test_a_reader_that_leaves_is_no_error(quick):
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    try:
        assert ended("check", quick, stdout=write_fd)[::2] == (1, "")
    finally:
        os.close(write_fd)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not here")
def test_an_output_that_is_full_is_a_line(quick):
    with Path("/dev/full").open("w") as full:
        code, _, stderr = ended("check", quick, stdout=full)
    assert (code, stderr) == (1, "error: standard output: No space left on device\n")


def test_closed_outputs_are_none(quick, tmp_path):
    """The descriptors are not given to files or connections of the run."""

    def closed():
        for descriptor in range(3):
            os.close(descriptor)

    code, _, _ = ended("run", quick, "--out", tmp_path / "out", before=closed)
    assert code == 0
    assert (tmp_path / "out" / "summary.json").is_file()


def test_letters_that_an_output_does_not_have_are_escaped(tmp_path):
    named = tmp_path / "quick.yaml"
    own = "tasks: {kind: jsonl, folder: größer, names: [own]}\nbackbone: {kind: causal_lm, name: own}\n"
    named.write_text(f"name: own\n{own}", encoding="utf-8")
    code, stdout, stderr = ended("check", named, env={"PYTHONIOENCODING": "ascii"})
    assert (code, stderr) == (0, "")
    assert "folder: " in stdout
    assert "/gr\\xf6\\xdfer\n" in stdout


# ── a launched process ───────────────────────────────────────────────────────────────────────────


def test_a_launched_run_releases_its_folder_on_sigterm(quick, tmp_path, free_port):
    """While it waits for another device, which never comes."""
    world = {
        "RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port),
    }  # fmt: skip
    out = tmp_path / "runs" / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "emulator", "run", str(quick), "--out", str(out)],
        cwd=ROOT, env={**os.environ, **world}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "quick.yaml: loading\n"
        assert process.stderr.readline().endswith(" connecting to 1 more devices at 127.0.0.1\n")
        while not (out / RUNNING).exists():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.5)  # past the claim, into loading or waiting
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert not out.parent.exists()
