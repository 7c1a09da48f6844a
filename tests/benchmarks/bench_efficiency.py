"""Emulation efficiency: what of a machine's cores goes into the training that is emulated.

The quickstart is run as a user runs it, and its local steps are taken again in a bare PEFT loop: same
model, same batches, AdamW, nothing else. efficiency = CPU seconds of the bare loop / (wall x cores).
"""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from figures import Figure, print_figures
from peft import LoraConfig, get_peft_model

from emulator.core.rng import stream
from emulator.core.types.data import Shard
from emulator.learning.backbone.load import Backbone
from emulator.learning.tasks.learner import learner_for
from emulator.runtime.drivers.core_permits import count_cores
from emulator.scenario.load import read_scenario
from emulator.scenario.world import World, build_world

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
METHODS = {"sparse_orthogonal": False, "lora": True}
"""Whether A is trained too."""


def bare_cpu_s(world: World, backbone: Backbone, shard: Shard, trains_a: bool) -> float:
    """CPU seconds of one device's local steps."""
    local = world.scenario.local
    config = LoraConfig(r=8, lora_alpha=8, target_modules=list(backbone.target_modules))
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        model = get_peft_model(backbone.model, config)  # which asks transformers an old question
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_B" in name or ("lora_A" in name and trains_a))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-3)
    learner = learner_for(backbone)
    batches = learner.batches(shard, local.batch_size, stream(1, "batches", shard.device))
    began_s = time.process_time()
    for _ in range(world.scenario.rounds * local.steps):
        optimiser.zero_grad()
        learner.loss(model, next(batches)).backward()
        optimiser.step()
    spent_s = time.process_time() - began_s
    model.unload()
    return spent_s


def figures() -> Iterator[Figure]:
    """Of the quickstart, both methods."""
    world = build_world(read_scenario(QUICKSTART).scenario)
    for method, trains_a in METHODS.items():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "emulator", "run", str(QUICKSTART), "--quiet"]
            command += ["--out", f"{folder}/run", "--set", f"method.kind={method}"]
            began_s = time.monotonic()
            subprocess.run(command, check=True)
            whole_s = time.monotonic() - began_s
            summary = json.loads(Path(f"{folder}/run/summary.json").read_text())
        bare_s = sum(bare_cpu_s(world, world.backbone, shard, trains_a) for shard in world.shards)
        cores = count_cores()
        yield Figure(f"{method}: wall, start of the interpreter included", whole_s, "s")
        yield Figure(f"{method}: wall by its own clock", summary["wall_s"], "s")
        yield Figure(f"{method}: CPU", summary["cpu_s"], "s")
        yield Figure(f"{method}: CPU of its local steps", summary["train_cpu_s"], "s")
        yield Figure(f"{method}: CPU of the same steps in a bare loop", bare_s, "s")
        share = bare_s / (summary["wall_s"] * cores)
        yield Figure(f"{method}: efficiency on {cores} cores", share, at_least=0.85)
        yield Figure(f"{method}: efficiency by the whole wall", bare_s / (whole_s * cores))


if __name__ == "__main__":
    torch.set_num_threads(1)
    print_figures("Emulation efficiency in the quickstart", figures())
