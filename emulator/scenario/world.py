"""The objects that all devices of a run share, built before the devices start."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeVar, cast

import numpy as np
import torch

from emulator.core.errors import ScenarioError, all_problems
from emulator.core.protocols.access import BoundAccess
from emulator.core.protocols.channel import BoundChannel
from emulator.core.protocols.tasks import Learner
from emulator.core.rng import stream
from emulator.core.types.arrays import DoubleArray, IndexArray
from emulator.core.types.data import Example, Shard
from emulator.core.types.message import Message
from emulator.core.types.packet import air_bytes
from emulator.core.types.survey import Link, Survey
from emulator.learning.backbone.load import Backbone
from emulator.learning.evaluation import Answering, Questions, TaskQuestions
from emulator.learning.tasks.learner import check_language
from emulator.learning.tasks.reading import read_all
from emulator.learning.training import LocalTraining
from emulator.network.flooding import count_hops
from emulator.network.islands import Reach, require_connected
from emulator.network.relay_paths import Network
from emulator.network.survey import IntroducedSizes, make_survey, parameter_budget
from emulator.network.topology.graphs import RandomFeasible, is_fixed
from emulator.scenario.adapter_size import check_rank
from emulator.scenario.schema import Scenario
from emulator.scenario.sections import Asynchronous

Result = TypeVar("Result")
Planned = Callable[[int], Message]
"""Returns a message with a given number of values."""

VALIDATION_SHARE = 0.1
"""Share of a task's training examples in the validation split."""

MOST_HELD = 16
"""Most results that `World.compute_once` keeps; the least recently used is dropped first."""


@dataclass(frozen=True, eq=False)
class World:
    """Model, data, channel and access scheme, shared by all devices; built once and never changed."""

    scenario: Scenario
    backbone: Backbone
    shards: tuple[Shard, ...]
    questions: Questions
    channel: BoundChannel
    access: BoundAccess
    _held: OrderedDict[Hashable, object] = field(
        default_factory=OrderedDict, init=False, repr=False
    )

    def compute_once(self, key: Hashable, work: Callable[[], Result]) -> Result:
        """Compute a result that is equal for all devices, once for all devices of this process.

        key: the name of the result and everything that it depends on besides the world.
        """
        if key not in self._held:
            self._held[key] = work()
            if len(self._held) > MOST_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return cast(Result, self._held[key])

    def local_training(self, device_id: int, learner: Learner) -> LocalTraining:
        """The local steps of a device."""
        local, seed, shard = self.scenario.local, self.scenario.seed, self.shards[device_id]
        return LocalTraining(local, seed, device_id, learner, shard, self.backbone.model)

    def own_sample(self, device_id: int) -> tuple[Example, ...]:
        """A keyed sample of a device's training examples, for entropies and routing statistics."""
        train, count = self.shards[device_id].train, self.scenario.local.calibration_samples
        order = stream(self.scenario.seed, "calibration", device_id).permutation(len(train))
        return tuple(train[i] for i in order[:count])

    def answering(self, learner: Learner, sample: Sequence[Example]) -> Answering:
        """The router and the answers of a device. sample: the examples of its routing statistics."""
        scenario = self.scenario
        return Answering(
            self.backbone,
            learner,
            scenario.routing,
            self.questions,
            scenario.evaluation,
            self.compute_once,
            sample,
        )

    @cached_property
    def network(self) -> Network:
        """The paths between devices out of each other's range."""
        return Network(self.channel, self.access)

    def count_hops(self, time_s: float) -> IndexArray:
        """[M, M] hops between devices that can exchange one packet within the deadline, at a time.

        Raises ScenarioError where some cannot reach each other.
        """

        def counted() -> IndexArray:
            scheme, seed = self.scenario.access, self.scenario.seed
            reach = Reach(self.channel, self.access, scheme, seed, time_s)
            return count_hops(require_connected(reach))

        return self.compute_once(("hops", time_s), counted)

    def links(self, round_index: int, survey: Survey) -> tuple[Link, ...]:
        """All links of a round under the scenario's topology."""
        graph, seed = self.scenario.graph, self.scenario.seed
        drawn_for = None if is_fixed(graph) else round_index
        return self.compute_once(
            ("links", survey, drawn_for), lambda: graph.links(round_index, survey, seed)
        )

    def planned_bytes(self, planned: Sequence[Message]) -> IndexArray:
        """Bytes that each device will send in a round [M]. planned: the message of each device."""
        scenario = self.scenario
        different = {id(message): message for message in planned}
        bytes_of = {key: air_bytes(scenario.wire.encode(m)) for key, m in different.items()}
        bytes_M = np.array([bytes_of[id(m)] for m in planned], dtype=np.int64)
        if isinstance(scenario.graph, RandomFeasible) and scenario.graph.message_bytes:
            bytes_M[:] = scenario.graph.message_bytes
        return bytes_M

    def survey(
        self,
        time_s: float,
        bytes_M: IndexArray,
        densities_ML: DoubleArray,
        sizes: IntroducedSizes,
    ) -> Survey:
        """The survey of the introductions at a time [s]. bytes_M: bytes that each device sends in a round.

        Equal arguments give the same object. Raises ScenarioError if the links change from round to round
        under an asynchronous schedule.
        """
        scenario = self.scenario

        def surveyed() -> Survey:
            survey = make_survey(self.channel, self.access, time_s, bytes_M, densities_ML, sizes)
            if isinstance(scenario.schedule, Asynchronous):
                _check_fixed(scenario, survey)
            return survey

        return self.compute_once(
            ("survey", time_s, bytes_M.tobytes(), densities_ML.tobytes(), sizes), surveyed
        )

    def parameter_budget(self, device: int, most: int, neighbours: int, planned: Planned) -> int:
        """Number of values, at most `most`, that a device can train (Eq 7) and send (Eq 11)."""
        wire, samples = self.scenario.wire, len(self.shards[device].train)
        affordable = int(min(most, self.scenario.local.affordable_parameters(device, samples)))

        def bytes_of(num_values: int) -> int:
            return air_bytes(wire.encode(planned(num_values)))

        return parameter_budget(self.channel, self.access, device, affordable, neighbours, bytes_of)


