"""As many devices compute at a time as there are cores: more would only take each other's caches.

A semaphore that all devices of a machine inherit counts the free cores. A device that computes holds
one, and releases it while it waits for others.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Semaphore


def count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def release_core(core: Semaphore) -> Iterator[None]:
    """While this device waits, another computes. A device that fails meanwhile needs no core any more."""
    core.release()
    yield
    core.acquire()
