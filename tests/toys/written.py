"""What a run has written, to be compared with what another has."""

import json
from pathlib import Path

MACHINE_KEYS = ("wall_s", "cpu_s", "train_cpu_s", "peak_rss_mb", "own_memory_mb")


def files_of(out: Path) -> dict[str, bytes]:
    """All files of a run; what describes the machine taken out."""
    files = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    del files["environment.json"]
    summary = json.loads(files["summary.json"])
    assert all(summary.pop(key) >= 0 for key in MACHINE_KEYS)
    files["summary.json"] = json.dumps(summary).encode()
    return files
