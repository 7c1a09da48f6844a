"""The paced clock: it sends frames in wall time, at the times of the virtual clock.

The virtual clock has fixed all times before; the pacer only waits for them. All due times count from one
start, so waiting errors do not add up. Of a burst of n frames that is transmitted from start_s to
arrival_s, frame k (from 0) is due at start_s + (k + 1) / n · (arrival_s - start_s). A frame that leaves
later, because the machine was busy, has a lag, which is reported.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from emulator.core.types.transmission import Burst


class Pacer:
    """Waits until emulated times are due. time_scale: wall seconds per emulated second."""

    def __init__(
        self,
        time_scale: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        *,
        started_from_s: float = 0.0,
    ) -> None:
        """Start the clock: emulated time `started_from_s` is now."""
        self._time_scale = time_scale
        self._clock = clock
        self._sleep = sleep
        self._start_s = clock() - started_from_s * time_scale
        self._lags_s: list[float] = []

    def wait_until(self, emulated_s: float) -> None:
        """Wait until a time [emulated s]; return at once if it has passed. Record the lag [wall s]."""
        due_s = self._start_s + emulated_s * self._time_scale
        while (ahead_s := due_s - self._clock()) > 0.0:
            self._sleep(ahead_s)
        self._lags_s.append(-ahead_s)

    def summarise_lag(self) -> dict[str, float]:
        """Return median, 99th percentile and maximum of the frames' lags [wall s], and their number."""
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
    """Yield (due time [emulated s], burst index, frame index) of an exchange's frames, by due time.

    frame_counts: number of frames of each burst, at least one.
    """
    yield from sorted(
        (burst.start_s + (frame + 1) / count * (burst.arrival_s - burst.start_s), index, frame)
        for index, (burst, count) in enumerate(zip(bursts, frame_counts, strict=True))
        for frame in range(count)
    )
