"""The static projection A of every device and module (method: section IV-B of arXiv 2602.20492).

Shapes: k inputs of a module, r lora_rank, n blocks (one per task or per device).
A is a function of (seed, module, block), so whoever knows these three needs no message for it.
"""

import numpy as np

from emulator.errors import ScenarioError
from emulator.state import DoubleArray, FloatArray
from emulator.streams import stream

GAMMA = 1.0 / np.sqrt(3.0)
"""Scale of A: the standard deviation of a unit-variance uniform row as PEFT would draw it."""


def orthogonal_block(
    seed: int, module_index: int, num_inputs: int, lora_rank: int, num_blocks: int, block: int
) -> FloatArray:
    """Block `block` of one public orthonormal basis: A_i A_j^T = 0 and A_i A_i^T = GAMMA^2 I.

    A seeded Gaussian G [k, n*r] is orthonormalised in float64 (QR, positive diagonal of R); block i
    takes columns i*r ... (i+1)*r - 1, transposed and scaled by GAMMA. Returns A [r, k] float32; the
    laws hold to float32 rounding. Raises ScenarioError when n*r > k: there is no room then.
    """
    if num_blocks * lora_rank > num_inputs:
        raise ScenarioError(
            [
                f"method.lora_rank: got {num_blocks} orthogonal blocks of rank {lora_rank} in a module "
                f"with {num_inputs} inputs, wanted blocks x rank <= inputs "
                "(lower method.lora_rank, or ask for method.projection: gaussian)"
            ]
        )
    gaussian = stream(seed, "projection", module_index).standard_normal(
        (num_inputs, num_blocks * lora_rank)
    )
    basis, upper = np.linalg.qr(gaussian)
    basis = basis * np.where(np.diagonal(upper) < 0, -1.0, 1.0)
    columns = basis[:, block * lora_rank : (block + 1) * lora_rank]
    return np.ascontiguousarray(GAMMA * columns.T, dtype=np.float32)


def gaussian_block(
    seed: int, module_index: int, num_inputs: int, lora_rank: int, block: int
) -> FloatArray:
    """The paper's A up to scale: entries N(0, GAMMA^2 / k), so that E[A A^T] = GAMMA^2 I. [r, k]."""
    entries = stream(seed, "gaussian_projection", module_index, block).standard_normal(
        (lora_rank, num_inputs)
    )
    return np.asarray(entries * (GAMMA / np.sqrt(num_inputs)), dtype=np.float32)


def largest_overlap(blocks_nrk: FloatArray) -> float:
    """max over i != j of ||A_i A_j^T||_2 / GAMMA^2 over the blocks [n, r, k] of one module."""
    blocks: DoubleArray = blocks_nrk.astype(np.float64)
    largest = 0.0
    for i in range(len(blocks)):
        for j in range(i):
            largest = max(largest, float(np.linalg.norm(blocks[i] @ blocks[j].T, ord=2)))
    return float(largest / GAMMA**2)


def common_start(seed: int, module_index: int, num_inputs: int, lora_rank: int) -> FloatArray:
    """A start of a trained A that all devices share: PEFT's own law, U(-b, b) with b = 1/sqrt(k).

    Averaging adapters that started apart would average unrelated directions. [r, k] float32.
    """
    bound = 1.0 / np.sqrt(num_inputs)
    entries = stream(seed, "common_start", module_index).uniform(
        -bound, bound, (lora_rank, num_inputs)
    )
    return entries.astype(np.float32)
