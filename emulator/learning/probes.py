"""What a device finds out about itself around an exchange: forgetting, dilution, how far it was moved.

Shapes: N coordinates of the trained vector.
"""

from collections.abc import Callable

import numpy as np

from emulator.core.protocols.method import Own
from emulator.core.types.arrays import FloatArray
from emulator.learning.evaluation import Answering


class Inspection:
    """Looks before and after the exchanges of every `every`-th round (0: never) and changes nothing.

    Metrics: `before_*` and `own_*`, own-task accuracy of the own adapter before and after; `diluted_*`,
    the control without which a drop proves no interference: the same exchange if the others had learnt
    nothing in this round; `exchange_shift`, ||after - before|| / ||before - start|| of the trained
    vector, start being where the rounds began, unless the exchange starts a fresh one (stacking): that
    was never moved.

    The control puts b0, the own vector before this round's local steps, in the place of every vector
    that was received. Where the weights sum to one it is b0 + share * (b1 - b0), b1 the trained vector
    and share the weight of the own value at each coordinate. b0 is the vector after the last exchange:
    a method that exchanges in some rounds only (experts_once) has the local steps of several rounds
    between two exchanges, and the control then takes all of them from the others. Devices that
    disagreed before the round (a sparse graph) disagree in the exchange and agree in the control.
    """

    def __init__(self, own: Own, answering: Answering, every: int) -> None:
        self._own = own
        self._answering = answering
        self._every = every

    def start(self) -> None:
        """From here the adapter is touched; kept only where somebody will look."""
        if self._every > 0:
            self._start_N = self._own.adapted.vector()
            self._before_steps_N = self._start_N
            self._trained_N: FloatArray | None = None
            self._exchanges = False

    def before(self, round_index: int) -> None:
        """After the local steps of a round."""
        if not self._looks_in(round_index):
            return
        self._trained_N = self._own.adapted.vector()
        self._try("before_", round_index)

    def diluted(self, merged: Callable[[FloatArray], FloatArray], round_index: int) -> None:
        """In the exchange, before its result is loaded. merged: the method's own merge, from what every
        received vector would be, b0 as the wire rounds it [N], to the vector of after the exchange [N]."""
        self._exchanges = True
        if not self._looks_in(round_index):
            return
        own, adapted = self._own, self._own.adapted
        trained_N = adapted.vector()
        adapted.load(merged(own.as_received(self._before_steps_N)))
        self._try("diluted_", round_index)
        adapted.load(trained_N)

    def after(self, round_index: int) -> None:
        """After the exchange, or after a round without one."""
        if self._every > 0 and self._exchanges:
            self._before_steps_N, self._exchanges = self._own.adapted.vector(), False
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
