"""The output folder belongs to one run from its first moment, and nothing of others is lost in it."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from claims import FILES, put, refusal, tree
from processes import LIMIT_S

from emulator.core.errors import EmulatorError
from emulator.runtime.claim_holder import Holder, read_holder
from emulator.runtime.folder_claim import PARTIAL, RUNNING, clear_remains

HOLDS = """
import sys, time
from pathlib import Path
from emulator.runtime.folder_claim import claim_folder
with claim_folder(Path(sys.argv[1]), force=len(sys.argv) > 2, print_line=print):
    print("held", flush=True)
    time.sleep(6000)
"""


def kept(out, force=False, meanwhile=lambda out: None) -> tuple[str, Path]:
    """Run with files that cannot be put in place; return the error and the folder that it names."""
    with pytest.raises(EmulatorError, match="the result is kept in") as caught:
        put(out, force, meanwhile)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"--out: {out}: ")
    return text, Path(text.rpartition("kept in ")[2])


@pytest.fixture
def holding(tmp_path):
    """Start a process that holds a folder; it is killed at the end."""
    started = []

    def hold(out, *force):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(out), *force], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().endswith("held\n")
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


# ── one run, one folder ──────────────────────────────────────────────────────────────────────────


def test_a_run_leaves_its_files_and_nothing_else(tmp_path):
    assert put(tmp_path / "runs" / "out") == []
    assert tree(tmp_path) == {f"runs/out/{name}": data for name, data in FILES.items()}


def test_the_folder_names_its_process_from_the_start(tmp_path):
    def look(out):
        claim = json.loads((out / RUNNING).read_text())
        assert (claim["pid"], claim["started"][:2]) == (os.getpid(), "20")
        assert read_holder(out / RUNNING).is_running

    put(tmp_path / "out", meanwhile=look)
    assert not (tmp_path / "out" / RUNNING).exists()


@pytest.mark.parametrize("error", [EmulatorError("failed"), KeyboardInterrupt()])
def test_a_run_that_fails_leaves_no_trace(tmp_path, error):
    def fail(out):
        raise error

    with pytest.raises(type(error)):
        put(tmp_path / "runs" / "deep" / "out", meanwhile=fail)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_leaves_an_earlier_one_as_it_was(tmp_path):
    put(tmp_path / "out")
    with pytest.raises(ZeroDivisionError):
        put(tmp_path / "out", force=True, meanwhile=lambda out: 1 // 0)
    assert tree(tmp_path / "out") == FILES


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_of_two_runs_in_one_folder_the_second_is_refused_at_once(tmp_path, holding, force):
    first = holding(tmp_path / "out")
    line = refusal(tmp_path / "out", force=bool(force))
    assert line.startswith(f"--out: got {tmp_path / 'out'}, where a run is under way (process ")
    assert f"process {first.pid} on " in line
    assert read_holder(tmp_path / "out" / RUNNING).pid == first.pid


# ── what a killed run leaves ─────────────────────────────────────────────────────────────────────


def test_the_claim_of_a_killed_run_is_taken_over_with_a_note(tmp_path, holding):
    out = tmp_path / "out"
    first = holding(out)
    (out / PARTIAL).mkdir()
    first.kill()
    first.wait()
    assert (out / RUNNING).exists()
    (line,) = put(out)
    assert line.startswith(f"note: --out: {out}: left by a run that did not end (process")
    assert f"process {first.pid} on " in line
    assert tree(out) == FILES


def test_a_killed_run_over_an_earlier_one_needs_force_again(tmp_path, holding):
    out = tmp_path / "out"
    put(out)
    first = holding(out, "--force")
    first.kill()
    first.wait()
    assert "which is not empty" in refusal(out)
    (line,) = put(out, force=True)
    assert "did not end" in line
    assert tree(out) == FILES


def test_a_later_process_of_the_same_number_is_another(tmp_path):
    own = Holder.own()
    earlier = Holder(own.pid, own.host, own.started, own.process_started_s - 1000.0)
    assert own.is_running
    assert not earlier.is_running
    out = tmp_path / "out"
    out.mkdir()
    (out / RUNNING).write_bytes(earlier.to_bytes())
    assert len(put(out)) == 1
    assert tree(out) == FILES


@pytest.mark.parametrize("claim", [b"", b"{", b"[]", b'{"pid": "x"}', b"elsewhere"])
def test_a_claim_that_cannot_be_judged_needs_force(tmp_path, claim):
    if claim == b"elsewhere":
        claim = Holder(1, "another-host", "2026-01-01", 0.0).to_bytes()
    out = tmp_path / "out"
    out.mkdir()
    (out / RUNNING).write_bytes(claim)
    assert "whose end cannot be seen from here, wanted another folder, or" in refusal(out)
    assert len(put(out, force=True)) == 1
    assert tree(out) == FILES


def test_a_folder_of_a_killed_run_goes_with_the_next_one_that_fails(tmp_path, holding):
    out = tmp_path / "out"
    killed = holding(out)
    killed.kill()
    killed.wait()

    def fail(out):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put(out, meanwhile=fail)
    assert not out.exists()


def test_remains_are_cleared_unless_their_process_runs(tmp_path, holding):
    process = holding(tmp_path / "out")
    clear_remains(tmp_path / "out")
    assert (tmp_path / "out" / RUNNING).exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    clear_remains(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ── what others do meanwhile ─────────────────────────────────────────────────────────────────────


def test_what_is_put_there_meanwhile_stays(tmp_path):
    def notes(out):
        (out / "notes.txt").write_text("mine")

    out = tmp_path / "out"
    (line,) = put(out, meanwhile=notes)
    assert line == f"note: --out: {out}: put there meanwhile and left as it is: notes.txt"
    assert tree(out) == {**FILES, "notes.txt": b"mine"}


OLD = "experts/device-07/reverse/adapter_config.json"


def test_with_force_what_a_run_wrote_goes_and_what_came_meanwhile_stays(tmp_path):
    out = tmp_path / "out"
    put(out, files={**FILES, OLD: b"old", "ledger.parquet": b"old"})

    def notes(out):
        (out / "experts" / "notes.txt").write_text("mine")

    (line,) = put(out, force=True, meanwhile=notes)
    assert line.endswith("put there meanwhile and left as it is: experts")
    assert tree(out) == {**FILES, "experts/notes.txt": b"mine"}


def test_with_force_files_that_no_run_writes_stay_and_are_named_in_one_note(tmp_path):
    out = tmp_path / "out"
    put(out, files={**FILES, OLD: b"old"})
    own = {
        "notes.txt": b"mine",
        "plots/a.png": b"mine, too",
        "adapters/device-00/notes.txt": b"beside new files",
        "experts/device-07/reverse/notes.txt": b"beside old files",
    }
    for name, data in own.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(data)
    (out / "empty").mkdir()
    (out / "link").symlink_to("nowhere")
    (line,) = put(out, force=True)
    names = ", ".join(sorted([*own, "link"]))
    assert line == f"note: --out: {out}: not written by a run and left as it is: {names}"
    assert ((out / "link").readlink(), (out / "empty").is_dir()) == (Path("nowhere"), True)
    assert tree(out) == {**FILES, **own}
    assert put(out, force=True) == [line]


@pytest.mark.parametrize("own", ["adapters", "summary.json/notes.txt"])
def test_with_force_a_file_in_the_place_of_a_folder_sends_the_result_beside(tmp_path, own):
    out = tmp_path / "out"
    put(out, files={"scenario.yaml": b"name: old\n"})
    (out / own).parent.mkdir(exist_ok=True)
    (out / own).write_bytes(b"mine")
    text, where = kept(out, force=True)
    assert f"{own}, which is not written by a run, is in the way" in text
    assert tree(where) == FILES
    assert tree(out) == {"scenario.yaml": b"name: old\n", own: b"mine"}


def test_a_long_list_of_own_files_is_counted(tmp_path):
    out = tmp_path / "out"
    put(out)
    for number in range(13):
        (out / f"notes-{number:02}").touch()
    (line,) = put(out, force=True)
    assert line.endswith("notes-08, notes-09 and 3 more")


@pytest.mark.parametrize("name", ["summary.json", "adapters/notes.txt"])
@pytest.mark.parametrize("force", [False, True], ids=["new", "force"])
def test_where_names_clash_the_result_goes_beside(tmp_path, name, force):
    out = tmp_path / "out"
    if force:
        put(out)

    def notes(out):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine, and longer than before")

    text, where = kept(out, force, notes)
    assert where == tmp_path / "out.kept-1"
    assert f"{name.split('/')[0]} was put there meanwhile" in text
    assert tree(where) == FILES
    assert tree(out)[name] == b"mine, and longer than before"
    assert not (out / RUNNING).exists()


def test_a_folder_that_another_run_took_is_left_to_it(tmp_path):
    other = Holder(1, "another-host", "2026-01-01", 0.0)

    def taken(out):
        (out / RUNNING).write_bytes(other.to_bytes())

    text, where = kept(tmp_path / "out", meanwhile=taken)
    assert f"taken over by {other}" in text
    assert tree(where) == FILES
    assert read_holder(tmp_path / "out" / RUNNING) == other


def test_a_folder_that_vanished_is_made_again(tmp_path):
    def vanish(out):
        (out / RUNNING).unlink()
        out.rmdir()
        out.parent.rmdir()

    assert put(tmp_path / "runs" / "out", meanwhile=vanish) == []
    assert tree(tmp_path / "runs" / "out") == FILES


def test_a_file_in_the_folders_place_is_left_there(tmp_path):
    def replaced(out):
        (out / RUNNING).unlink()
        out.rmdir()
        out.write_text("mine")

    _, where = kept(tmp_path / "out", meanwhile=replaced)
    assert (tmp_path / "out").read_text() == "mine"
    assert tree(where) == FILES


# ── what the system refuses ──────────────────────────────────────────────────────────────────────


def test_kept_in_the_temporary_folder_where_nothing_beside_can_be_written(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    write_bytes = Path.write_bytes

    def full(path, data):
        if "disk" in path.parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    text, where = kept(tmp_path / "disk" / "out")
    assert text.startswith(f"--out: {tmp_path / 'disk' / 'out'}: No space left on device; the")
    assert where.parent == elsewhere
    assert tree(where) == FILES
    assert not (tmp_path / "disk").exists()


def test_a_result_that_can_be_kept_nowhere_is_reported_as_lost(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(EmulatorError, match=r"No space left on device; nor can .*: it is lost$"):
        put(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_at_the_end_costs_nothing(tmp_path, monkeypatch):
    """Two megabytes of file system, a result of three."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"no file system of two megabytes here: {mounted.stderr.strip()}")
    big = {**FILES, "weights.safetensors": bytes(3 << 20)}
    try:
        with pytest.raises(EmulatorError, match="No space left on device; the result is kept in "):
            put(disk / "out", files=big)
        assert list(disk.iterdir()) == []
        with pytest.raises(EmulatorError, match="No space left on device; the result is kept in "):
            put(disk, files=big)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert tree(tmp_path / "disk.kept-1") == tree(elsewhere / "out.kept-1") == big


def test_runs_that_start_together_share_no_folder(tmp_path):
    """Each of eight processes claims the folder as soon as it can; one has it."""
    code = HOLDS.replace("time.sleep(6000)", "sys.stdin.read()")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "out")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(8)
    ]  # fmt: skip
    until_s = time.monotonic() + LIMIT_S
    while sum(process.poll() is None for process in processes) > 1 and time.monotonic() < until_s:
        time.sleep(0.02)
    ends = [process.communicate() for process in processes]
    assert sorted(process.returncode for process in processes) == [0] + [1] * 7
    assert [stdout for stdout, _ in ends].count("held\n") == 1
    assert sum("a run is under way" in stderr or "unreadable" in stderr for _, stderr in ends) == 7
    assert list(tmp_path.iterdir()) == []
