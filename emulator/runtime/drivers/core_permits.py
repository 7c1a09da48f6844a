"""Limits how many devices compute at a time to the number of cores; more would only share caches.

A semaphore that all devices of a machine inherit counts the free cores. A device holds one core while
it computes, and releases it while it waits for others.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Semaphore


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def release_core(core: Semaphore) -> Iterator[None]:
    """Release the core inside the context, and take one again after it; after an exception take none."""
    core.release()
    yield
    core.acquire()
