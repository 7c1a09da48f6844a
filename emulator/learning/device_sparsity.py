"""The computations of sparse methods on a device: projections, densities and masks.

Shapes: L adapted modules, N coordinates of the trained vector.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from emulator.core.protocols.backbone import LoadedBackbone
from emulator.core.protocols.context import DeviceContext
from emulator.core.protocols.tasks import Learner
from emulator.core.rng import stream
from emulator.core.types.adapter import Mask
from emulator.core.types.arrays import BoolArray, DoubleArray, FloatArray, IndexArray
from emulator.core.types.data import Example
from emulator.learning.adapters import mask_selection
from emulator.learning.adapters.calibration import spectral_entropies
from emulator.learning.adapters.density import printed_counts, spectral_counts, uniform_counts
from emulator.learning.adapters.projection import largest_overlap, layer_blocks
from emulator.learning.device_model import inputs_of


class DeviceSparsity:
    """`core.protocols.context.SparsityContext`."""

    def __init__(
        self,
        backbone: LoadedBackbone,
        learner: Learner,
        sample: Sequence[Example],
        ctx: DeviceContext,
    ) -> None:
        """sample: the device's training examples on which entropies are measured."""
        self._backbone = backbone
        self._learner = learner
        self._sample = sample
        self._ctx = ctx

    def projection(
        self, kind: str, lora_rank: int, num_blocks: int, block: int
    ) -> dict[str, FloatArray]:
        """The frozen A of one of `num_blocks` blocks, by layer name."""
        return {
            f"{name}.lora_A": blocks_nrk[block]
            for name, blocks_nrk in self._layer_blocks(kind, lora_rank, num_blocks)
        }

    def projection_overlap(self, kind: str, lora_rank: int, num_blocks: int) -> float:
        """The largest ||A_i A_j^T||_2 / GAMMA^2 over all blocks and modules; 0 when orthogonal."""
        every_block = self._layer_blocks(kind, lora_rank, num_blocks)
        return max(largest_overlap(blocks_nrk) for _, blocks_nrk in every_block)

    def entropies(self, ridge: float) -> DoubleArray:
        """Spectral entropy of each module on a sample of the device's training data [L] (Eq 20, 21)."""
        names = self._ctx.model.adapted.module_names
        texts = [self._learner.router_text(example) for example in self._sample]
        return spectral_entropies(self._backbone, names, texts, ridge)

    def density_counts(
        self, allocation: str, budget: int, temperature: float, entropies_L: DoubleArray
    ) -> IndexArray:
        """Number of entries of B that each module keeps under a budget [L] (Eq 22)."""
        sizes_L = np.array(self._ctx.model.adapted.layout.sizes, dtype=np.int64)
        if allocation == "uniform":
            return uniform_counts(sizes_L, budget)
        if allocation == "printed":
            return printed_counts(entropies_L, sizes_L, budget)
        return spectral_counts(entropies_L, sizes_L, budget, temperature)

    def largest_entries(self, counts_L: IndexArray, free_N: BoolArray) -> Mask:
        """The mask of the largest trained entries in each module, among the free entries."""
        adapted = self._ctx.model.adapted
        return mask_selection.largest_entries(adapted.vector(), adapted.layout, counts_L, free_N)

    def largest_of_all(self, count: int) -> Mask:
        """The mask of the largest trained entries of all modules together."""
        return mask_selection.largest_of_all(self._ctx.model.adapted.vector(), count)

    def random_entries(self, counts_L: IndexArray) -> Mask:
        """A mask of random entries in each module; the seed and the device determine the draw."""
        draws = stream(self._ctx.info.seed, "random_mask", self._ctx.info.id)
        return mask_selection.random_entries(self._ctx.model.adapted.layout, counts_L, draws)

    def _layer_blocks(
        self, kind: str, lora_rank: int, num_blocks: int
    ) -> Iterator[tuple[str, FloatArray]]:
        """Name and all blocks [n, r, k] of each adapted module."""
        inputs = inputs_of(self._ctx.model.adapted)
        return layer_blocks(inputs, kind, self._ctx.info.seed, lora_rank, num_blocks)
