"""Runs that claim an output folder and put their files there, without anything being run."""

from pathlib import Path

import pytest

from emulator.core.errors import ScenarioError
from emulator.runtime.folder_claim import check_folder, claim_folder

FILES = {
    "scenario.yaml": b"name: x\n",
    "adapters/device-00/adapter_config.json": b"{}",
    "summary.json": b"{}",
}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def put(out, force=False, meanwhile=lambda out: None, files=FILES) -> list[str]:
    """Put the files of a run; return its notes."""
    notes: list[str] = []
    with claim_folder(out, force=force, print_line=notes.append) as claim:
        meanwhile(out)
        claim.put(files)
    return notes


def refusal(out, force=False) -> str:
    """Return the one line of a refusal, which the check alone gives, too; nothing is created."""
    lines = []
    for ask in (lambda: check_folder(out, force=force), lambda: put(out, force)):
        with pytest.raises(ScenarioError) as caught:
            ask()
        lines += caught.value.problems
    assert len(set(lines)) == 1
    assert "\n" not in lines[0]
    return lines[0]
