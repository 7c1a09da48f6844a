"""What a run has written, compared with what another has: `python tests/support/written.py RUN RUN`."""

import json
import re
import sys
from pathlib import Path

MACHINE_KEYS = ("wall_s", "cpu_s", "train_cpu_s", "peak_rss_mb", "own_memory_mb")

MANIFEST = re.compile(r"checkpoints/round-\d+/device-\d+\.json")
"""Of a checkpoint; it holds CPU and wall time."""


def files_of(out: Path) -> dict[str, bytes]:
    """All files of a run; what describes the machine taken out."""
    files = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    for name in ["environment.json", *filter(MANIFEST.fullmatch, files)]:
        del files[name]
    summary = json.loads(files["summary.json"])
    assert all(summary.pop(key) >= 0 for key in MACHINE_KEYS)
    files["summary.json"] = json.dumps(summary).encode()
    return files


def differences(one: Path, other: Path) -> list[str]:
    """Names of the files that only one of two runs has, or that differ."""
    first, second = files_of(one), files_of(other)
    return [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]


if __name__ == "__main__":
    here, there = map(Path, sys.argv[1:])
    if names := differences(here, there):
        sys.exit(f"{len(names)} files differ: {', '.join(names)}")
    print(f"{len(files_of(here))} files are the same bytes")
