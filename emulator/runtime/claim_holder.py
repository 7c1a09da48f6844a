"""The process that has claimed a folder for its run, and whether it is still running."""

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
    """The process that has claimed a folder."""

    pid: int
    host: str
    started: str
    """Time of the claim, ISO 8601."""
    process_started_s: float
    """Start of the process [s since 1970]; later processes may have the same number."""

    @classmethod
    def own(cls) -> "Holder":
        """This process with the present time."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(os.getpid(), socket.gethostname(), now, psutil.Process().create_time())

    @classmethod
    def from_bytes(cls, data: bytes) -> "Holder | None":
        """The holder that `to_bytes` wrote; None for any other bytes."""
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
        """Return the holder as JSON; `from_bytes` reads it."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    @property
    def is_here(self) -> bool:
        """Whether the process belongs to this host, where `is_running` can be asked."""
        return self.host == socket.gethostname()

    @property
    def is_running(self) -> bool:
        """Whether the process still runs. It is valid only for a process of this host."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.process_started_s) < _SAME_START_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except (
            psutil.NoSuchProcess,
            ValueError,
            OverflowError,
        ):  # or no process can have the number
            return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.started}"


def read_holder(marker: Path) -> Holder | None:
    """Read the holder from a claim file; None where there is no file or it cannot be read."""
    try:
        if not marker.is_file():  # reading a pipe would block
            return None
        return Holder.from_bytes(marker.read_bytes())
    except OSError:
        return None
