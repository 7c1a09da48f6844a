"""The interfaces of a backbone, frozen and adapted.

Shapes: S sequences, T tokens, H hidden width, N adapter coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.result import ExpertForm
from emulator.core.types.steps import State

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class LoadedBackbone(Protocol):
    """A frozen model with its tokenizer and the names of its adapted modules."""

    @property
    def model(self) -> Module:
        """The frozen model, in eval mode."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Its Hugging Face tokenizer."""
        ...

    @property
    def family(self) -> str:
        """causal_lm or sentence_encoder."""
        ...

    @property
    def name(self) -> str:
        """The name of the base model in an exported adapter."""
        ...

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Full names of the adapted linear modules."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longest input [tokens]; longer ones are cut."""
        ...

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """input_ids and attention_mask [S, T], padded on the right."""
        ...

    def read(self, texts: Sequence[str]) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Forward passes of the frozen model: (attention_mask [S, T], hidden states [S, T, H])."""
        ...

    def prompt_states(self, texts: Sequence[str], layer: int | None) -> Tensor:
        """Mean hidden state of each text over its tokens at a layer (None: the middle) [S, H]."""
        ...


class AdaptedModel(Protocol):
    """A backbone whose trained entries form one flat vector [N]: LoRA layers, or all weights."""

    module: Module
    layout: AdapterLayout
    form: ExpertForm
    scaling: float
    mask: Mask

    @property
    def module_names(self) -> tuple[str, ...]:
        """The adapted modules in layout order."""
        ...

    @property
    def module_sizes(self) -> tuple[int, ...]:
        """Number of entries that a mask can keep in each module: of B, or of the whole weight."""
        ...

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Shape of one layer tensor, trained or not."""
        ...

    def set_tensors(self, tensors: Mapping[str, FloatArray]) -> None:
        """Overwrite layers by name."""
        ...

    def tensors(self) -> dict[str, FloatArray]:
        """All layer tensors by name, copied."""
        ...

    def vector(self) -> FloatArray:
        """The trained entries [N], copied."""
        ...

    def load(self, vector_N: FloatArray) -> None:
        """Overwrite the trained entries; the optimiser keeps its moments."""
        ...

    def restrict(self, mask: Mask) -> None:
        """Set the trained entries to zero and from now on keep only those of the mask."""
        ...

    def start_optimiser(self, learning_rate: float, learns: Mask | None = None) -> None:
        """Start a new optimiser over the entries of `learns` (default: all kept ones).

        The other entries keep their values.
        """
        ...

    def state(self) -> State:
        """Trained entries, mask and optimiser, for a checkpoint."""
        ...

    def restore(self, state: State) -> None:
        """Restore the state of an adapter that was made in the same way."""
        ...

    def step(self, losses: Iterable[Tensor]) -> None:
        """Take one optimiser step along the gradient of the sum of losses.

        The losses are computed one by one, so that one graph is in memory at a time.
        """
        ...


class LowRankModel(AdaptedModel, Protocol):
    """A backbone with LoRA layers."""

    def keep_active(self, active_ranks: int) -> None:
        """Pass only the `active_ranks` largest entries of A h on to B."""
        ...

    def absorb(self, factors: Mapping[str, FloatArray]) -> None:
        """Add scaling * B A of factors of any rank to the device's own weights; trained entries stay."""
        ...

    def learnt(self) -> dict[str, FloatArray]:
        """The total change since the start by module [d, k]: absorbed factors and the present B A."""
        ...
