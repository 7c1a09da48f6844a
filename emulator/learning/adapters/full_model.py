"""Every weight of a backbone trained: full-parameter fine-tuning on a copy of one's own.

The trained vector [N] holds the *differences* from the frozen backbone, which every device has: what is
rounded for the wire is then what was learnt, not the weight that it is a small part of, and averaging
differences averages weights. Tied weights (embeddings and output head) are one tensor, counted once.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import nn

from emulator.core.errors import ScenarioError
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.result import ExpertForm
from emulator.core.types.steps import State
from emulator.learning.adapters.flat_vector import TrainedVector
from emulator.learning.adapters.lora import own_twin


class FullModel:
    """A backbone with weights of its own, all trained in float32; see `protocols.AdaptedModel`.

    Its modules are the parameters of the backbone, by name. Laws: `load(vector())` changes nothing, and
    the weights are backbone + vector() bit for bit. Costs 5 N floats: differences, gradient, weights
    and AdamW's two moments.
    """

    form: ExpertForm = "weights"
    scaling = 1.0

    def __init__(self, backbone: nn.Module, max_parameters: int) -> None:
        """A copy that differs in nothing yet. Raises ScenarioError above so many parameters."""
        self._frozen = dict(backbone.named_parameters())
        count = sum(weight.numel() for weight in self._frozen.values())
        if count > max_parameters:
            raise ScenarioError(
                [
                    f"method.max_parameters: got {max_parameters}, wanted at least {count} for this "
                    f"backbone ({20 * count / 1e6:.0f} MB for each device), or a smaller backbone"
                ]
            )
        self.module: nn.Module = own_twin(backbone)
        self._weights = dict(self.module.named_parameters())
        names = tuple(self._frozen)
        self.layout = AdapterLayout(names, tuple(tuple(self._frozen[n].shape) for n in names))
        self.mask = Mask.full(self.layout.size)
        self._trained = TrainedVector(self.layout, next(backbone.parameters()).device)
        self._differences = {name: entries for name, entries, _ in self._trained.views()}
        for name, _, gradient in self._trained.views():
            self._weights[name].requires_grad_(True)
            self._weights[name].grad = gradient

    @property
    def module_names(self) -> tuple[str, ...]:
        """The parameters in layout order."""
        return self.layout.names

    @property
    def module_sizes(self) -> tuple[int, ...]:
        """Entries of each parameter."""
        return self.layout.sizes

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Shape of one parameter by name."""
        return tuple(self._frozen[name].shape)

    def start_optimiser(self, learning_rate: float, learns: Mask | None = None) -> None:
        """A fresh AdamW over the entries of `learns` (default: all kept ones); the others rest."""
        self._trained.start_optimiser(learning_rate, learns or self.mask)

    def step(self, losses: Iterable[torch.Tensor]) -> None:
        """One optimiser step along the gradient of their sum."""
        self._trained.step(losses)
        self._write_weights()

    def vector(self) -> FloatArray:
        """The differences from the frozen backbone [N], copied."""
        return self._trained.vector()

    def load(self, vector_N: FloatArray) -> None:
        """Overwrite the differences; the optimiser keeps its moments."""
        self._trained.load(vector_N)
        self._write_weights()

    def restrict(self, mask: Mask) -> None:
        """Back to the frozen backbone; from now on only the entries of the mask may differ from it.

        The optimiser is to be started anew.
        """
        self.mask = mask
        self._trained.reset()
        self._write_weights()

    def state(self) -> State:
        """Differences from the backbone, mask and optimiser."""
        return {"trained": self._trained.state(), "mask": self.mask}

    def restore(self, state: State) -> None:
        """Go on from a state of the same backbone."""
        self.mask = state["mask"]
        self._trained.restore(state["trained"])
        self._write_weights()

    def set_tensors(self, tensors: Mapping[str, FloatArray]) -> None:
        """Overwrite differences by parameter name. To be called before the optimiser is started."""
        for name, values in tensors.items():
            self._differences[name].copy_(torch.from_numpy(np.array(values)))
        self._write_weights()

    def tensors(self) -> dict[str, FloatArray]:
        """All differences by parameter name, copied."""
        return self.layout.split(self.vector())

    def _write_weights(self) -> None:
        """Make the weights the frozen ones plus the differences."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                torch.add(self._frozen[name], self._differences[name], out=weight)
