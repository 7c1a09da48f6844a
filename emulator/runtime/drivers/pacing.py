"""The paced clock: bursts leave when emulated time says so, in wall time.

Everything was computed for the virtual clock; here it is only played. Every frame has its moment,
counted from one start: a burst of n frames that is on the air from start_s to arrival_s has its k-th
frame complete at start_s + (k + 1) / n of the way. Nothing is slept by the piece, so no error adds up.
A frame that leaves after its moment, because the machine was busy, lags; what lags is reported.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from emulator.core.types.transmission import Burst


class Pacer:
    """Waits for moments of emulated time. time_scale: wall seconds for an emulated one."""

    def __init__(
        self,
        time_scale: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Emulated time 0 is now."""
        self._time_scale = time_scale
        self._clock = clock
        self._sleep = sleep
        self._start_s = clock()
        self._lags_s: list[float] = []

    def wait_until(self, emulated_s: float) -> None:
        """Return at that moment, or at once if it has passed, and remember by how much."""
        due_s = self._start_s + emulated_s * self._time_scale
        while (ahead_s := due_s - self._clock()) > 0.0:
            self._sleep(ahead_s)
        self._lags_s.append(-ahead_s)

    def summarise_lag(self) -> dict[str, float]:
        """Wall time by which frames left too late: median, 99th percentile, maximum [s], and how many."""
        lags_s = np.array(self._lags_s or [0.0])
        p50_s, p99_s = np.percentile(lags_s, [50, 99]).tolist()
        return {
            "lag_p50_s": p50_s,
            "lag_p99_s": p99_s,
            "lag_max_s": float(lags_s.max()),
            "frames": float(len(self._lags_s)),
        }


def schedule_frames(
    bursts: Sequence[Burst], frame_counts: Sequence[int]
) -> Iterator[tuple[float, int, int]]:
    """(emulated time, burst, frame) of all frames of an exchange, in the order of time.

    frame_counts: how many frames each burst has, at least one.
    """
    yield from sorted(
        (burst.start_s + (frame + 1) / count * (burst.arrival_s - burst.start_s), index, frame)
        for index, (burst, count) in enumerate(zip(bursts, frame_counts, strict=True))
        for frame in range(count)
    )
