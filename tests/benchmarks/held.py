"""What a device's process holds of the machine."""

import psutil

from emulator.runtime.run import own_memory_mb

UNITS = {"own memory": "MB", "descriptors": "", "threads": ""}
"""The printed quantity and its unit."""


def held_here() -> dict[str, float]:
    """Of this process."""
    own = psutil.Process()
    return dict(zip(UNITS, (own_memory_mb(), own.num_fds(), own.num_threads()), strict=True))
