"""What is measured of a device around an exchange: forgetting, dilution, how far it was moved.

Shapes: N coordinates of the trained vector.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from emulator.core.protocols.backbone import AdaptedModel
from emulator.core.protocols.context import LogContext
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Received
from emulator.core.types.records import SETUP_ROUND
from emulator.core.types.steps import State
from emulator.learning.evaluation import Answering


class Inspection:
    """Measures before and after the exchanges of every `every`-th round (0: never); it changes nothing.

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

    def __init__(
        self,
        task: str,
        answering: Answering,
        every: int,
        as_received: Callable[[FloatArray], FloatArray],
        log: LogContext,
    ) -> None:
        """task: the device's own. as_received: rounds a vector [N] to the type of the wire."""
        self._task = task
        self._answering = answering
        self._every = every
        self._as_received = as_received
        self._log = log
        self._round_index = SETUP_ROUND

    def start(self, adapted: AdaptedModel) -> None:
        """The rounds start from the present vector."""
        if self._every > 0:
            self._start_N = adapted.vector()
            self._before_steps_N = self._start_N
            self._trained_N: FloatArray | None = None
            self._merged = False

    def before_exchange(self, adapted: AdaptedModel, round_index: int) -> None:
        """After the local steps of a round."""
        self._round_index = round_index
        if not self._measures_now:
            return
        self._trained_N = adapted.vector()
        self._measure_accuracy("before_", adapted)

    def try_diluted(
        self,
        adapted: AdaptedModel,
        merged: Callable[[Sequence[Received]], FloatArray],
        received: Sequence[Received],
    ) -> None:
        """In the exchange, before its result is loaded: see ModelContext.try_diluted."""
        self._merged = True
        if not self._measures_now:
            return
        trained_N = adapted.vector()
        b0_N = self._as_received(self._before_steps_N)
        adapted.load(merged(all_at(b0_N, received)))
        self._measure_accuracy("diluted_", adapted)
        adapted.load(trained_N)

    def after_exchange(self, adapted: AdaptedModel) -> None:
        """After the exchange, or after a round without one."""
        if self._every > 0 and self._merged:
            self._before_steps_N, self._merged = adapted.vector(), False
        if not self._measures_now:
            return
        self._measure_accuracy("own_", adapted)
        if self._trained_N is None:  # started afresh since
            return
        moved = float(np.linalg.norm(adapted.vector() - self._trained_N))
        learnt = float(np.linalg.norm(self._trained_N - self._start_N))
        if learnt > 0:
            self._log.metric("exchange_shift", moved / learnt, self._round_index)

    def state(self) -> State:
        """The vectors that later rounds are compared with; None where nothing is measured."""
        if self._every == 0:
            return None
        return {"start": self._start_N, "before_steps": self._before_steps_N}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        if state is not None:
            self._start_N, self._before_steps_N = state["start"], state["before_steps"]
            self._trained_N, self._merged = None, False

    @property
    def _measures_now(self) -> bool:
        return self._every > 0 and (self._round_index + 1) % self._every == 0

    def _measure_accuracy(self, prefix: str, adapted: AdaptedModel) -> None:
        """Accuracy on the own task with the adapter as it is."""
        for metric, _, value in self._answering.alone(adapted.module, self._task, prefix):
            self._log.metric(metric, value, self._round_index, self._task)


def all_at(vector_N: FloatArray, received: Sequence[Received]) -> list[Received]:
    """The same messages, each with this vector's values where it has any; the same is lost."""
    return [
        replace(each, values=np.where(each.received, vector_N, 0).astype(np.float32))
        for each in received
    ]
