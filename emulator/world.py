"""What all devices of a run share, built before the first of them lives."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeVar, cast

import torch

from emulator.adapters.projection import check_room
from emulator.backbone.loading import Backbone
from emulator.errors import ScenarioError, all_problems
from emulator.flood import hop_counts
from emulator.joining import Reach, joined
from emulator.paths import Network
from emulator.protocols import BoundAccess, BoundChannel, Learner
from emulator.scenario import Scenario
from emulator.state import Example, IndexArray, Link, PowerSharing, Question, Shard, Survey
from emulator.streams import stream
from emulator.tasks.learning import check_language, learner_for
from emulator.topology.graphs import is_fixed

Result = TypeVar("Result")

VALIDATION_SHARE = 0.1
"""Share of a task's training examples that is held out where choices are judged on them."""

MOST_HELD = 16
"""Results of `World.once` that are held; what was asked for longest ago goes first."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Examples of one task, and what the router reads of them (None where nothing is routed)."""

    examples: tuple[Example, ...]
    features: Any


@dataclass(frozen=True, eq=False)
class World:
    """What all devices share, built once and never changed: model, data, air.

    By task: `tests`, what is answered (the test split, or the validation split where that is asked
    for); `paraphrased`, the same in other words, where asked for; `unseen`, test examples of tasks that
    nobody learns. channel and access are the air between them.
    """

    scenario: Scenario
    backbone: Backbone
    shards: tuple[Shard, ...]
    tests: Mapping[str, Asked]
    paraphrased: Mapping[str, Asked]
    unseen: Mapping[str, Asked]
    channel: BoundChannel
    access: BoundAccess
    _held: OrderedDict[Hashable, object] = field(
        default_factory=OrderedDict, init=False, repr=False
    )

    def once(self, key: Hashable, work: Callable[[], Result]) -> Result:
        """What every device works out alike: done by the first in this process that asks.

        key: the work's name and all that its result depends on besides the world.
        """
        if key not in self._held:
            self._held[key] = work()
            if len(self._held) > MOST_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return cast(Result, self._held[key])

    @cached_property
    def network(self) -> Network:
        """The paths between devices out of each other's range."""
        return Network(self.channel, self.access)

    @property
    def power_sharing(self) -> PowerSharing:
        """How a device serves several neighbours."""
        if not self.access.powers_add_up:
            return "in_turn"
        return "equally" if self.channel.splits_power_equally else "as_needed"

    def hop_counts(self, time_s: float) -> IndexArray:
        """[M, M] hops between devices that can exchange one packet within the deadline, at a time.

        Raises ScenarioError where some cannot reach each other.
        """

        def counted() -> IndexArray:
            scheme, seed = self.scenario.access, self.scenario.seed
            reach = Reach(self.channel, self.access, scheme, seed, time_s)
            return hop_counts(joined(reach))

        return self.once(("hops", time_s), counted)

    def links(self, round_index: int, survey: Survey) -> tuple[Link, ...]:
        """All links of a round under the scenario's topology."""
        graph, seed = self.scenario.graph, self.scenario.seed
        drawn_for = None if is_fixed(graph) else round_index
        return self.once(
            ("links", survey, drawn_for), lambda: graph.links(round_index, survey, seed)
        )


