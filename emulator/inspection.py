"""What a device finds out about itself around an exchange: forgetting, dilution, how far it was moved.

Shapes: N coordinates of the trained vector.
"""

from collections.abc import Callable

import numpy as np

from emulator.answering import Answering
from emulator.protocols import Own
from emulator.state import DoubleArray, FloatArray


class Inspection:
    """Looks before and after the exchanges of every `every`-th round (0: never) and changes nothing.

    Metrics: `before_*` and `own_*`, own-task accuracy of the own adapter before and after; `diluted_*`,
    the control without which a drop proves no interference: the own adapter averaged, as the method
    averages, with ones that nobody has touched; `exchange_shift`, ||after - before|| / ||before
    - start|| of the trained vector, unless the exchange starts a fresh one (stacking): that was never
    moved.
    """

    def __init__(self, own: Own, answering: Answering, every: int) -> None:
        self._own = own
        self._answering = answering
        self._every = every

    def start(self) -> None:
        """From here the adapter is touched; kept only where somebody will look."""
        if self._every > 0:
            self._start_N = self._own.adapted.vector()
            self._trained_N: FloatArray | None = None

    def before(self, round_index: int) -> None:
        """After the local steps of a round."""
        if not self._looks_in(round_index):
            return
        self._trained_N = self._own.adapted.vector()
        self._try("before_", round_index)

    def diluted(self, own_share: Callable[[], DoubleArray], round_index: int) -> None:
        """In the exchange, before anything of others is in it; own_share: the own values' weight [N]."""
        if not self._looks_in(round_index):
            return
        adapted = self._own.adapted
        trained_N = adapted.vector()
        diluted_N = self._start_N + own_share() * (trained_N - self._start_N)
        adapted.load(diluted_N.astype(np.float32))
        self._try("diluted_", round_index)
        adapted.load(trained_N)

    def after(self, round_index: int) -> None:
        """After the exchange."""
        if not self._looks_in(round_index):
            return
        self._try("own_", round_index)
        if self._trained_N is None:  # started afresh since
            return
        moved = float(np.linalg.norm(self._own.adapted.vector() - self._trained_N))
        learnt = float(np.linalg.norm(self._trained_N - self._start_N))
        if learnt > 0:
            self._own.measure("exchange_shift", moved / learnt, round_index)

    def _looks_in(self, round_index: int) -> bool:
        return self._every > 0 and (round_index + 1) % self._every == 0

    def _try(self, prefix: str, round_index: int) -> None:
        """Own-task accuracy of the adapter as it stands."""
        own, task = self._own, self._own.shard.task
        for metric, _, value in self._answering.alone(own.adapted.module, task, prefix):
            own.measure(metric, value, round_index, task)
