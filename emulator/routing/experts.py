"""The implicit mixture of experts: all experts of a device as one stacked adapter.

Shapes: S sequences, T tokens, E experts, r lora_rank, R = sum of the experts' ranks, k inputs,
d outputs. y = W0 h + sum_j g_j scaling_j B_j A_j h, computed as one pair of matrix products:
z = A h over the stack [R, k], gated, then B z over the stack [d, R].
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from emulator.state import Expert


class MixtureLinear(nn.Module):
    """A frozen linear layer of any type and the stacked experts beside it, in float32."""

    stack_A_Rk: Tensor
    stack_B_dR: Tensor

    def __init__(self, base: nn.Linear, experts: Sequence[tuple[Tensor, Tensor, float]]) -> None:
        """experts: (A [r, k], B [d, r], scaling) in gate order."""
        super().__init__()
        self.base = base
        self.register_buffer("stack_A_Rk", torch.cat([a for a, _, _ in experts]), persistent=False)
        self.register_buffer(
            "stack_B_dR",
            torch.cat([b * scaling for _, b, scaling in experts], dim=1),
            persistent=False,
        )
        self.ranks = torch.tensor([len(a) for a, _, _ in experts])
        self.gates_SR = torch.zeros(1, int(self.ranks.sum()))

    def set_gates(self, gates_SE: Tensor) -> None:
        """Gates of the sequences to come; one row serves all of them."""
        self.gates_SR = gates_SE.repeat_interleave(self.ranks, dim=1)

    def forward(self, hidden_STk: Tensor) -> Tensor:
        """[S, T, k] -> [S, T, d]."""
        frozen_STd: Tensor = self.base(hidden_STk)
        z_STR = hidden_STk.float() @ self.stack_A_Rk.T * self.gates_SR.unsqueeze(1)
        return frozen_STd + (z_STR @ self.stack_B_dR.T).to(frozen_STd.dtype)


class RoutedModel:
    """A twin of the backbone in which every adapted layer holds the stacked experts."""

    def __init__(
        self, backbone: nn.Module, experts: Sequence[Expert], twin: Callable[[nn.Module], nn.Module]
    ) -> None:
        """`twin` copies the module tree over the same frozen tensors."""
        self.module = twin(backbone)
        self._mixtures: list[MixtureLinear] = []
        names = [n.removesuffix(".lora_B") for n in experts[0].tensors if n.endswith(".lora_B")]
        for name in names:
            stacked = [
                (
                    torch.from_numpy(expert.tensors[f"{name}.lora_A"]),
                    torch.from_numpy(expert.tensors[f"{name}.lora_B"]),
                    expert.scaling,
                )
                for expert in experts
            ]
            base = self.module.get_submodule(name)
            if not isinstance(base, nn.Linear):
                raise TypeError(f"{name}: got {type(base).__name__}, wanted a linear layer")
            mixture = MixtureLinear(base, stacked)
            self.module.set_submodule(name, mixture)
            self._mixtures.append(mixture)
        self.module.eval()

    def set_gates(self, gates_SE: Tensor) -> None:
        """Gates for the sequences to come: [S, E], or [1, E] for all alike."""
        for mixture in self._mixtures:
            mixture.set_gates(gates_SE)
