"""Alignment of experts: inner products of their updates, computed without the full matrices.

Shapes: r lora_rank, k inputs, d outputs. delta_W = scaling B A, or the scaled difference of weights.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from emulator.core.types.result import Expert


def alignments(experts: Sequence[Expert]) -> Iterator[tuple[str, str, float]]:
    """(`alignment/TASK_J`, task i, cosine of delta_W_i and delta_W_j over all modules), i before j.

    The cosine is 0 for orthogonal projections with any masks, and 1 for equal updates. An update of
    zero has a cosine of 0 with every other update.
    """
    norms = [np.sqrt(inner_product(expert, expert)) for expert in experts]
    for i, j in combinations(range(len(experts)), 2):
        product = inner_product(experts[i], experts[j])
        size = float(norms[i] * norms[j])
        yield f"alignment/{experts[j].task}", experts[i].task, product / size if size else 0.0


def inner_product(one: Expert, other: Expert) -> float:
    """<delta_W, delta_W'>_F of two experts of one form, summed over modules.

    For low-rank experts it is the sum of the entries of (B^T B') * (A A'^T), element by element.
    """
    if one.form == "weights":
        pairs = ((values, other.tensors[name]) for name, values in one.tensors.items())
        plain = sum(float((a.astype(np.float64) * b).sum()) for a, b in pairs)
        return plain * one.scaling * other.scaling
    total = 0.0
    for name in one.tensors:
        if name.endswith(".lora_B"):
            module = name.removesuffix(".lora_B")
            ours, theirs = one.tensors, other.tensors
            outputs_rr = ours[name].T.astype(np.float64) @ theirs[name]
            inputs_rr = ours[f"{module}.lora_A"].astype(np.float64) @ theirs[f"{module}.lora_A"].T
            total += float((outputs_rr * inputs_rr).sum())
    return total * one.scaling * other.scaling
