"""The documentation as one text: README, then the READMEs of folders, in the order in which one reads them."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    "README.md",
    "launch/README.md",
    "configs/README.md",
    "emulator/analysis/README.md",
    "emulator/methods/README.md",
    "configs/experiments/README.md",
    "configs/experiments/RESULTS.md",
    "emulator/README.md",
)
GUIDE = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in FILES)
