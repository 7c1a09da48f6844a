"""Partitions of the training examples among devices; the shards are always disjoint."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emulator.core.errors import ScenarioError
from emulator.core.rng import stream
from emulator.core.types.arrays import IndexArray
from emulator.core.types.data import Example, Shard


class ByTask(BaseModel):
    """One task per device: device i gets task i modulo the number of tasks.

    The examples of a task are divided among its devices in keyed random order, evenly or by a power law.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["by_task"] = "by_task"
    imbalance: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="a task's k-th device gets a share proportional to k^-imbalance; 0: equal shares",
    )

    def tasks_of(self, devices: int, task_names: Sequence[str]) -> tuple[str, ...]:
        """The task of each device."""
        return tuple(task_names[i % len(task_names)] for i in range(devices))

    def shards(
        self, devices: int, examples: Mapping[str, Sequence[Example]], seed: int
    ) -> tuple[Shard, ...]:
        """One shard per device. Raises ScenarioError if a task has fewer examples than devices."""
        owners = self.tasks_of(devices, tuple(examples))
        count = Counter(owners)
        rank: Counter[str] = Counter()
        shards = []
        for device, task in enumerate(owners):
            rows, parts = examples[task], count[task]
            if len(rows) < parts:
                raise _make_error(task, len(rows), parts)
            order = stream(seed, f"partition/{task}").permutation(len(rows))
            own = np.split(order, self._compute_bounds(len(rows), parts))[rank[task]]
            rank[task] += 1
            shards.append(Shard(device, task, tuple(rows[i] for i in own)))
        return tuple(shards)

    def _compute_bounds(self, count: int, parts: int) -> IndexArray:
        """The first index of each part except the first; every part has at least one of `count` examples."""
        share = np.arange(1, parts + 1, dtype=np.float64) ** -self.imbalance
        spare = (count - parts) * share / share.sum()
        sizes = 1 + np.floor(spare).astype(np.int64)
        left = count - int(sizes.sum())
        sizes[np.argsort(np.floor(spare) - spare, kind="stable")[:left]] += 1  # largest remainders
        bounds: IndexArray = np.cumsum(sizes)[:-1]
        return bounds


class Dirichlet(BaseModel):
    """Every device holds a mixture of tasks: each task is split by a Dirichlet(alpha) draw.

    Small alpha: almost one task per device; large alpha: the same mixture everywhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["dirichlet"] = "dirichlet"
    alpha: float = Field(gt=0, description="concentration of the mixture")

    def shards(
        self, devices: int, examples: Mapping[str, Sequence[Example]], seed: int
    ) -> tuple[Shard, ...]:
        """One shard per device, named by its most frequent task; an empty device gets one example.

        Raises ScenarioError if there are fewer examples than devices.
        """
        held: list[list[Example]] = [[] for _ in range(devices)]
        for task, rows in examples.items():
            draw = stream(seed, f"dirichlet/{task}")
            share = draw.dirichlet(np.full(devices, self.alpha))
            order = draw.permutation(len(rows))
            bounds = np.floor(np.cumsum(share)[:-1] * len(rows)).astype(np.int64)
            for device, own in enumerate(np.split(order, bounds)):
                held[device].extend(rows[i] for i in own)
        for device in range(devices):
            if not held[device]:
                richest = max(range(devices), key=lambda i: len(held[i]))
                if len(held[richest]) < 2:
                    raise _make_error("all", sum(map(len, held)), devices)
                held[device].append(held[richest].pop())
        return tuple(
            Shard(device, Counter(e.task for e in rows).most_common(1)[0][0], tuple(rows))
            for device, rows in enumerate(held)
        )


Partition = Annotated[ByTask | Dirichlet, Field(discriminator="kind")]


def _make_error(task: str, got: int, wanted: int) -> ScenarioError:
    return ScenarioError(
        [f"tasks.partition: got {got} training examples of task {task!r}, wanted at least {wanted}"]
    )
