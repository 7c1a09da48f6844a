"""What all devices of a run share, built before the first of them lives."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from emulator.backbone.loading import Backbone
from emulator.protocols import BoundChannel
from emulator.routing.gates import RidgeLda
from emulator.scenario import Scenario
from emulator.state import DoubleArray, Example, Shard
from emulator.tasks.learning import check_language, learner_for


@dataclass(frozen=True, eq=False)
class World:
    """What all devices share, built once and never changed: model, data, air.

    test_states: the router's features of every test example by task [S, p]; empty without a router
    that reads them.
    """

    scenario: Scenario
    backbone: Backbone
    shards: tuple[Shard, ...]
    tests: Mapping[str, tuple[Example, ...]]
    channel: BoundChannel
    test_states: Mapping[str, DoubleArray]


def build_world(scenario: Scenario) -> World:
    """Load the backbone, share out the data, place the devices.

    Everything here is a function of the scenario alone, so every process builds the same world.
    Raises ScenarioError where files, models or tasks are missing or do not fit.
    """
    torch.set_num_threads(1)
    suite = scenario.tasks
    tests = {task: suite.examples(task, "test", scenario.seed) for task in suite.names}
    train = {task: suite.examples(task, "train", scenario.seed) for task in suite.names}
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
