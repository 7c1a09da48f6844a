"""What a device's process holds of the machine."""

from pathlib import Path

from emulator.runtime.run import own_memory_mb

UNITS = {"own memory": "MB", "descriptors": "", "threads": ""}
"""What is told, and in which unit."""


def held_here() -> dict[str, float]:
    """Of this process."""
    own = Path("/proc/self")
    counted = (len(list((own / folder).iterdir())) for folder in ("fd", "task"))
    return dict(zip(UNITS, (own_memory_mb(), *counted), strict=True))
