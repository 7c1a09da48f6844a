"""The cheapest router that keeps accuracy: `python tests/benchmarks/bench_routers.py SCENARIO [LAYER]...`.

No training: only the frozen backbone reads. One device per task, its statistics of `local.calibration_samples`
training questions added up as on the wire. Printed as Markdown, for each hidden state (default: the
middle one): bytes of one device's statistics, share of the test questions routed right over all tasks
and on the worst task, the same in other words, and AUROC of abstaining, the mean over tasks left out
in turn. Scenarios: routers_tiny.yaml and routers_real_text.yaml beside this file.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emulator.core.protocols.router import Router
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.data import Question
from emulator.core.types.message import ValueType
from emulator.learning.routing import BagOfWords, Cosine, RidgeLda
from emulator.learning.routing.confusion import auroc
from emulator.learning.routing.prompt_states import project_states
from emulator.learning.tasks.learner import learner_for
from emulator.network.wire import quantise
from emulator.scenario.load import read_scenario
from emulator.scenario.schema import Scenario

WIDTHS = (16, 32, 64, 96, 128, 256, 384)
SPLITS = ("train", "test", "paraphrased")

Features = dict[str, list[Any]]
"""By split: one table of features a task."""


@dataclass(frozen=True)
class Row:
    """What one router at one price comes to."""

    name: str
    num_bytes: int
    right: float
    worst: float
    paraphrased: float
    auroc: float

    def __str__(self) -> str:
        shares = " | ".join(f"{100 * x:.1f} %" for x in (self.right, self.worst, self.paraphrased))
        return f"| {self.name} | {self.num_bytes} | {shares} | {self.auroc:.3f} |"


def on_the_wire(parts: dict[str, FloatArray], value_type: ValueType) -> dict[str, FloatArray]:
    """One device's statistics as their receiver sees them."""
    layout = AdapterLayout(tuple(parts), tuple(part.shape for part in parts.values()))
    sent = quantise(layout.join(parts), value_type, layout, Mask.full(layout.size))
    return layout.split(np.asarray(sent, dtype=np.float32))


def row_of(name: str, router: Router, features: Features, value_type: ValueType) -> Row:
    """Fit and measure one router."""
    num_tasks = len(features["train"])
    statistics = [
        on_the_wire(router.statistics(own, [task] * own.shape[0], num_tasks), value_type)
        for task, own in enumerate(features["train"])
    ]

    def fitted(left_out: int | None) -> dict[str, FloatArray]:
        received = [parts for task, parts in enumerate(statistics) if task != left_out]
        summed = {part: np.sum([each[part] for each in received], axis=0) for part in statistics[0]}
        return router.fit(summed, features["train"][0], num_tasks)

    def right(split: str) -> list[float]:
        chosen = [router.gates(whole, asked).argmax(axis=1) for asked in features[split]]
        return [float((winners == task).mean()) for task, winners in enumerate(chosen)]

    whole = fitted(None)
    told_apart = []
    for unknown in range(num_tasks):
        without = fitted(unknown)
        familiar = [router.familiarity(without, asked) for asked in features["test"]]
        known = np.concatenate([f for task, f in enumerate(familiar) if task != unknown])
        told_apart.append(auroc(known, familiar[unknown]))
    size = {ValueType.FLOAT32: 4, ValueType.BFLOAT16: 2}[value_type]
    num_bytes = size * sum(part.size for part in statistics[0].values())
    shares, other_words = right("test"), right("paraphrased")
    return Row(
        name,
        num_bytes,
        float(np.mean(shares)),
        min(shares),
        float(np.mean(other_words)),
        float(np.mean(told_apart)),
    )


def questions(scenario: Scenario, backbone: Any) -> dict[str, list[list[Question]]]:
    """By split: the questions of every task."""
    learner = learner_for(backbone)
    suite, seed = scenario.tasks, scenario.seed
    asked = {split: [suite.examples(task, split, seed) for task in suite.names] for split in SPLITS}
    asked["train"] = [examples[: scenario.local.calibration_samples] for examples in asked["train"]]
    return {
        split: [[Question(learner.router_text(e), None) for e in task] for task in tasks]
        for split, tasks in asked.items()
    }


def rows_at(states: Features, seed: int) -> Iterator[Row]:
    """Every router on one hidden state, at every width."""
    hidden = states["train"][0].shape[1]
    for width in (width for width in WIDTHS if width <= hidden):
        features = {
            split: [project_states(task, width, seed) for task in tasks]
            for split, tasks in states.items()
        }
        for scatter in ("full", "diagonal", "none"):
            router = RidgeLda(scatter=scatter)  # type: ignore[arg-type]
            for value_type in (ValueType.FLOAT32, ValueType.BFLOAT16):
                name = f"ridge_lda {scatter}, p {width}, {value_type.name.lower()}"
                yield row_of(name, router, features, value_type)
        yield row_of(f"cosine, p {width}, float32", Cosine(), features, ValueType.FLOAT32)


def main(path: str, layers: Sequence[int | None]) -> None:
    """Print one table a hidden state."""
    scenario = read_scenario(Path(path)).scenario
    backbone = scenario.backbone.load()
    asked = questions(scenario, backbone)
    head = "| router | bytes | right | worst task | in other words | AUROC |\n|---|---:|---:|---:|---:|---:|"
    words = BagOfWords()
    counted = {
        split: [words.features(backbone, task, scenario.seed) for task in tasks]
        for split, tasks in asked.items()
    }
    print(f"{scenario.name}: {len(scenario.tasks.names)} tasks\n\n{head}")
    print(row_of("bag_of_words, float32", words, counted, ValueType.FLOAT32))
    for layer in layers:
        states = {
            split: [
                backbone.prompt_states([q.text for q in task], layer).double().numpy()
                for task in tasks
            ]
            for split, tasks in asked.items()
        }
        print(f"\nhidden state {'in the middle' if layer is None else layer}\n\n{head}", flush=True)
        for row in rows_at(states, scenario.seed):
            print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], [int(layer) for layer in sys.argv[2:]] or [None])