def _check_fixed(scenario: Scenario, survey: Survey) -> None:
    """Raise ScenarioError if links change: without waiting, a device must know its senders in advance."""
    graph, seed = scenario.graph, scenario.seed
    if is_fixed(graph):
        return
    first = graph.links(0, survey, seed)
    if any(graph.links(r, survey, seed) != first for r in range(1, scenario.rounds)):
        raise ScenarioError(
            [
                f"topology.kind: got {scenario.topology.kind}, whose links change from round to round, "
                "wanted fixed ones (schedule.kind is asynchronous)"
            ]
        )


def hold_out(
    examples: Sequence[Example], seed: int, task: str, most: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Split training examples into a keyed VALIDATION_SHARE, 1 ... `most` examples, and the rest.

    Both parts keep the order of the file; together they hold every example exactly once.

    Raises ScenarioError if no example is left for training.
    """
    count = max(1, min(most, round(VALIDATION_SHARE * len(examples))))
    if count >= len(examples):
        raise ScenarioError(
            [
                f"evaluation.split: got validation for {len(examples)} training examples of task "
                f"{task!r}, wanted at least 2"
            ]
        )
    order = stream(seed, f"validation/{task}").permutation(len(examples))
    chosen = set(order[:count].tolist())
    validation = tuple(e for i, e in enumerate(examples) if i in chosen)
    return validation, tuple(e for i, e in enumerate(examples) if i not in chosen)


def choose_accelerator(scenario: Scenario) -> Literal["cpu", "cuda"]:
    """The processor that `accelerator` selects on this machine. Raises ScenarioError if it is missing.

    This asks the driver for GPUs and makes no CUDA context, so it is safe before a fork.
    """
    if scenario.accelerator == "cpu":
        return "cpu"
    if torch.cuda.device_count():
        return "cuda"
    here = "here: torch finds no GPU on this machine"
    if scenario.accelerator == "cuda":
        raise ScenarioError([f"accelerator: got cuda, wanted cpu or auto {here}"])
    if scenario.backend == "nccl":
        raise ScenarioError([f"backend: got nccl, wanted gloo {here}"])
    return "cpu"


def build_world(scenario: Scenario, air: tuple[BoundChannel, BoundAccess] | None = None) -> World:
    """Load the backbone, divide the data, place the devices (air: channel and access, if already bound).

    The result depends on the scenario alone, so every process builds the same world. With tensors on
    GPUs, the features of the questions are left to `add_features`, which computes them there.
    Raises ScenarioError if files, models or tasks are missing or do not fit, or if devices that exchange
    cannot reach each other.
    """
    torch.set_num_threads(1)
    accelerator = choose_accelerator(scenario)
    channel, access = air or scenario.bind_channel()
    if scenario.exchanges:
        require_connected(Reach(channel, access, scenario.access, scenario.seed))
    with all_problems() as look:
        with look():
            data = _read_data(scenario)
        with look():
            backbone = scenario.backbone.load()
    check_rank(scenario, lambda: backbone.shapes_dk)
    unseen = {task: questions.examples for task, questions in data.questions.unseen.items()}
    with all_problems() as look:
        for task, examples in (data.train | unseen).items():
            with look():
                check_language(backbone, task, examples)
    world = World(
        scenario=scenario,
        backbone=backbone,
        shards=data.shards,
        questions=data.questions,
        channel=channel,
        access=access,
    )
    return world if accelerator == "cuda" else add_features(world)


@dataclass(frozen=True)
class _Data:
    """Training examples by task, the shards of the devices, and the questions."""

    train: dict[str, tuple[Example, ...]]
    questions: Questions
    shards: tuple[Shard, ...]


def _read_data(scenario: Scenario) -> _Data:
    """Read training examples and questions. Raises ScenarioError."""
    suite, seed, evaluation = scenario.tasks, scenario.seed, scenario.evaluation
    tasks_of = {
        "test": (*suite.names, *evaluation.unseen_tasks),
        "train": suite.names,
        "paraphrased": suite.names if evaluation.paraphrases != "none" else (),
    }
    wanted = [(task, split) for split, tasks in tasks_of.items() for task in tasks]
    read = read_all(suite, wanted, seed)
    tests, train = (
        {task: read[task, split] for task in suite.names} for split in ("test", "train")
    )
    if evaluation.split == "validation":
        parts = {task: hold_out(train[task], seed, task, len(tests[task])) for task in suite.names}
        tests = {task: validation for task, (validation, _) in parts.items()}
        train = {task: rest for task, (_, rest) in parts.items()}
    unseen = {task: read[task, "test"] for task in evaluation.unseen_tasks}
    paraphrased = {task: read[task, "paraphrased"] for task in tasks_of["paraphrased"]}
    shards = suite.partition.shards(scenario.devices, train, seed)

    def unread(by_task: Mapping[str, tuple[Example, ...]]) -> dict[str, TaskQuestions]:
        return {
            task: TaskQuestions(examples, None) for task, examples in by_task.items() if examples
        }

    return _Data(
        train, Questions(unread(tests), unread(paraphrased), unread(unseen)), tuple(shards)
    )


def add_features(world: World) -> World:
    """The same world with the router's features of all questions, computed on the backbone's device."""
    questions = world.scenario.routing.read(world.backbone, world.questions)
    return replace(world, questions=questions)
