"""What a backbone offers, frozen or adapted.

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
    """A frozen model and what belongs to it. `family`: causal_lm or sentence_encoder."""

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
        """What an exported adapter names as its base model."""
        ...

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Full names of the adapted linear modules."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longer inputs are cut."""
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
    """A backbone whose trained entries are one flat vector [N]: LoRA layers, or all its weights."""

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
        """Entries that a mask chooses among in each module: B's, or all of a weight."""
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
        """A fresh optimiser over the entries of `learns`, by default all kept ones; others rest."""
        ...

    def state(self) -> State:
        """Trained entries, mask and optimiser, to go on from after an interruption."""
        ...

    def restore(self, state: State) -> None:
        """Go on from a state of an adapter that was made alike."""
        ...

    def step(self, losses: Iterable[Tensor]) -> None:
        """One optimiser step along the gradient of the sum of losses, one in memory at a time."""
        ...


class LowRankModel(AdaptedModel, Protocol):
    """A backbone with LoRA layers."""

    def keep_active(self, active_ranks: int) -> None:
        """Let only the so many largest entries of A h pass on to B."""
        ...

    def absorb(self, factors: Mapping[str, FloatArray]) -> None:
        """Fold scaling * B A of factors of any rank into own weights; trained entries stay."""
        ...

    def learnt(self) -> dict[str, FloatArray]:
        """All that was learnt since the start, by module [d, k]: absorbed, and the present B A."""
        ...
