"""How a device answers: its router uses the statistics of all devices, its experts answer together.

Shapes: S questions, T tasks, E experts.
"""

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from emulator.core.errors import EmulatorError
from emulator.core.names import Name
from emulator.core.protocols.router import Router
from emulator.core.protocols.tasks import Learner
from emulator.core.section import Section
from emulator.core.types.adapter import AdapterLayout
from emulator.core.types.arrays import DoubleArray, FloatArray
from emulator.core.types.data import Example, Question
from emulator.core.types.result import Expert
from emulator.core.types.steps import State
from emulator.learning.adapters.lora import frozen_twin, own_twin
from emulator.learning.backbone.load import Backbone
from emulator.learning.routing.confusion import ABSTAINED, auroc, route_shares
from emulator.learning.routing.mixture import RoutedModel, expert_gates
from emulator.learning.routing.mixture_of_models import RoutedWeights
from emulator.learning.routing.trial import describe, find_wrong_gates, try_router
from emulator.learning.tasks.learner import learner_for, score

Measurement = tuple[str, str, float]
"""Metric, task, value."""

Mixture = RoutedModel | RoutedWeights
"""The backbone with experts, each weighted by its gate."""

Result = TypeVar("Result")


class Evaluation(Section):
    """Measurements in addition to the final answers of every device to every task."""

    own_task_every: int = Field(
        default=0, ge=0, description="rounds between measurements of own-task accuracy; 0: none"
    )
    curve_every: int = Field(
        default=0,
        ge=0,
        description="rounds between the points of a curve: what every device would answer, and what it would "
        "have cost, had the run ended there (metrics curve/...); 0: none",
    )
    paraphrases: Literal["none", "routing", "answers"] = Field(
        default="none",
        description="measurements on paraphrased test questions: none, their routing, or also their "
        "answers",
    )
    unseen_tasks: tuple[Name, ...] = Field(
        default=(),
        description="tasks of the suite that no device learns: out-of-distribution questions for the "
        "router",
    )
    controls: tuple[Literal["alone", "summed", "averaged", "diluted"], ...] = Field(
        default=(),
        description="answers to the own task without a router, as controls: by the own expert alone; "
        "by the sum of all experts; by their mean; by that mean if the others had learnt nothing",
    )
    split: Literal["test", "validation"] = Field(
        default="test",
        description="the questions; validation: a tenth of each task's training examples (at most as "
        "many as test examples), which are then left out of training",
    )


@dataclass(frozen=True, eq=False)
class TaskQuestions:
    """Examples of one task, and the router's features of them (None under a method without routing)."""

    examples: tuple[Example, ...]
    features: Any


@dataclass(frozen=True, eq=False)
class Questions:
    """The questions of an evaluation, by task.

    tests: the test split, or the validation split. paraphrased: the same questions in other words; empty
    unless `evaluation` asks for them. unseen: test examples of tasks that no device learns
    (out-of-distribution tasks).
    """

    tests: Mapping[str, TaskQuestions]
    paraphrased: Mapping[str, TaskQuestions]
    unseen: Mapping[str, TaskQuestions]


class ResultCache(Protocol):
    """A cache of results that are equal for all devices; one computation serves the whole process."""

    def __call__(self, key: Hashable, work: Callable[[], Result]) -> Result:
        """The result of `work`. key: the name of the result and everything that it depends on."""
        ...


@dataclass(frozen=True)
class Routing:
    """The router of a run, and the way in which the method combines experts with the backbone.

    routed: whether the method uses a router. active_ranks: number of rank-1 parts of the experts that
    each token uses (None: all).
    """

    router: Router
    task_names: tuple[str, ...]
    seed: int
    routed: bool
    active_ranks: int | None

    def features(self, backbone: Backbone, examples: Sequence[Example]) -> Any:
        """The router's features of examples; None under a method without routing."""
        if not self.routed:
            return None
        learner, names = learner_for(backbone), self.task_names
        questions = [
            Question(learner.router_text(e), names.index(e.task) if e.task in names else None)
            for e in examples
        ]
        return self.router.features(backbone, questions, self.seed)

    def read(self, backbone: Backbone, questions: Questions) -> Questions:
        """Return the same questions with the router's features.

        The router is tried out on them. Raises ScenarioError if its results break its interface.
        """

        def add_features(by_task: Mapping[str, TaskQuestions]) -> dict[str, TaskQuestions]:
            return {
                task: TaskQuestions(each.examples, self.features(backbone, each.examples))
                for task, each in by_task.items()
            }

        tests = add_features(questions.tests)
        if self.routed:
            names = self.task_names
            known = {names.index(t): (q.features, len(q.examples)) for t, q in tests.items()}
            try_router(self.router, known, len(names))
        return Questions(tests, add_features(questions.paraphrased), add_features(questions.unseen))

    def mixture(self, backbone: Backbone, experts: Sequence[Expert]) -> Mixture:
        """The backbone with all experts: a stack of low-rank experts, or whole weights in turn."""
        if experts[0].form == "weights":
            return RoutedWeights(backbone.model, experts, own_twin)
        layer_gate = self.router.layer_gate
        return RoutedModel(backbone.model, experts, frozen_twin, self.active_ranks, layer_gate)


