"""Experts that are whole sets of weights: they cannot be stacked, so one copy of the backbone takes turns.

Shapes: E experts. W = W0 + sum_j g_j scaling_j D_j for the differences D_j of expert j.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from emulator.core.types.result import Expert


class RoutedWeights:
    """A copy of the backbone whose weights follow the gates.

    Laws: one gate of 1 gives the weights that the expert was trained with, bit for bit; none open, the
    backbone's.
    """

    def __init__(
        self, backbone: nn.Module, experts: Sequence[Expert], twin: Callable[[nn.Module], nn.Module]
    ) -> None:
        """`twin` copies the model with float32 parameters of its own."""
        self.module = twin(backbone)
        self._frozen = dict(backbone.named_parameters())
        self._experts = experts
        self.module.eval()

    def set_gates(self, gates_1E: Tensor) -> None:
        """Gates for all sequences to come [1, E]: one model has one set of weights at a time."""
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
