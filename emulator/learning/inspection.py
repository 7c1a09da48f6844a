"""Measurements of a device before and after an exchange: forgetting, dilution, shift.

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
    """Measures before and after the exchange of every `every`-th round (0: never). It changes nothing.

    Metrics: `before_*` and `own_*` are the accuracy of the device's adapter on its own task before and
    after the exchange. `diluted_*` is the control: the accuracy after the same exchange if the other
    devices had learnt nothing in this round; without it, a drop in accuracy does not prove interference.
    `exchange_shift` is ||after - before|| / ||before - start|| of the trained vector, where start is the
    vector at the start of the rounds. It is not measured if the exchange starts a new vector (stacking).

    The control replaces every received vector with b0, the device's own vector before this round's local
    steps. If the weights sum to one, the result is b0 + share * (b1 - b0), with the trained vector b1 and
    the weight `share` of the device's own value at each coordinate. b0 is the vector after the last
    exchange: with a method that exchanges only in some rounds (experts_once), the control leaves out the
    other devices' local steps of all rounds since then. Devices whose vectors differed before the round
    (in a sparse graph) differ in the exchange, but not in the control.
    """

    def __init__(
        self,
        task: str,
        answering: Answering,
        every: int,
        as_received: Callable[[FloatArray], FloatArray],
        log: LogContext,
    ) -> None:
        """task: the device's own. as_received: rounds a vector [N] to the type in which it is sent."""
        self._task = task
        self._answering = answering
        self._every = every
        self._as_received = as_received
        self._log = log
        self._round_index = SETUP_ROUND

    def start(self, adapted: AdaptedModel) -> None:
        """Record the present vector as the start of the rounds."""
        if self._every > 0:
            self._start_N = adapted.vector()
            self._before_steps_N = self._start_N
            self._trained_N: FloatArray | None = None
            self._merged = False

    def before_exchange(self, adapted: AdaptedModel, round_index: int) -> None:
        """Measure after the local steps of a round."""
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
        """Measure the control, before the result of the exchange is loaded; see ModelContext."""
        self._merged = True
        if not self._measures_now:
            return
        trained_N = adapted.vector()
        b0_N = self._as_received(self._before_steps_N)
        adapted.load(merged(replace_values(received, b0_N)))
        self._measure_accuracy("diluted_", adapted)
        adapted.load(trained_N)

    def after_exchange(self, adapted: AdaptedModel) -> None:
        """Measure after the exchange, or after a round without an exchange."""
        if self._every > 0 and self._merged:
            self._before_steps_N, self._merged = adapted.vector(), False
        if not self._measures_now:
            return
        self._measure_accuracy("own_", adapted)
        if self._trained_N is None:  # the exchange started a new vector
            return
        moved = float(np.linalg.norm(adapted.vector() - self._trained_N))
        learnt = float(np.linalg.norm(self._trained_N - self._start_N))
        if learnt > 0:
            self._log.metric("exchange_shift", moved / learnt, self._round_index)

    def state(self) -> State:
        """The vectors with which later rounds are compared; None if nothing is measured."""
        if self._every == 0:
            return None
        return {"start": self._start_N, "before_steps": self._before_steps_N}

    def restore(self, state: State) -> None:
        """Restore a state."""
        if state is not None:
            self._start_N, self._before_steps_N = state["start"], state["before_steps"]
            self._trained_N, self._merged = None, False

    @property
    def _measures_now(self) -> bool:
        return self._every > 0 and (self._round_index + 1) % self._every == 0

    def _measure_accuracy(self, prefix: str, adapted: AdaptedModel) -> None:
        """Measure the accuracy of the present adapter on the device's own task."""
        for metric, _, value in self._answering.measure_model(adapted.module, self._task, prefix):
            self._log.metric(metric, value, self._round_index, self._task)


def replace_values(received: Sequence[Received], vector_N: FloatArray) -> list[Received]:
    """Replace the values of messages with those of a vector [N]; lost coordinates stay lost."""
    return [
        replace(each, values=np.where(each.received, vector_N, 0).astype(np.float32))
        for each in received
    ]
