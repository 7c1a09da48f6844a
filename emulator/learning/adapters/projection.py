"""The static projection A of every device and module (method: section IV-B of arXiv 2602.20492).

Shapes: k inputs of a module, r lora_rank, n blocks (one per task or per device).
A is a function of (seed, module, block), so every device can compute it without a message.

Benefit of orthogonality: the inner product of two *summed* updates,
<B_i A_i, B_j A_j> = tr(B_i^T B_j A_j A_i^T), is 0 for every B. Limits: an average of B under different A
still mixes entries of different meaning where masks overlap, and B_j A_j x is not small for an input x
of another task.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from emulator.core.errors import ScenarioError
from emulator.core.rng import stream
from emulator.core.types.arrays import DoubleArray, FloatArray

GAMMA = 1.0 / np.sqrt(3.0)
"""Scale of A: the standard deviation of a unit-variance uniform row as PEFT would draw it."""


def projection_blocks(
    kind: str, seed: int, module_index: int, num_inputs: int, lora_rank: int, num_blocks: int
) -> FloatArray:
    """All blocks A of one module [n, r, k] float32. kind: orthogonal or gaussian."""
    if kind == "orthogonal":
        return orthogonal_blocks(seed, module_index, num_inputs, lora_rank, num_blocks)
    return gaussian_blocks(seed, module_index, num_inputs, lora_rank, num_blocks)


def check_room(inputs: Iterable[int], lora_rank: int, num_blocks: int) -> None:
    """Raise ScenarioError if orthogonal blocks need more inputs than the smallest module has.

    inputs: number of inputs of each module.
    """
    fewest = min(inputs)
    if num_blocks * lora_rank > fewest:
        raise ScenarioError(
            [
                f"method.lora_rank: got {num_blocks} orthogonal blocks of rank {lora_rank} in a module "
                f"with {fewest} inputs, wanted blocks x rank <= inputs "
                "(lower method.lora_rank, or set method.projection: gaussian)"
            ]
        )


def orthogonal_blocks(
    seed: int, module_index: int, num_inputs: int, lora_rank: int, num_blocks: int
) -> FloatArray:
    """Blocks of one public orthonormal basis: A_i A_j^T = 0 and A_i A_i^T = GAMMA^2 I.

    A seeded Gaussian G [k, n*r] is orthonormalised in float64 (QR, positive diagonal of R); block i
    takes columns i*r ... (i+1)*r - 1, transposed and scaled by GAMMA. Returns [n, r, k] float32; the
    laws hold to float32 rounding. More blocks do not change the first ones, up to rounding. Raises
    ScenarioError if n*r > k.
    """
    check_room([num_inputs], lora_rank, num_blocks)
    gaussian = stream(seed, "projection", module_index).standard_normal(
        (num_blocks * lora_rank, num_inputs)
    )
    basis, upper = np.linalg.qr(gaussian.T)
    basis = basis * np.where(np.diagonal(upper) < 0, -1.0, 1.0)
    blocks = (GAMMA * basis.T).reshape(num_blocks, lora_rank, num_inputs)
    return np.ascontiguousarray(blocks, dtype=np.float32)


def gaussian_blocks(
    seed: int, module_index: int, num_inputs: int, lora_rank: int, num_blocks: int
) -> FloatArray:
    """The paper's A up to scale: entries N(0, GAMMA^2 / k), so that E[A A^T] = GAMMA^2 I. [n, r, k]."""
    scale = GAMMA / np.sqrt(num_inputs)
    return np.stack(
        [
            stream(seed, "gaussian_projection", module_index, block).normal(
                scale=scale, size=(lora_rank, num_inputs)
            )
            for block in range(num_blocks)
        ]
    ).astype(np.float32)


def layer_blocks(
    inputs_of: Mapping[str, int], kind: str, seed: int, lora_rank: int, num_blocks: int
) -> Iterator[tuple[str, FloatArray]]:
    """Name and all blocks [n, r, k] of each module. inputs_of: number of inputs by module name."""
    for index, (name, num_inputs) in enumerate(inputs_of.items()):
        yield name, projection_blocks(kind, seed, index, num_inputs, lora_rank, num_blocks)


def common_starts(
    inputs_of: Mapping[str, int], seed: int, lora_rank: int
) -> Iterator[tuple[str, FloatArray]]:
    """Name and common start [r, k] of each module. inputs_of: number of inputs by module name."""
    for index, (name, num_inputs) in enumerate(inputs_of.items()):
        yield name, common_start(seed, index, num_inputs, lora_rank)


def largest_overlap(blocks_nrk: FloatArray) -> float:
    """max over i != j of ||A_i A_j^T||_2 / GAMMA^2 over the blocks [n, r, k] of one module."""
    blocks: DoubleArray = blocks_nrk.astype(np.float64)
    largest = 0.0
    for i in range(len(blocks)):
        for j in range(i):
            largest = max(largest, float(np.linalg.norm(blocks[i] @ blocks[j].T, ord=2)))
    return float(largest / GAMMA**2)


def common_start(seed: int, module_index: int, num_inputs: int, lora_rank: int) -> FloatArray:
    """Initial values of a trained A, equal on all devices: U(-b, b) with b = 1/sqrt(k), as in PEFT.

    An average of adapters with different initial values would mix unrelated directions. Returns [r, k]
    float32.
    """
    bound = 1.0 / np.sqrt(num_inputs)
    entries = stream(seed, "common_start", module_index).uniform(
        -bound, bound, (lora_rank, num_inputs)
    )
    return entries.astype(np.float32)
