"""A scenario of a few seconds: two devices, one round of one step."""

from pathlib import Path

QUICK = """\
name: quick
devices: 2
rounds: 1
tasks: {kind: synthetic, names: [reverse, sort], train_samples: 100, test_samples: 4}
topology: {kind: by_method, degree: 1}
local: {steps: 1}
"""


def quick_scenario(folder: Path) -> Path:
    """Its file in a folder."""
    path = folder / "quick.yaml"
    path.write_text(QUICK, encoding="utf-8")
    return path
