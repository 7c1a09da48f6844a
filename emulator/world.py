"""What all devices of a run share, built before the first of them lives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from emulator.backbone.loading import Backbone
from emulator.errors import ScenarioError
from emulator.protocols import BoundChannel
from emulator.routing.gates import RidgeLda
from emulator.scenario import Scenario
from emulator.state import DoubleArray, Example, Shard
from emulator.streams import stream
from emulator.tasks.learning import check_language, learner_for

VALIDATION_SHARE = 0.1
"""Share of a task's training examples that is held out where choices are judged on them."""


@dataclass(frozen=True, eq=False)
class World:
    """What all devices share, built once and never changed: model, data, air.

    tests: what is answered, by task: the test split, or the validation split where that is asked for.
    test_states: the router's features of every such example by task [S, p]; empty without a router
    that reads them.
    """

    scenario: Scenario
    backbone: Backbone
    shards: tuple[Shard, ...]
    tests: Mapping[str, tuple[Example, ...]]
    channel: BoundChannel
    test_states: Mapping[str, DoubleArray]


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


def build_world(scenario: Scenario) -> World:
    """Load the backbone, share out the data, place the devices.

    Everything here is a function of the scenario alone, so every process builds the same world.
    Raises ScenarioError where files, models or tasks are missing or do not fit.
    """
    torch.set_num_threads(1)
    suite = scenario.tasks
    tests = {task: suite.examples(task, "test", scenario.seed) for task in suite.names}
    train = {task: suite.examples(task, "train", scenario.seed) for task in suite.names}
    if scenario.evaluation.split == "validation":
        parts = {
            task: held_out(train[task], scenario.seed, task, len(tests[task]))
            for task in suite.names
        }
        tests = {task: validation for task, (validation, _) in parts.items()}
        train = {task: rest for task, (_, rest) in parts.items()}
    shards = suite.partition.shards(scenario.devices, train, scenario.seed)
    backbone = scenario.backbone.load()
    for task in suite.names:
        check_language(backbone, task, train[task])
    states: dict[str, DoubleArray] = {}
    if isinstance(scenario.router, RidgeLda) and scenario.method.routes:
        learner = learner_for(backbone)
        for task, examples in tests.items():
            texts = [learner.router_text(example) for example in examples]
            features = backbone.prompt_states(texts, scenario.router.gate_layer)
            states[task] = scenario.router.project(features, scenario.seed)
    return World(
        scenario=scenario,
        backbone=backbone,
        shards=shards,
        tests=tests,
        channel=scenario.channel.bind(scenario.devices, scenario.seed),
        test_states=states,
    )
