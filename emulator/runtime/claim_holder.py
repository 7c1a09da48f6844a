"""Which process a folder belongs to while it runs there, and whether that process is still alive."""

import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

_SAME_START_S = 10.0
"""Start times of one process that are read at different times differ by less (clocks are adjusted)."""


@dataclass(frozen=True)
class Holder:
    """The process that runs in a folder."""

    pid: int
    host: str
    started: str
    """When it claimed the folder, ISO 8601."""
    process_started_s: float
    """When the process began [s since 1970]: later processes may have the same number."""

    @classmethod
    def own(cls) -> "Holder":
        """This process, now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(os.getpid(), socket.gethostname(), now, psutil.Process().create_time())

    @classmethod
    def from_bytes(cls, data: bytes) -> "Holder | None":
        """What `to_bytes` wrote; None for anything else."""
        try:
            fields = json.loads(data)
            return cls(
                int(fields["pid"]),
                str(fields["host"]),
                str(fields["started"]),
                float(fields["process_started_s"]),
            )
        except (ValueError, LookupError, TypeError, RecursionError, OverflowError):
            return None

    def to_bytes(self) -> bytes:
        """As JSON."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    @property
    def is_here(self) -> bool:
        """Whether it ran on this host, so that its death can be seen."""
        return self.host == socket.gethostname()

    @property
    def is_running(self) -> bool:
        """Whether the process still runs; of a process of this host only."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.process_started_s) < _SAME_START_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, ValueError, OverflowError):  # or none could have that number
            return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.started}"


def read_holder(marker: Path) -> Holder | None:
    """Whose claim a file is; None where there is none, or one that cannot be read."""
    try:
        if not marker.is_file():  # a pipe would be waited for
            return None
        return Holder.from_bytes(marker.read_bytes())
    except OSError:
        return None
