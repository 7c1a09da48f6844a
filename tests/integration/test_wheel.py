"""The built wheel holds all that the commands read: presets and experiments, not only code."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from processes import LIMIT_S

ROOT = Path(__file__).resolve().parents[2]


def called(command: list[str], place: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=place,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel unpacked, as pip would install it; dependencies are this environment's."""
    place = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        str(place),
    ]
    done = called(build, ROOT)
    assert done.returncode == 0, done.stderr
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return place / "site"


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        (["check", str(ROOT / "configs/quickstart.yaml"), "channel=paper"], "kind: wireless"),
        (["channel", "show", "paper"], "path loss"),
        (["reproduce", "table1", "--dry-run"], "sparse_orthogonal"),
        (["run", str(ROOT / "configs/quickstart.yaml"), "--dry-run"], ""),
    ],
    ids=["check", "channel show", "reproduce", "embedded backbone"],
)
def test_commands_find_what_they_need_in_the_wheel(
    installed: Path, tmp_path: Path, order: list[str], wanted: str
) -> None:
    done = called([sys.executable, "-m", "emulator", *order], tmp_path, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    assert wanted in done.stdout


def test_the_wheel_is_what_ran(installed: Path, tmp_path: Path) -> None:
    code = "import emulator; print(emulator.__file__)"
    done = called([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(installed))
    assert done.stdout.strip() == str(installed / "emulator" / "__init__.py")
