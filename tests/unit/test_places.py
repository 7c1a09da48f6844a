"""Folders that cannot be a run's are found before its first step, and nothing is made there."""

from pathlib import Path

import pytest

from emulator.claim import check_folder, claimed
from emulator.errors import ScenarioError


def began(out, force=False) -> None:
    """A run whose first step is never reached."""
    with claimed(out, force=force, say=print):
        pytest.fail("it began")


def refusal(out) -> str:
    """One line; the look alone says the same."""
    lines = []
    for ask in (lambda: check_folder(out, force=False), lambda: began(out)):
        with pytest.raises(ScenarioError) as caught:
            ask()
        lines += caught.value.problems
    assert len(set(lines)) == 1
    assert "\n" not in lines[0]
    return lines[0]


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
def test_what_only_trying_can_tell_is_found_before_the_first_step():
    with pytest.raises(
        ScenarioError, match="--out: got /proc/out, wanted a folder that can be made"
    ):
        began(Path("/proc/out"))