def held_out(
    examples: Sequence[Example], seed: int, task: str, most: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """A keyed VALIDATION_SHARE of training examples, 1 ... `most` of them, and the rest.

    File order is kept; the two parts have no example in common and lose none.

    Raises ScenarioError where nothing would be left to train on.
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


def accelerator_of(scenario: Scenario) -> Literal["cpu", "cuda"]:
    """What `accelerator` comes to on this machine. Raises ScenarioError where it is not there.

    Asks the driver and makes no context: safe before a fork.
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


def check_rank(scenario: Scenario, inputs_k: Callable[[], Sequence[int]]) -> None:
    """Refuse a rank with which the method's orthogonal projections do not fit into the backbone.

    inputs_k: gives the inputs of each adapted module, nothing where they are not known; called only
    where they matter. Raises ScenarioError.
    """
    method = scenario.method
    counted = getattr(method, "orthogonal_blocks", None)  # a method of a user's own may have none
    blocks = counted(len(scenario.tasks.names), scenario.devices) if counted else 0
    if blocks and (known := inputs_k()):
        check_room(known, getattr(method, "lora_rank", 0), blocks)


def build_world(scenario: Scenario) -> World:
    """Load the backbone, share out the data, place the devices.

    Everything here is a function of the scenario alone, so every process builds the same world. Where
    tensors live on GPUs the questions are left to `with_features`, to be read there.
    Raises ScenarioError where files, models or tasks are missing or do not fit, or devices that
    exchange are out of reach.
    """
    torch.set_num_threads(1)
    accelerator = accelerator_of(scenario)
    channel, access = scenario.bind_air()
    if scenario.exchanges:
        joined(Reach(channel, access, scenario.access, scenario.seed))
    with all_problems() as look:
        with look():
            data = _data(scenario)
        with look():
            backbone = scenario.backbone.load()
    check_rank(scenario, lambda: backbone.inputs_k)
    for task, examples in {**data.train, **data.unseen}.items():
        check_language(backbone, task, examples)

    def asked(questions: Mapping[str, tuple[Example, ...]]) -> dict[str, Asked]:
        return {task: Asked(examples, None) for task, examples in questions.items() if examples}

    world = World(
        scenario=scenario,
        backbone=backbone,
        shards=data.shards,
        tests=asked(data.tests),
        paraphrased=asked(data.paraphrased),
        unseen=asked(data.unseen),
        channel=channel,
        access=access,
    )
    return world if accelerator == "cuda" else with_features(world)


@dataclass(frozen=True)
class _Data:
    """Examples by task, and the training ones shared out."""

    train: Mapping[str, tuple[Example, ...]]
    tests: Mapping[str, tuple[Example, ...]]
    paraphrased: Mapping[str, tuple[Example, ...]]
    unseen: Mapping[str, tuple[Example, ...]]
    shards: tuple[Shard, ...]


def _data(scenario: Scenario) -> _Data:
    """What is trained on and asked. Raises ScenarioError."""
    suite, seed, evaluation = scenario.tasks, scenario.seed, scenario.evaluation
    tests = {task: suite.examples(task, "test", seed) for task in suite.names}
    train = {task: suite.examples(task, "train", seed) for task in suite.names}
    if evaluation.split == "validation":
        parts = {task: held_out(train[task], seed, task, len(tests[task])) for task in suite.names}
        tests = {task: validation for task, (validation, _) in parts.items()}
        train = {task: rest for task, (_, rest) in parts.items()}
    unseen = {task: suite.examples(task, "test", seed) for task in evaluation.unseen_tasks}
    paraphrased = {
        task: suite.examples(task, "paraphrased", seed)
        for task in suite.names
        if evaluation.paraphrases != "none"
    }
    shards = suite.partition.shards(scenario.devices, train, seed)
    return _Data(train, tests, paraphrased, unseen, tuple(shards))


def with_features(world: World) -> World:
    """The same world, and what the router reads of all questions, by its backbone where it now lies."""

    def read(questions: Mapping[str, Asked]) -> dict[str, Asked]:
        return {
            task: replace(
                asked, features=features_of(world.scenario, world.backbone, asked.examples)
            )
            for task, asked in questions.items()
        }

    return replace(
        world,
        tests=read(world.tests),
        paraphrased=read(world.paraphrased),
        unseen=read(world.unseen),
    )


def features_of(scenario: Scenario, backbone: Backbone, examples: Sequence[Example]) -> Any:
    """What the scenario's router reads of examples; None under a method that routes nothing."""
    if not scenario.method.routes:
        return None
    learner: Learner = learner_for(backbone)
    names = scenario.tasks.names
    questions = [
        Question(learner.router_text(e), names.index(e.task) if e.task in names else None)
        for e in examples
    ]
    return scenario.router.features(backbone, questions, scenario.seed)
