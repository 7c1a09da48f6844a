"""The implicit mixture of experts: all experts of a device as one stacked adapter.

Shapes: S sequences, T tokens, E experts, r lora_rank, R = sum of the ranks of the experts with open
(positive) gates, k inputs, d outputs. y = W0 h + sum_j g_j scaling_j B_j A_j h is computed as one pair of
matrix products: z = A h over the stack [R, k], times the gates, then B z over the stack [d, R].
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from emulator.core.protocols.router import LayerGate, ModuleExpert
from emulator.core.types.arrays import FloatArray
from emulator.core.types.result import Expert
from emulator.learning.linear_layers import is_linear

LayerGates = Callable[[Sequence[ModuleExpert]], LayerGate | None]
"""The type of `protocols.Router.layer_gate`: maps the experts of a module to its gate."""


def expert_gates(
    gates_ST: FloatArray, task_names: Sequence[str], experts: Sequence[Expert]
) -> FloatArray:
    """Gates of experts [S, E] from gates of tasks [S, tasks]: experts of one task share its gate equally.

    The gate of a task without an expert is dropped; the backbone answers in its place.
    """
    columns = [task_names.index(expert.task) for expert in experts]
    shares_E = np.array([1.0 / columns.count(column) for column in columns], dtype=np.float32)
    gates_SE: FloatArray = gates_ST[:, columns] * shares_E
    return gates_SE


class MixtureLinear(nn.Module):
    """A frozen linear layer of any type, and the stacked experts in float32.

    Laws: with a single open gate of 1, the output is bit for bit that of a mixture of this expert alone,
    and equals the adapted layer of the expert up to rounding. Without open gates it is bit for bit the
    output of the frozen layer. `active_ranks` of R or more have no effect.
    """

    stack_A_Rk: Tensor
    stack_B_dR: Tensor

    def __init__(
        self,
        base: nn.Linear,
        experts: Sequence[ModuleExpert],
        active_ranks: int | None = None,
        layer_gate: LayerGate | None = None,
    ) -> None:
        """experts: in the order of the gates. active_ranks: entries of z that a token keeps (None: all)."""
        super().__init__()
        self.base = base
        device = base.weight.device
        stack_A_Rk = torch.cat([a for a, _, _ in experts])
        stack_B_dR = torch.cat([b * scaling for _, b, scaling in experts], dim=1)
        self.register_buffer("stack_A_Rk", stack_A_Rk.to(device), persistent=False)
        self.register_buffer("stack_B_dR", stack_B_dR.to(device), persistent=False)
        self.ranks = torch.tensor([len(a) for a, _, _ in experts], device=device)
        self._active_ranks = active_ranks
        self._layer_gate = layer_gate
        self.set_gates(torch.zeros(1, len(experts)))

    def set_gates(self, gates_SE: Tensor) -> None:
        """Set the gates of the next sequences; one row is for all of them. Closed experts take no time."""
        gates_SE = gates_SE.to(self.ranks.device)
        open_R = (gates_SE > 0).any(dim=0).repeat_interleave(self.ranks)
        self._gates_SE, self._open_R = gates_SE, open_R
        self._gates_S1R = self._of_ranks(gates_SE.unsqueeze(1))
        self._open_A_Rk, self._open_B_dR = self.stack_A_Rk[open_R], self.stack_B_dR[:, open_R]

    def forward(self, hidden_STk: Tensor) -> Tensor:
        """Outputs [S, T, d] of inputs [S, T, k]."""
        frozen_STd: Tensor = self.base(hidden_STk)
        z_STR = hidden_STk.float() @ self._open_A_Rk.T * self._rank_gates(hidden_STk)
        if self._active_ranks is not None and self._active_ranks < z_STR.shape[-1]:
            z_STR = keep_largest(z_STR, self._active_ranks)
        return frozen_STd + (z_STR @ self._open_B_dR.T).to(frozen_STd.dtype)

    def _rank_gates(self, hidden_STk: Tensor) -> Tensor:
        """The gates of the open ranks, [S or 1, T or 1, R]."""
        if self._layer_gate is None:
            return self._gates_S1R
        return self._of_ranks(self._layer_gate(hidden_STk, self._gates_SE))

    def _of_ranks(self, gates_STE: Tensor) -> Tensor:
        return gates_STE.repeat_interleave(self.ranks, dim=-1)[..., self._open_R]


def keep_largest(z_STR: Tensor, count: int) -> Tensor:
    """Keep the `count` largest magnitudes of every token; the other entries of z become zero."""
    kept = z_STR.abs().topk(count, dim=-1).indices
    return torch.zeros_like(z_STR).scatter(-1, kept, z_STR.gather(-1, kept))


class RoutedModel:
    """A twin of the backbone in which every adapted layer holds the stacked experts."""

    def __init__(
        self,
        backbone: nn.Module,
        experts: Sequence[Expert],
        twin: Callable[[nn.Module], nn.Module],
        active_ranks: int | None = None,
        layer_gates: LayerGates = lambda experts: None,
    ) -> None:
        """twin: copies the module tree over the same frozen tensors."""
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
            if not is_linear(base):
                raise TypeError(f"{name}: got {type(base).__name__}, wanted a linear layer")
            mixture = MixtureLinear(base, stacked, active_ranks, layer_gates(stacked))
            self.module.set_submodule(name, mixture)
            self._mixtures.append(mixture)
        self.module.eval()

    def set_gates(self, gates_SE: Tensor) -> None:
        """Set the gates of the next sequences: [S, E], or [1, E] for all; they also apply in decoding."""
        for mixture in self._mixtures:
            mixture.set_gates(gates_SE)
