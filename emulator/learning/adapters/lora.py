"""LoRA layers on a shared frozen backbone, with all trained entries in one flat vector.

PEFT makes and runs the layers. This file adds two things: every device gets its own module objects over
the *same* frozen tensors, and all trained entries are in one vector [N] of which the layers hold views,
so that masking, sending and optimising are each one operation without a loop.
Shapes: k inputs and d outputs of a module, r lora_rank, R any rank.
"""

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import LoraVariant
from torch import nn

from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.result import ExpertForm
from emulator.core.types.steps import State
from emulator.learning.adapters.flat_vector import TrainedVector
from emulator.learning.linear_layers import as_stored

ADAPTER = "default"


def frozen_twin(model: nn.Module) -> nn.Module:
    """Copy the module tree over the same parameters and buffers; no tensor is copied."""
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, shared)


def own_twin(model: nn.Module) -> nn.Module:
    """Copy the model with its own float32 parameters; tied parameters stay tied."""
    memo: dict[int, torch.Tensor] = {id(buffer): buffer for buffer in model.buffers()}
    for parameter in model.parameters():
        copied = parameter.detach().to(torch.float32, copy=True)
        memo[id(parameter)] = nn.Parameter(copied, requires_grad=False)
    return copy.deepcopy(model, memo)


class Unscaled(LoraVariant):
    """W x + B A x: PEFT's LoRA without the product with a scaling of 1, which takes 1/16 of a step."""

    @staticmethod
    def forward(
        module: LoraLayer,
        active_adapter: str,
        x: torch.Tensor,
        result: torch.Tensor,
        **_kwargs: Any,
    ) -> torch.Tensor:
        """The same result as with the product, bit for bit."""
        low_rank: torch.Tensor = module.lora_B[active_adapter](module.lora_A[active_adapter](x))
        return result + low_rank