class Answering:
    """The router of one device, and the answers of its experts."""

    def __init__(
        self,
        backbone: Backbone,
        learner: Learner,
        routing: Routing,
        questions: Questions,
        evaluation: Evaluation,
        cache: ResultCache,
        sample: Sequence[Example],
    ) -> None:
        """sample: the device's training examples from which its routing statistics are computed."""
        self._backbone = backbone
        self._learner = learner
        self._routing = routing
        self._questions = questions
        self._evaluation = evaluation
        self._cache = cache
        self._sample = sample
        self._router, self._task_names = routing.router, routing.task_names
        self._layout = AdapterLayout((), ())
        self._own_features: Any = None
        self._fitted: Mapping[str, FloatArray] = {}

    def statistics(self) -> tuple[AdapterLayout, FloatArray]:
        """Additive statistics of the device's training prompts; empty if the router needs none."""
        num_tasks = len(self._task_names)
        self._own_features = self._routing.features(self._backbone, self._sample)
        task_of_S = [self._task_names.index(example.task) for example in self._sample]
        parts = self._router.statistics(self._own_features, task_of_S, num_tasks)
        self._layout = AdapterLayout(tuple(parts), tuple(part.shape for part in parts.values()))
        if not parts:  # no statistics of other devices will arrive
            self._fitted = self._router.fit(parts, self._own_features, num_tasks)
        return self._layout, self._layout.join(parts)

    def fit(self, statistics: FloatArray) -> None:
        """Fit the router to the sum of all devices' statistics."""
        parts = self._layout.split(statistics)
        self._fitted = self._router.fit(parts, self._own_features, len(self._task_names))

    def state(self) -> State:
        """Whether statistics were computed; `restore` computes them again from the same prompts."""
        return {"has_statistics": self._own_features is not None}

    def restore(self, state: State) -> None:
        """Restore a state."""
        if state["has_statistics"]:
            self.statistics()

    @property
    def fitted_router(self) -> Mapping[str, FloatArray]:
        """The tensors of the fitted router; empty before it is fitted."""
        return self._fitted

    def measure_model(self, model: nn.Module, task: str, prefix: str) -> Iterator[Measurement]:
        """Measure one model on a task's test examples. prefix: of the metrics' names."""
        tests = self._questions.tests[task].examples
        for metric, value in score(self._learner.predict(model, tests), tests).items():
            yield f"{prefix}{metric}", task, value

    def measure_answers(self, experts: Sequence[Expert]) -> Iterator[Measurement]:
        """Measure the answers to the test examples of every task; the router chooses the experts.

        The optional measurements of `evaluation` follow: paraphrases, and out-of-distribution tasks.
        Devices of one process with equal experts and equal routers share one computation. Raises
        EmulatorError for experts with NaN or infinity.
        """
        for expert in experts:
            check_finite(expert.tensors, f"the expert of {expert.task}")
        held = ("answers", _digest(experts, self._fitted))
        yield from self._cache(held, lambda: tuple(self._measure_all_tasks(experts)))

    def _measure_all_tasks(self, experts: Sequence[Expert]) -> Iterator[Measurement]:
        """Measure the answers, then the routing of questions."""
        mixture = self._routing.mixture(self._backbone, experts)
        for task, questions in self._questions.tests.items():
            yield from self._measure_task(mixture, experts, task, questions, "")
        for task, questions in self._questions.paraphrased.items():
            if self._evaluation.paraphrases == "answers":
                yield from self._measure_task(mixture, experts, task, questions, "_paraphrased")
        if self._routing.routed:
            yield from self._measure_routing()
            yield from self._measure_out_of_distribution()

    def measure_controls(self, experts: Sequence[Expert], task: str) -> Iterator[Measurement]:
        """Measure a task's answers without a router under each of `evaluation.controls`.

        `alone`: the mean of the task's own experts. `summed`: the sum of all experts. `averaged`: the
        mean of all experts. `diluted`: that mean if the experts of other tasks had learnt nothing; for
        final experts, which were never averaged across tasks, this means updates of 0. The loss of
        accuracy from diluted to averaged is interference. A sum does not dilute, so the loss from alone
        to summed is interference.
        """
        tests = self._questions.tests[task].examples
        own_E = np.array([expert.task == task for expert in experts], dtype=np.float32)
        gates_of = {"alone": own_E / own_E.sum(), "summed": np.ones_like(own_E)}
        gates_of["averaged"] = gates_of["summed"] / len(experts)
        gates_of["diluted"] = own_E / len(experts)
        mixture = self._routing.mixture(self._backbone, experts)
        for control in self._evaluation.controls:
            mixture.set_gates(torch.from_numpy(gates_of[control][None]))
            for value in score(self._learner.predict(mixture.module, tests), tests).values():
                yield f"control/{control}", task, value

    def _measure_task(
        self,
        mixture: Mixture,
        experts: Sequence[Expert],
        task: str,
        questions: TaskQuestions,
        suffix: str,
    ) -> Iterator[Measurement]:
        """Measure the answers of one task. Examples with equal gates are answered together."""
        gates_SE = self._expert_gates(questions, experts)
        answers = [""] * len(questions.examples)
        rows, group_of_S = np.unique(gates_SE, axis=0, return_inverse=True)
        for group, row_E in enumerate(rows):
            chosen = np.flatnonzero(group_of_S == group)
            mixture.set_gates(torch.from_numpy(row_E[None]))
            examples = [questions.examples[i] for i in chosen]
            predicted = self._learner.predict(mixture.module, examples)
            for index, text in zip(chosen, predicted, strict=True):
                answers[index] = text
        for metric, value in score(answers, questions.examples).items():
            yield f"{metric}{suffix}", task, value

    def _expert_gates(self, questions: TaskQuestions, experts: Sequence[Expert]) -> FloatArray:
        """Gates over the experts [S, E]; all are 1 under a method without routing."""
        if not self._routing.routed:
            return np.ones((len(questions.examples), len(experts)), dtype=np.float32)
        return expert_gates(self._gates(questions), self._task_names, experts)

    def _gates(self, questions: TaskQuestions) -> FloatArray:
        """The router's gates over the tasks [S, T]."""
        if not self._fitted:
            raise EmulatorError(
                "method.kind: got a method without a fitted router, wanted its setup "
                "to ask for router_statistics() and its end to give use_router_statistics() the sum"
            )
        gates_ST = self._router.gates(self._fitted, questions.features)
        if wrong := find_wrong_gates(gates_ST, len(questions.examples), len(self._task_names)):
            raise EmulatorError(describe(self._router, "gates()", wrong))
        return np.asarray(gates_ST, dtype=np.float32)

    def _measure_routing(self) -> Iterator[Measurement]:
        """Measure the share of each task's questions by chosen task; `routing_accuracy` is the right one."""
        for task, questions in self._questions.tests.items():
            shares = route_shares(self._gates(questions), self._task_names)
            yield from ((_metric(to), task, share) for to, share in shares.items())
            if shares:
                yield "routing_accuracy", task, shares[task]
        for task, questions in self._questions.paraphrased.items():
            shares = route_shares(self._gates(questions), self._task_names)
            if shares:
                yield "routing_accuracy_paraphrased", task, shares[task]
                yield "abstained_paraphrased", task, shares[ABSTAINED]

    def _measure_out_of_distribution(self) -> Iterator[Measurement]:
        """Measure for each out-of-distribution task the AUROC against known tasks, and abstention."""
        if not self._questions.unseen:
            return
        known = np.concatenate([self._familiarity(q) for q in self._questions.tests.values()])
        for task, questions in self._questions.unseen.items():
            yield "abstention_auroc", task, auroc(known, self._familiarity(questions))
            shares = route_shares(self._gates(questions), self._task_names)
            if shares:
                yield "abstained_unseen", task, shares[ABSTAINED]

    def _familiarity(self, questions: TaskQuestions) -> DoubleArray:
        return self._router.familiarity(self._fitted, questions.features)


def check_finite(tensors: Mapping[str, FloatArray], where: str) -> None:
    """Raise EmulatorError if a tensor of an expert holds NaN or infinity."""
    broken = [name for name, values in tensors.items() if not np.isfinite(values).all()]
    if broken:
        more = f" and {len(broken) - 1} more tensors" if len(broken) > 1 else ""
        raise EmulatorError(f"{where}: got NaN or infinity in {broken[0]}{more}, wanted numbers")


def _digest(experts: Sequence[Expert], fitted: Mapping[str, FloatArray]) -> bytes:
    """A digest of everything that all answers depend on besides the scenario."""
    digest = hashlib.blake2b()
    for expert in experts:
        digest.update(repr((expert.task, expert.scaling, expert.form)).encode())
    for tensors in (*(expert.tensors for expert in experts), fitted):
        for name, tensor in tensors.items():
            digest.update(repr((name, tensor.shape, tensor.dtype.str)).encode())
            digest.update(np.ascontiguousarray(tensor).data)
    return digest.digest()


def _metric(destination: str) -> str:
    return destination if destination == ABSTAINED else f"routed_to/{destination}"
