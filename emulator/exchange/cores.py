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

    def take(self) -> None:
        """Wait for a permit. It is kept until the process ends, but for the times it is lent."""
        os.read(self._free_fd, 1)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """While this device waits, another computes. Who fails meanwhile needs no permit any more."""
        os.write(self._lent_fd, b"\0")
        yield
        self.take()

    def give_back(self) -> None:
        """For good: this device has nothing more to compute."""
        os.write(self._lent_fd, b"\0")

    def close(self) -> None:
        """Close this process's ends of the pipe."""
        os.close(self._free_fd)
        os.close(self._lent_fd)
