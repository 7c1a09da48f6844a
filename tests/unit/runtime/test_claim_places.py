"""Output folders that cannot be used are found before the first step; those that can are."""

import os
from pathlib import Path

import pytest
from claims import FILES, put, refusal, tree

from emulator.core.errors import ScenarioError
from emulator.runtime.claim_holder import read_holder
from emulator.runtime.folder_claim import RUNNING, clear_remains


def dangling(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    return tmp_path / "out"


def below_a_dangling_link(tmp_path):
    return dangling(tmp_path) / "deeper"


def a_file(tmp_path):
    (tmp_path / "out").write_text("x")
    return tmp_path / "out"


def below_a_file(tmp_path):
    return a_file(tmp_path) / "deeper"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (dangling, "out is a link to "),
        (below_a_dangling_link, "out is a link to "),
        (a_file, "which is a file, wanted a folder"),
        (below_a_file, "out is not one to write to"),
        (lambda tmp_path: tmp_path / ("n" * 300), "wanted a folder that can be made (File name too long)"),
        (lambda tmp_path: tmp_path / ("é" * 128), "wanted a folder that can be made (File name too long)"),
        (lambda tmp_path: tmp_path / "x" / ("n" * 300) / "y", "a name of 300 bytes; here they have at most 255"),
        (lambda tmp_path: tmp_path / "/".join(["n" * 200] * 19), "here they have at most 4096"),
        (lambda tmp_path: Path("/"), "which is not empty, wanted another folder or --force"),
    ],
    ids=[
        "dangling link", "below a dangling link", "file", "below a file", "long name",
        "long name in bytes", "long name in between", "long path", "root",
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_is_found_before_the_first_step(tmp_path, place, why):
    out = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert why in refusal(out)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is not here")
def test_what_only_a_write_shows_is_found_before_the_first_step():
    with pytest.raises(
        ScenarioError, match="--out: got /proc/out, wanted a folder that can be made"
    ):
        put(Path("/proc/out"), meanwhile=lambda out: pytest.fail("it began"))


def test_the_longest_name_is_good(tmp_path):
    out = tmp_path / ("n" * 255)
    put(out)
    assert tree(out) == FILES


def test_a_link_to_a_folder_is_a_folder(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "there")
    put(tmp_path / "out")
    assert tree(tmp_path / "there") == FILES


def test_only_the_folder_itself_has_to_be_writable(tmp_path, monkeypatch):
    """As a volume in a container whose root is read-only."""
    out = tmp_path / "out"
    out.mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and access(path, mode))
    put(out)
    assert tree(out) == FILES


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
@pytest.mark.parametrize("force", [False, True], ids=["new", "force"])
def test_a_claim_is_a_regular_file(tmp_path, kind, force):
    out = tmp_path / "out"
    put(out) if force else out.mkdir()
    make = {
        "pipe": os.mkfifo,
        "folder": Path.mkdir,
        "link": lambda marker: marker.symlink_to(tmp_path / "nowhere"),
    }
    make[kind](out / RUNNING)
    wanted = "whose running.json is no regular file, wanted another folder"
    assert refusal(out, force) == f"--out: got {out}, {wanted}"
    assert read_holder(out / RUNNING) is None
    clear_remains(out)
    assert os.path.lexists(out / RUNNING)
