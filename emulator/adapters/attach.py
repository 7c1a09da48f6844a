"""LoRA layers on a shared frozen backbone, their trained entries held as one flat vector.

PEFT makes and runs the layers. What is added here: every device gets module objects of its own over
the *same* frozen tensors, and all trained entries live in one vector [N] of which the layers hold
views, so that masking, sending and optimising are each one operation and never a loop.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

from emulator.state import AdapterLayout, FloatArray, Mask

ADAPTER = "default"


def frozen_twin(model: nn.Module) -> nn.Module:
    """A copy of the module tree over the same parameters and buffers (no tensor is copied)."""
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, shared)


class LoraModel:
    """A frozen twin of a backbone with LoRA layers; see `protocols.AdaptedModel`.

    `trained` names what learns: ("lora_B",) or ("lora_A", "lora_B"). The layout lists the trained
    tensors module by module as `<module>.lora_A` [r, k] and `<module>.lora_B` [d, r].
    """

    def __init__(
        self,
        backbone: nn.Module,
        target_modules: Sequence[str],
        lora_rank: int,
        lora_alpha: int,
        trained: Sequence[str],
    ) -> None:
        config = LoraConfig(
            r=lora_rank,
            lora_alpha=lora_alpha,
            target_modules=list(target_modules),
            lora_dropout=0.0,
            bias="none",
        )
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.module: nn.Module = get_peft_model(frozen_twin(backbone), config)
        self.module.eval()  # no dropout: its draws would be the only unkeyed ones
        self.scaling = lora_alpha / lora_rank
        self._weights = {
            f"{name.removeprefix('base_model.model.')}.{side}": getattr(layer, side)[ADAPTER].weight
            for name, layer in self.module.named_modules()
            if isinstance(layer, LoraLayer)
            for side in ("lora_A", "lora_B")
        }
        names = tuple(name for name in self._weights if name.rsplit(".", 1)[1] in trained)
        self.layout = AdapterLayout(names, tuple(tuple(self._weights[n].shape) for n in names))
        self._flat = torch.zeros(self.layout.size)
        self._flat_grad = torch.zeros(self.layout.size)
        for weight in self._weights.values():
            weight.requires_grad_(False)
        for name, low, size in zip(names, self.layout.offsets, self.layout.sizes, strict=False):
            weight = self._weights[name]
            self._flat[low : low + size] = weight.detach().reshape(-1)
            weight.data = self._flat[low : low + size].view(weight.shape)
            weight.requires_grad_(True)
            weight.grad = self._flat_grad[low : low + size].view(weight.shape)
        self.mask = Mask.full(self.layout.size)
        self._kept: torch.Tensor | None = None

    @property
    def module_names(self) -> tuple[str, ...]:
        """The adapted modules in layout order."""
        return tuple(name.removesuffix(".lora_B") for name in self._weights if name.endswith("_B"))

    def keep_active(self, active_ranks: int) -> None:
        """Let only the `active_ranks` entries of A h with the largest magnitude pass on to B."""

        def strongest(_module: nn.Module, _inputs: Any, z_STr: torch.Tensor) -> torch.Tensor:
            kept = z_STr.abs().topk(min(active_ranks, z_STr.shape[-1]), dim=-1).indices
            return torch.zeros_like(z_STr).scatter(-1, kept, z_STr.gather(-1, kept))

        for layer in self.module.modules():
            if isinstance(layer, LoraLayer):
                layer.lora_A[ADAPTER].register_forward_hook(strongest)

    def start_optimiser(self, learning_rate: float, learns: Mask | None = None) -> None:
        """A fresh AdamW over the entries of `learns` (default: all kept ones); the others rest.

        Its state and its step grow with their number, not with N.
        """
        moving = learns or self.mask
        self._kept = None if moving.is_full else torch.from_numpy(moving.indices)
        self._parameter = nn.Parameter(
            self._flat if self._kept is None else self._flat[self._kept].clone()
        )
        self._optimiser = torch.optim.AdamW([self._parameter], lr=learning_rate, weight_decay=0.0)

    def step(self, loss: torch.Tensor) -> None:
        """One optimiser step along the gradient of `loss`; entries outside the mask do not move."""
        self._flat_grad.zero_()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._kept is None:
            self._parameter.grad = self._flat_grad
            self._optimiser.step()
            return
        self._parameter.grad = self._flat_grad[self._kept]
        self._optimiser.step()
        with torch.no_grad():
            self._flat[self._kept] = self._parameter

    def vector(self) -> FloatArray:
        """The trained entries [N], copied; zero outside the mask once restricted."""
        copied: FloatArray = self._flat.numpy().copy()
        return copied

    def load(self, vector_N: FloatArray) -> None:
        """Overwrite the trained entries; the optimiser keeps its moments."""
        with torch.no_grad():
            self._flat.copy_(torch.from_numpy(vector_N))
            if self._kept is not None:
                self._parameter.copy_(self._flat[self._kept])

    def restrict(self, mask: Mask) -> None:
        """Reset the trained entries to zero and keep only those of the mask from now on.

        The optimiser is to be started anew.
        """
        self.mask = mask
        self._flat.zero_()

    def set_tensors(self, tensors: Mapping[str, FloatArray]) -> None:
        """Overwrite layers by name (frozen projections, or a common start of trained ones).

        To be called before the optimiser is started.
        """
        with torch.no_grad():
            for name, values in tensors.items():
                self._weights[name].copy_(torch.from_numpy(np.array(values)))

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Shape of one layer tensor by name, trained or not."""
        return tuple(self._weights[name].shape)

    def tensors(self) -> dict[str, FloatArray]:
        """All layer tensors by name, trained and frozen, copied."""
        return {name: w.detach().numpy().copy() for name, w in self._weights.items()}
