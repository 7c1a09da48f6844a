"""Full-parameter fine-tuning: every weight of a device's own copy of the backbone is trained.

The trained vector [N] holds the *differences* from the frozen backbone, which every device has. Rounding
for transmission then affects the small differences and not the whole weights, and the average of
differences is the average of weights. Tied weights (embeddings and output head) are one tensor and count
once.
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
    """A copy of the backbone whose float32 weights are all trained; see `protocols.AdaptedModel`.

    Its modules are the parameters of the backbone, by name. Laws: `load(vector())` changes nothing, and
    the weights are backbone + vector() bit for bit. It needs 5 N floats: differences, gradient, weights
    and the two moments of AdamW.
    """

    form: ExpertForm = "weights"
    scaling = 1.0

    def __init__(self, backbone: nn.Module, max_parameters: int) -> None:
        """Copy the backbone. Raises ScenarioError if it has more than `max_parameters` parameters."""
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
        """Shape of the parameter with this name."""
        return tuple(self._frozen[name].shape)

    def start_optimiser(self, learning_rate: float, learns: Mask | None = None) -> None:
        """Start a new AdamW over the entries of `learns` (default: all kept ones); the others stay fixed."""
        self._trained.start_optimiser(learning_rate, learns or self.mask)

    def step(self, losses: Iterable[torch.Tensor]) -> None:
        """Take one optimiser step along the gradient of the sum of losses."""
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
        """Reset all differences to zero; from now on only the entries of the mask may differ from zero.

        Call `start_optimiser` before the next step.
        """
        self.mask = mask
        self._trained.reset()
        self._write_weights()

    def state(self) -> State:
        """Differences from the backbone, mask and optimiser."""
        return {"trained": self._trained.state(), "mask": self.mask}

    def restore(self, state: State) -> None:
        """Restore a state of the same backbone."""
        self.mask = state["mask"]
        self._trained.restore(state["trained"])
        self._write_weights()

    def set_tensors(self, tensors: Mapping[str, FloatArray]) -> None:
        """Overwrite differences by parameter name. Call this before the optimiser is started."""
        for name, values in tensors.items():
            self._differences[name].copy_(torch.from_numpy(np.array(values)))
        self._write_weights()

    def tensors(self) -> dict[str, FloatArray]:
        """All differences by parameter name, copied."""
        return self.layout.split(self.vector())

    def _write_weights(self) -> None:
        """Set the weights to the frozen weights plus the differences."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                torch.add(self._frozen[name], self._differences[name], out=weight)
