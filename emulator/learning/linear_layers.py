"""Linear layers of a backbone, and their weights in one orientation.

Shapes: k inputs and d outputs of a module. nn.Linear stores W as [d, k], the Conv1D of GPT-2 as [k, d].
"""

from typing import TypeGuard

from torch import Tensor, nn


def is_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a module computes y = W x + b and nothing else: nn.Linear, or the Conv1D of GPT-2."""
    return isinstance(module, nn.Linear) or is_transposed(module)


def is_transposed(module: nn.Module) -> bool:
    """Whether a module stores W as [k, d]."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def as_stored(weight_dk: Tensor, module: nn.Module) -> Tensor:
    """A view of W [d, k] in the orientation in which the module stores it, and the reverse."""
    return weight_dk.T if is_transposed(module) else weight_dk


def weight_of(module: nn.Module) -> Tensor:
    """A view of the W [d, k] of a linear layer."""
    return as_stored(module.get_parameter("weight"), module)
