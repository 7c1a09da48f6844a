"""Placement of tensors: in main memory, or on a GPU whose devices share one set of frozen weights.

Only the process that uses a GPU initialises it, never a parent that forks. Of the processes of a host
that use the same GPU, the first one loads the weights and the others map them.
"""

import platform

import torch
from torch import nn

from emulator.core.errors import ScenarioError
from emulator.learning.backbone.shared_weights import adopt_weights, export_handles
from emulator.runtime.transport.store import Notes
from emulator.scenario.world import World, add_features, choose_accelerator


def place_on_gpu(world: World, notes: Notes) -> World:
    """Place the weights of this device's process on its GPU and compute the question features there.

    The processes of a host get its GPUs in turn. Returns the world unchanged where the accelerator is
    the CPU. Raises ScenarioError under nccl where devices would have to share a GPU.
    """
    if choose_accelerator(world.scenario) == "cpu":
        return world
    host, gpus = platform.node(), torch.cuda.device_count()
    turn = notes.take_turn(f"GPUs of {host}")
    if world.scenario.backend == "nccl" and turn >= gpus:
        raise ScenarioError(
            [
                f"backend: got nccl and more devices than the {gpus} GPUs of {host}, wanted gloo there"
            ]
        )
    place = f"weights on GPU {turn % gpus} of {host}"
    torch.cuda.set_device(turn % gpus)
    if turn < gpus:
        load_on_gpu(world.backbone.model)
        notes.publish(place, export_handles(world.backbone.model))
    else:
        adopt_weights(world.backbone.model, notes.read(place))
    return add_features(world)


def place_on_first_gpu(world: World) -> World:
    """Do the same in a process that runs all lives: on the first GPU."""
    if choose_accelerator(world.scenario) == "cpu":
        return world
    load_on_gpu(world.backbone.model)
    return add_features(world)


def load_on_gpu(model: nn.Module) -> None:
    """Move a model to the GPU that this process uses."""
    model.to("cuda")


def peak_gpu_mb() -> float:
    """Peak GPU memory of this process's own tensors [MB]; 0 without a GPU."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return 0.0
    return torch.cuda.max_memory_allocated() / 1e6
