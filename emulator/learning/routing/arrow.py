"""Routing by the experts' own weights for each token in each module, without any message.

The prototype of an expert in a module is the input direction that its update amplifies most. A token
uses the experts whose prototypes are most parallel to it. Source: arXiv 2405.11157 (Arrow), also in PEFT.
Shapes: S sequences, T tokens, E experts, r lora_rank, k inputs, d outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from emulator.core.protocols.router import LayerGate, ModuleExpert
from emulator.learning.routing.uniform import OpenGates


class Arrow(OpenGates):
    """softmax over the top_m experts of |<h, v_j>| / temperature, v_j the prototype of length one."""

    kind: Literal["arrow"] = "arrow"
    temperature: float = Field(default=1.0, gt=0, description="softness of the gates")
    top_m: int = Field(default=3, gt=0, description="experts that a token uses")

    def layer_gate(self, experts: Sequence[ModuleExpert]) -> LayerGate | None:
        """The gate of one module."""
        prototypes_Ek = torch.stack([prototype(a_rk, b_dr) for a_rk, b_dr, _ in experts])
        return ArrowGate(prototypes_Ek, self.temperature, self.top_m)


@dataclass(frozen=True, eq=False)
class ArrowGate:
    """Gates of every token in one module. The sequences' gates are a prior: 0 excludes an expert."""

    prototypes_Ek: Tensor
    temperature: float
    top_m: int

    def __call__(self, hidden_STk: Tensor, gates_SE: Tensor) -> Tensor:
        """[S, T, E]: g_j exp(|<h, v_j>| / temperature), the top_m largest normalised to sum to one.

        If all gates of a sequence are 0, the gates of its tokens are 0.
        """
        along_STE = (hidden_STk.float() @ self.prototypes_Ek.T).abs() / self.temperature
        logits_STE = along_STE + gates_SE.log().unsqueeze(1)
        top = logits_STE.topk(min(self.top_m, logits_STE.shape[-1]), dim=-1)
        closed = top.values.isneginf().all(dim=-1, keepdim=True)
        soft = top.values.softmax(dim=-1).masked_fill(closed, 0.0)
        return torch.zeros_like(logits_STE).scatter(-1, top.indices, soft)


def prototype(a_rk: Tensor, b_dr: Tensor) -> Tensor:
    """The top right singular vector of B A [k], float32, up to its sign; zeros where B A is zero.

    The computation is in r x r: with A^T = Q R, B A = (B R^T) Q^T, so the vector is Q times that of B R^T.
    """
    basis_kr, upper_rr = torch.linalg.qr(a_rk.double().T)
    core_dr = b_dr.double() @ upper_rr.T
    eigenvalues_r, vectors_rr = torch.linalg.eigh(core_dr.T @ core_dr)
    strongest_k: Tensor = basis_kr @ vectors_rr[:, -1] * (eigenvalues_r[-1] > 0)
    return strongest_k.float()
