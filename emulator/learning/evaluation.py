"""How a device answers: its router learns from everybody's statistics, its experts answer together.

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
from emulator.learning.routing.confusion import ABSTAINED, auroc, routes
from emulator.learning.routing.mixture import RoutedModel, expert_gates
from emulator.learning.routing.mixture_of_models import RoutedWeights
from emulator.learning.routing.trial import describe, try_out, wrong_gates
from emulator.learning.tasks.learner import learner_for, score

Measurement = tuple[str, str, float]
"""Metric, task, value."""

Mixture = RoutedModel | RoutedWeights
"""The backbone with experts that answer as their gates say."""

Result = TypeVar("Result")


class Evaluation(Section):
    """What is measured besides the final answers of every device to every task."""

    own_task_every: int = Field(
        default=0, ge=0, description="own-task accuracy every so many rounds; 0: never"
    )
    paraphrases: Literal["none", "routing", "answers"] = Field(
        default="none",
        description="what to measure on test questions in other words: where they are routed, or "
        "their answers as well",
    )
    unseen_tasks: tuple[Name, ...] = Field(
        default=(), description="tasks of the suite that nobody learns: does the router notice?"
    )
    controls: tuple[Literal["alone", "summed", "averaged", "diluted"], ...] = Field(
        default=(),
        description="what each device's own task also answers to: its own expert alone; all experts "
        "summed without gates; the mean of all experts; that mean if the others had learnt nothing",
    )
    split: Literal["test", "validation"] = Field(
        default="test",
        description="what is answered; validation: a tenth of each task's training examples (at "
        "most as many as test examples), which is then not trained on",
    )


@dataclass(frozen=True, eq=False)
class Asked:
    """Examples of one task, and what the router reads of them (None where nothing is routed)."""

    examples: tuple[Example, ...]
    features: Any


@dataclass(frozen=True, eq=False)
class Questions:
    """What is answered, by task: `tests`, the test split, or the validation split where that is asked
    for; `paraphrased`, the same in other words, where asked for; `unseen`, test examples of tasks that
    no device learns.
    """

    tests: Mapping[str, Asked]
    paraphrased: Mapping[str, Asked]
    unseen: Mapping[str, Asked]


class Once(Protocol):
    """Results that every device works out alike: computed by the first in this process that asks."""

    def __call__(self, key: Hashable, work: Callable[[], Result]) -> Result:
        """The result of `work`; key: its name and all that it depends on."""
        ...


@dataclass(frozen=True)
class Routing:
    """The router of a run, and how experts stand beside the backbone under its method.

    routed: whether the method routes at all. active_ranks: rank-1 parts of an expert that a question
    uses (None: all).
    """

    router: Router
    task_names: tuple[str, ...]
    seed: int
    routed: bool
    active_ranks: int | None

    def features(self, backbone: Backbone, examples: Sequence[Example]) -> Any:
        """What the router reads of examples; None under a method that routes nothing."""
        if not self.routed:
            return None
        learner, names = learner_for(backbone), self.task_names
        questions = [
            Question(learner.router_text(e), names.index(e.task) if e.task in names else None)
            for e in examples
        ]
        return self.router.features(backbone, questions, self.seed)

    def read(self, backbone: Backbone, questions: Questions) -> Questions:
        """The same questions, and what the router reads of all of them.

        The router is tried on them: ScenarioError where it does not give what it promises.
        """

        def of(asked: Mapping[str, Asked]) -> dict[str, Asked]:
            return {
                task: Asked(each.examples, self.features(backbone, each.examples))
                for task, each in asked.items()
            }

        tests = of(questions.tests)
        if self.routed:
            names = self.task_names
            known = {names.index(t): (a.features, len(a.examples)) for t, a in tests.items()}
            try_out(self.router, known, len(names))
        return Questions(tests, of(questions.paraphrased), of(questions.unseen))

    def mixture(self, backbone: Backbone, experts: Sequence[Expert]) -> Mixture:
        """The backbone with all experts: low-rank ones beside it in one stack, whole weights in turn."""
        if experts[0].form == "weights":
            return RoutedWeights(backbone.model, experts, own_twin)
        layer_gate = self.router.layer_gate
        return RoutedModel(backbone.model, experts, frozen_twin, self.active_ranks, layer_gate)


class Answering:
    """One device's router and what it does with experts."""

    def __init__(
        self,
        backbone: Backbone,
        learner: Learner,
        routing: Routing,
        questions: Questions,
        evaluation: Evaluation,
        once: Once,
        sample: Sequence[Example],
    ) -> None:
        """sample: the own training examples from which routing statistics are made."""
        self._backbone = backbone
        self._learner = learner
        self._routing = routing
        self._questions = questions
        self._evaluation = evaluation
        self._once = once
        self._sample = sample
        self._router, self._task_names = routing.router, routing.task_names
        self._layout = AdapterLayout((), ())
        self._own_features: Any = None
        self._fitted: Mapping[str, FloatArray] = {}

    def statistics(self) -> tuple[AdapterLayout, FloatArray]:
        """Additive statistics of the own training prompts; empty where the router needs none."""
        num_tasks = len(self._task_names)
        self._own_features = self._routing.features(self._backbone, self._sample)
        task_of_S = [self._task_names.index(example.task) for example in self._sample]
        parts = self._router.statistics(self._own_features, task_of_S, num_tasks)
        self._layout = AdapterLayout(tuple(parts), tuple(part.shape for part in parts.values()))
        if not parts:  # nothing to wait for
            self._fitted = self._router.fit(parts, self._own_features, num_tasks)
        return self._layout, self._layout.join(parts)

    def fit(self, statistics: FloatArray) -> None:
        """Fit the router to the summed statistics of all devices."""
        parts = self._layout.split(statistics)
        self._fitted = self._router.fit(parts, self._own_features, len(self._task_names))

    def state(self) -> State:
        """Whether statistics were made; they are made again from the same prompts."""
        return {"has_statistics": self._own_features is not None}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        if state["has_statistics"]:
            self.statistics()

    def router(self) -> Mapping[str, FloatArray]:
        """The fitted router's tensors; empty where there is none."""
        return self._fitted

    def alone(self, model: nn.Module, task: str, prefix: str) -> Iterator[Measurement]:
        """How one model does on a task's test examples."""
        tests = self._questions.tests[task].examples
        for metric, value in score(self._learner.predict(model, tests), tests).items():
            yield f"{prefix}{metric}", task, value

    def together(self, experts: Sequence[Expert]) -> Iterator[Measurement]:
        """Answer the test examples of every task; which task it is, only the router may guess.

        What else `evaluation` asks for is told after it: other words, tasks that nobody learnt. Devices of
        one process that hold the same experts and the same router answer once. Raises EmulatorError for
        experts with NaN or infinity.
        """
        for expert in experts:
            check_finite(expert.tensors, f"the expert of {expert.task}")
        held = ("answers", _digest(experts, self._fitted))
        yield from self._once(held, lambda: tuple(self._all_answers(experts)))

    def _all_answers(self, experts: Sequence[Expert]) -> Iterator[Measurement]:
        questions = self._questions
        mixture = self._routing.mixture(self._backbone, experts)
        for task, asked in questions.tests.items():
            yield from self._answered(mixture, experts, task, asked, "")
        for task, asked in questions.paraphrased.items():
            if self._evaluation.paraphrases == "answers":
                yield from self._answered(mixture, experts, task, asked, "_paraphrased")
        if self._routing.routed:
            yield from self._routed()
            yield from self._strangers()

    def controls(self, experts: Sequence[Expert], task: str) -> Iterator[Measurement]:
        """A task's answers without a router, as `evaluation.controls` asks: is there interference?

        `alone`: the mean of the task's own experts; `summed`: all at once; `averaged`: the mean of all;
        `diluted`: that mean if the experts of other tasks had learnt nothing, which for final experts,
        never averaged across tasks before, means an update of 0. What averaged loses beyond diluted is
        interference. A sum dilutes nothing: what it loses beyond alone is interference.
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

    def _answered(
        self,
        mixture: Mixture,
        experts: Sequence[Expert],
        task: str,
        asked: Asked,
        suffix: str,
    ) -> Iterator[Measurement]:
        """The scores of a task's answers. Examples with equal gates are answered in one go."""
        gates_SE = self._expert_gates(asked, experts)
        answers = [""] * len(asked.examples)
        rows, group_of_S = np.unique(gates_SE, axis=0, return_inverse=True)
        for group, row_E in enumerate(rows):
            chosen = np.flatnonzero(group_of_S == group)
            mixture.set_gates(torch.from_numpy(row_E[None]))
            predicted = self._learner.predict(mixture.module, [asked.examples[i] for i in chosen])
            for index, text in zip(chosen, predicted, strict=True):
                answers[index] = text
        for metric, value in score(answers, asked.examples).items():
            yield f"{metric}{suffix}", task, value

    def _expert_gates(self, asked: Asked, experts: Sequence[Expert]) -> FloatArray:
        """Gates over the experts [S, E]; all of them open under a method that routes nothing."""
        if not self._routing.routed:
            return np.ones((len(asked.examples), len(experts)), dtype=np.float32)
        return expert_gates(self._gates(asked), self._task_names, experts)

    def _gates(self, asked: Asked) -> FloatArray:
        """The router's gates over the tasks [S, T]."""
        if not self._fitted:
            raise EmulatorError(
                "method.kind: got a method without a fitted router, wanted its setup "
                "to ask for router_statistics() and its end to give use_router_statistics() the sum"
            )
        gates_ST = self._router.gates(self._fitted, asked.features)
        if wrong := wrong_gates(gates_ST, len(asked.examples), len(self._task_names)):
            raise EmulatorError(describe(self._router, "gates()", wrong))
        return np.asarray(gates_ST, dtype=np.float32)

    def _routed(self) -> Iterator[Measurement]:
        """Where the questions of every task went; `routing_accuracy` is the right share."""
        for task, asked in self._questions.tests.items():
            shares = routes(self._gates(asked), self._task_names)
            yield from ((_metric(to), task, share) for to, share in shares.items())
            if shares:
                yield "routing_accuracy", task, shares[task]
        for task, asked in self._questions.paraphrased.items():
            shares = routes(self._gates(asked), self._task_names)
            if shares:
                yield "routing_accuracy_paraphrased", task, shares[task]
                yield "abstained_paraphrased", task, shares[ABSTAINED]

    def _strangers(self) -> Iterator[Measurement]:
        """Of every unseen task: how well it is told from all known ones, how often it is turned away."""
        if not self._questions.unseen:
            return
        known = np.concatenate(
            [self._familiarity(asked) for asked in self._questions.tests.values()]
        )
        for task, asked in self._questions.unseen.items():
            yield "abstention_auroc", task, auroc(known, self._familiarity(asked))
            shares = routes(self._gates(asked), self._task_names)
            if shares:
                yield "abstained_unseen", task, shares[ABSTAINED]

    def _familiarity(self, asked: Asked) -> DoubleArray:
        return self._router.familiarity(self._fitted, asked.features)


def check_finite(tensors: Mapping[str, FloatArray], where: str) -> None:
    """Raise EmulatorError for tensors of an expert that hold NaN or infinity."""
    broken = [name for name, values in tensors.items() if not np.isfinite(values).all()]
    if broken:
        more = f" and {len(broken) - 1} more tensors" if len(broken) > 1 else ""
        raise EmulatorError(f"{where}: got NaN or infinity in {broken[0]}{more}, wanted numbers")


def _digest(experts: Sequence[Expert], fitted: Mapping[str, FloatArray]) -> bytes:
    """What all answers depend on besides the run."""
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
