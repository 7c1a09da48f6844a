"""Evaluation speed: answers through routed experts against the bare backbone's `generate`.

Both read the same prompts in the same batches and write the same tokens: the experts, four of rank 8 of
which one is open, as at the end of the quickstart, are zero.
"""

from collections.abc import Iterator

import numpy as np
import torch
from figures import Figure, best_s, print_figures

from emulator.core.types.result import Expert
from emulator.learning.adapters.lora import LoraModel, frozen_twin
from emulator.learning.backbone.load import Tiny
from emulator.learning.routing.mixture import RoutedModel
from emulator.learning.tasks.learner import learner_for
from emulator.learning.tasks.synthetic import Synthetic

RUNS = 5


def figures() -> Iterator[Figure]:
    """Of 200 generated answers."""
    backbone = Tiny().load()
    adapted = LoraModel(backbone.model, backbone.target_modules, 8, 8, ("lora_B",))
    shapes = {name: tensor.shape for name, tensor in adapted.tensors().items()}
    experts = [
        Expert(
            task,
            0,
            1.0,
            {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()},
        )
        for task in ("reverse", "sort", "rotate", "successor")
    ]
    mixture = RoutedModel(backbone.model, experts, frozen_twin)
    mixture.set_gates(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    examples = Synthetic(names=("reverse",), test_samples=200).examples("reverse", "test", 1)
    learner = learner_for(backbone)
    routed_s = best_s(lambda: learner.predict(mixture.module, examples), RUNS)
    adapted_s = best_s(lambda: learner.predict(adapted.module, examples), RUNS)
    bare_s = best_s(lambda: learner.predict(backbone.model, examples), RUNS)
    yield Figure("answers through routed experts", len(examples) / routed_s, "1/s")
    yield Figure("their rate against one PEFT adapter", adapted_s / routed_s, at_least=1.0)
    yield Figure("their rate against the bare backbone", bare_s / routed_s)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print_figures("Evaluation speed, tiny backbone, one core", figures())
