"""As many devices compute at a time as there are cores: more would only take each other's caches.

Permits lie in a pipe that all devices of a machine inherit, a byte each. Who computes has one, and lends
it to others while it waits for bursts.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def cores_here() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Cores:
    """Permits for the devices of one machine; made before they are forked."""

    def __init__(self, count: int) -> None:
        self._free_fd, self._lent_fd = os.pipe()
        os.write(self._lent_fd, bytes(count))

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for a permit and compute. Who fails meanwhile ends the run, and nobody needs it back."""
        self._take()
        yield
        self._give()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """While this device waits, another computes. Who fails meanwhile needs no permit any more."""
        self._give()
        yield
        self._take()

    def _take(self) -> None:
        os.read(self._free_fd, 1)

    def _give(self) -> None:
        os.write(self._lent_fd, b"\0")

    def close(self) -> None:
        """Close this process's ends of the pipe."""
        os.close(self._free_fd)
        os.close(self._lent_fd)
