"""How a device answers: its router learns from everybody's statistics, its experts answer together.

Shapes: S sequences, E experts, p projected width.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from emulator.adapters.attach import frozen_twin, own_twin
from emulator.backbone.loading import Backbone
from emulator.protocols import Learner
from emulator.routing.experts import RoutedModel
from emulator.routing.gates import Discriminant, RidgeLda
from emulator.routing.whole import RoutedWeights
from emulator.state import AdapterLayout, Example, Expert, FloatArray
from emulator.tasks.learning import score
from emulator.world import World

Measurement = tuple[str, str, float]
"""Metric, task, value."""


class Answering:
    """One device's router and what it does with experts."""

    def __init__(self, world: World, learner: Learner) -> None:
        self._world = world
        self._learner = learner
        self._task_names = world.scenario.tasks.names
        self._layout = AdapterLayout((), ())
        self._discriminant: Discriminant | None = None

    def statistics(self, sample: Sequence[Example]) -> tuple[AdapterLayout, FloatArray]:
        """Additive statistics of some training prompts; empty where the router needs none."""
        router, backbone = self._world.scenario.router, self._world.backbone
        if not isinstance(router, RidgeLda):
            return self._layout, np.zeros(0, dtype=np.float32)
        texts = [self._learner.router_text(example) for example in sample]
        states = backbone.prompt_states(texts, router.gate_layer)
        self._layout = router.layout(states.shape[1], len(self._task_names))
        task_of = [self._task_names.index(example.task) for example in sample]
        projected = router.project(states, self._world.scenario.seed)
        return self._layout, router.statistics(projected, task_of, len(self._task_names))

    def fit(self, statistics: FloatArray) -> None:
        """Fit the router to the summed statistics of all devices."""
        router = self._world.scenario.router
        if isinstance(router, RidgeLda):
            self._discriminant = router.fit(self._layout.split(statistics))

    def router(self) -> dict[str, FloatArray]:
        """The fitted router's tensors; empty where there is none."""
        return self._discriminant.tensors() if self._discriminant else {}

    def alone(self, model: nn.Module, task: str, prefix: str) -> Iterator[Measurement]:
        """How one model does on a task's test examples."""
        tests = self._world.tests[task]
        for metric, value in score(self._learner.predict(model, tests), tests).items():
            yield f"{prefix}{metric}", task, value

    def together(self, experts: Sequence[Expert]) -> Iterator[Measurement]:
        """Answer the test examples of every task; which task it is, only the router may guess.

        Examples with equal gates are answered in one go.
        """
        mixture = mixture_of(self._world.backbone, experts)
        for task, tests in self._world.tests.items():
            gates_SE = self._gates(task, experts)
            answers = [""] * len(tests)
            rows, group_of_S = np.unique(gates_SE, axis=0, return_inverse=True)
            for group, row_E in enumerate(rows):
                chosen = np.flatnonzero(group_of_S == group)
                mixture.set_gates(torch.from_numpy(row_E[None]))
                predicted = self._learner.predict(mixture.module, [tests[i] for i in chosen])
                for index, text in zip(chosen, predicted, strict=True):
                    answers[index] = text
            for metric, value in score(answers, tests).items():
                yield metric, task, value
            if len(experts) > 1 and self._world.scenario.router.kind != "uniform":
                yield from _routing(task, experts, gates_SE)

    def _gates(self, task: str, experts: Sequence[Expert]) -> FloatArray:
        """Gates of a task's test examples over the experts [S, E]."""
        count = len(self._world.tests[task])
        if len(experts) == 1 or self._world.scenario.router.kind == "uniform":
            return np.ones((count, len(experts)), dtype=np.float32)
        if self._discriminant is None:
            row_E = np.array([expert.task == task for expert in experts], dtype=np.float32)
            return np.tile(row_E, (count, 1))
        gates = self._discriminant.gates(self._world.test_states[task]).numpy()
        columns = [self._task_names.index(expert.task) for expert in experts]
        chosen: FloatArray = gates[:, columns]
        return chosen


def mixture_of(backbone: Backbone, experts: Sequence[Expert]) -> RoutedModel | RoutedWeights:
    """The backbone and all that answers with it: stacked adapters, or whole weights in turn."""
    if experts[0].form == "weights":
        return RoutedWeights(backbone.model, experts, own_twin)
    return RoutedModel(backbone.model, experts, frozen_twin)


def _routing(task: str, experts: Sequence[Expert], gates_SE: FloatArray) -> Iterator[Measurement]:
    """Where a task's examples were sent, as shares; `routing_accuracy` is the right one."""
    winner_S = gates_SE.argmax(axis=1)
    for index, expert in enumerate(experts):
        share = float((winner_S == index).mean())
        yield f"routed_to/{expert.task}", task, share
        if expert.task == task:
            yield "routing_accuracy", task, share
