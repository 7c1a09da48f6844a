"""Experts that are whole sets of weights: one copy of the backbone holds their mixture, one at a time.

Shapes: E experts. W = W0 + sum_j g_j scaling_j D_j for the differences D_j of expert j.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from emulator.core.types.result import Expert


class RoutedWeights:
    """A copy of the backbone whose weights depend on the gates.

    Laws: a single gate of 1 gives the trained weights of this expert, bit for bit; gates of 0 give the
    weights of the backbone.
    """

    def __init__(
        self, backbone: nn.Module, experts: Sequence[Expert], twin: Callable[[nn.Module], nn.Module]
    ) -> None:
        """twin: copies the model with its own float32 parameters."""
        self.module = twin(backbone)
        self._frozen = dict(backbone.named_parameters())
        self._experts = experts
        self.module.eval()

    def set_gates(self, gates_1E: Tensor) -> None:
        """Set the gates of all next sequences [1, E]; one model has one set of weights at a time."""
        if len(gates_1E) != 1:
            raise ValueError(f"gates: got {len(gates_1E)} rows, wanted one for all sequences")
        gates_E: list[float] = gates_1E[0].tolist()
        with torch.no_grad():
            for name, weight in self.module.named_parameters():
                weight.copy_(self._frozen[name])
                for gate, expert in zip(gates_E, self._experts, strict=True):
                    if gate:
                        difference = torch.from_numpy(expert.tensors[name]).to(weight.device)
                        weight.add_(difference, alpha=gate * expert.scaling)
