"""Number of entries of B that each module keeps (method: Eq 18-22 of arXiv 2602.20492).

Shapes: L modules, d outputs and k inputs of a module, n tokens of the calibration batch.
Where the paper is incomplete or inconsistent, the code follows the decisions listed in the README of
methods: C is computed over token inputs with a ridge, and densities are at most 1.
"""

import numpy as np

from emulator.core.types.arrays import DoubleArray, IndexArray


def spectral_entropy(
    weight_dk: DoubleArray, second_moment_kk: DoubleArray, num_tokens: int, ridge: float
) -> float:
    """Normalised spectral entropy H of W0 C in [0, 1] (Eq 20-21).

    second_moment_kk = X X^T summed over the tokens. C = X X^T / n + ridge * tr(X X^T)/(n k) * I,
    p = singular values of W0 C over their sum, H = -sum p log p / log min(d, k). A product of rank 1
    has H = 0; equal singular values have H = 1.
    """
    num_inputs = weight_dk.shape[1]
    covariance = second_moment_kk / num_tokens
    covariance = covariance + ridge * np.trace(covariance) / num_inputs * np.eye(num_inputs)
    return entropy_of(np.linalg.svd(weight_dk @ covariance, compute_uv=False))


def entropy_of(singular_values: DoubleArray) -> float:
    """Entropy of the normalised spectrum over the log of its length; 0 log 0 = 0."""
    share = singular_values / singular_values.sum()
    positive = share[share > 0]
    entropy = float(-(positive * np.log(positive)).sum() / np.log(len(singular_values)))
    return min(1.0, max(0.0, entropy))


def spectral_counts(
    entropies_L: DoubleArray, module_sizes_L: IndexArray, budget: int, temperature: float
) -> IndexArray:
    """Entries to keep in each module under a budget Q (Eq 22, with `min` for the printed `max`).

    tau is the temperature. w_l = n_l exp(H_l / tau) / sum_m n_m exp(H_m / tau);
    s_l = min(1, Q w_l / n_l); the entries above 1 are distributed again among the other modules. Returns
    integer counts [L], rounded by the largest remainder.
    Laws: the counts sum to min(Q, sum n_l), 0 <= count_l <= n_l, equal entropies give equal densities.
    """
    sizes = module_sizes_L.astype(np.float64)
    budget = min(int(budget), int(module_sizes_L.sum()))
    weights = sizes * np.exp((entropies_L - entropies_L.max()) / temperature)
    exact = np.zeros_like(sizes)
    open_L = np.ones(len(sizes), dtype=np.bool_)
    while open_L.any():
        left = budget - exact[~open_L].sum()
        exact[open_L] = left * weights[open_L] / weights[open_L].sum()
        full_L = open_L & (exact >= sizes)
        if not full_L.any():
            break
        exact[full_L] = sizes[full_L]
        open_L &= ~full_L
    return _round_to_sum(exact, budget)


def printed_counts(entropies_L: DoubleArray, module_sizes_L: IndexArray, budget: int) -> IndexArray:
    """Eq 22 as printed, s_l = max(1, Q w_l / n_l): every module keeps all its entries."""
    sizes = module_sizes_L.astype(np.float64)
    weights = sizes * np.exp(entropies_L - entropies_L.max())
    densities_L = np.maximum(1.0, budget * weights / weights.sum() / sizes)
    counts_L: IndexArray = np.minimum(densities_L * sizes, sizes).astype(np.int64)
    return counts_L


def uniform_counts(module_sizes_L: IndexArray, budget: int) -> IndexArray:
    """Entries to keep with the same density in every module: counts [L] that sum to min(Q, sum n_l)."""
    return spectral_counts(np.zeros(len(module_sizes_L)), module_sizes_L, budget, 1.0)


def _round_to_sum(exact_L: DoubleArray, total: int) -> IndexArray:
    """Round exact shares to integers that sum to `total`, by largest remainder; ties by index."""
    counts = np.floor(exact_L + 1e-9).astype(np.int64)
    remainder = exact_L - counts
    missing = total - int(counts.sum())
    counts[np.argsort(-remainder, kind="stable")[:missing]] += 1
    return counts