class LoraModel:
    """A frozen twin of a backbone with LoRA layers; see `protocols.LowRankModel`.

    `trained` names the trained sides: ("lora_B",) or ("lora_A", "lora_B"). The layout lists the trained
    tensors module by module as `<module>.lora_A` [r, k] and `<module>.lora_B` [d, r].
    """

    form: ExpertForm = "low_rank"

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
        self.module.eval()  # no dropout: its draws would be without a key
        self.scaling = lora_alpha / lora_rank
        layers = {
            name.removeprefix("base_model.model."): layer
            for name, layer in self.module.named_modules()
            if isinstance(layer, LoraLayer)
        }
        if self.scaling == 1:
            for layer in layers.values():
                layer.lora_variant[ADAPTER] = Unscaled()
        self._weights = {
            f"{name}.{side}": getattr(layer, side)[ADAPTER].weight
            for name, layer in layers.items()
            for side in ("lora_A", "lora_B")
        }
        for weight in self._weights.values():
            weight.requires_grad_(False)
        names = tuple(name for name in self._weights if name.rsplit(".", 1)[1] in trained)
        self.layout = AdapterLayout(names, tuple(tuple(self._weights[n].shape) for n in names))
        self._trained = TrainedVector(self.layout, next(backbone.parameters()).device)
        for name, entries, gradient in self._trained.views():
            weight = self._weights[name]
            entries.copy_(weight.detach())
            weight.data = entries
            weight.requires_grad_(True)
            weight.grad = gradient
        self.mask = Mask.full(self.layout.size)
        self._bases = {name: cast(nn.Linear, x.get_base_layer()) for name, x in layers.items()}
        self._frozen = {name: base.weight for name, base in self._bases.items()}
        self._absorbed: dict[str, torch.Tensor] = {}

    @property
    def module_names(self) -> tuple[str, ...]:
        """The adapted modules in layout order."""
        return tuple(self._bases)

    @property
    def module_sizes(self) -> tuple[int, ...]:
        """Entries d*r of B in each module."""
        return tuple(self._weights[f"{name}.lora_B"].numel() for name in self._bases)

    def keep_active(self, active_ranks: int) -> None:
        """Pass only the `active_ranks` entries of A h with the largest magnitude on to B."""

        def strongest(_module: nn.Module, _inputs: Any, z_STr: torch.Tensor) -> torch.Tensor:
            kept = z_STr.abs().topk(min(active_ranks, z_STr.shape[-1]), dim=-1).indices
            return torch.zeros_like(z_STr).scatter(-1, kept, z_STr.gather(-1, kept))

        for layer in self.module.modules():
            if isinstance(layer, LoraLayer):
                layer.lora_A[ADAPTER].register_forward_hook(strongest)

    def start_optimiser(self, learning_rate: float, learns: Mask | None = None) -> None:
        """Start a new AdamW over the entries of `learns` (default: all kept ones); the others stay fixed."""
        self._trained.start_optimiser(learning_rate, learns or self.mask)

    def step(self, losses: Iterable[torch.Tensor]) -> None:
        """Take one step along the gradient of the sum of losses; entries outside the mask stay fixed."""
        self._trained.step(losses)

    def vector(self) -> FloatArray:
        """The trained entries [N], copied; zero outside the mask once restricted."""
        return self._trained.vector()

    def load(self, vector_N: FloatArray) -> None:
        """Overwrite the trained entries; the optimiser keeps its moments."""
        self._trained.load(vector_N)

    def restrict(self, mask: Mask) -> None:
        """Set the trained entries to zero; from now on only the entries of the mask are kept.

        Call `start_optimiser` before the next step.
        """
        self.mask = mask
        self._trained.reset()

    def absorb(self, factors: Mapping[str, FloatArray]) -> None:
        """Add `<module>.lora_B` [d, R] times `<module>.lora_A` [R, k] to the device's own weights.

        W becomes W + scaling * B A. The sum of products is kept in float32, the weight in the backbone's
        type. The backbone itself and the trained entries do not change.
        """
        for name, base in self._bases.items():
            factor_B_dR = torch.from_numpy(factors[f"{name}.lora_B"]).to(base.weight.device)
            factor_A_Rk = torch.from_numpy(factors[f"{name}.lora_A"]).to(base.weight.device)
            product_dk = self.scaling * (factor_B_dR @ factor_A_Rk)
            self._absorbed[name] = self._absorbed.get(name, 0.0) + product_dk
            self._write_absorbed(name)

    def _write_absorbed(self, name: str) -> None:
        """Set a module's weight to the frozen weight plus the absorbed products."""
        base, frozen = self._bases[name], self._frozen[name]
        total = frozen.detach() + as_stored(self._absorbed[name], base)
        base.weight = nn.Parameter(total.to(frozen.dtype), requires_grad=False)

    def learnt(self) -> dict[str, FloatArray]:
        """The total change since the start by module [d, k]: absorbed products and the present B A."""
        weights = self._weights
        with torch.no_grad():
            return {
                name: (
                    self.scaling * (weights[f"{name}.lora_B"] @ weights[f"{name}.lora_A"])
                    + self._absorbed.get(name, 0.0)
                )
                .cpu()
                .numpy()
                for name in self._bases
            }

    def state(self) -> State:
        """Trained entries, mask, optimiser and absorbed products.

        Tensors that the method sets at its start are not part of the state.
        """
        absorbed = {name: delta.cpu().numpy().copy() for name, delta in self._absorbed.items()}
        return {"trained": self._trained.state(), "mask": self.mask, "absorbed": absorbed}

    def restore(self, state: State) -> None:
        """Restore the state of an adapter that was made and started in the same way."""
        self.mask = state["mask"]
        self._trained.restore(state["trained"])
        for name, delta_dk in state["absorbed"].items():
            frozen = self._frozen[name]
            self._absorbed[name] = torch.from_numpy(delta_dk.copy()).to(frozen.device)
            self._write_absorbed(name)

    def set_tensors(self, tensors: Mapping[str, FloatArray]) -> None:
        """Overwrite layers by name (frozen projections, or initial values of trained ones).

        Call this before the optimiser is started.
        """
        with torch.no_grad():
            for name, values in tensors.items():
                self._weights[name].copy_(torch.from_numpy(np.array(values)))

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Shape of one layer tensor by name, trained or not."""
        return tuple(self._weights[name].shape)

    def tensors(self) -> dict[str, FloatArray]:
        """All layer tensors by name, trained and frozen, copied."""
        return {name: np.array(w.detach().cpu().numpy()) for name, w in self._weights.items()}
