"""From an undirected graph to directed links with mixing weights.

Shapes: M devices. Edges are pairs (i, j), i != j, in any order and orientation.
"""

from collections.abc import Iterable

import numpy as np

from emulator.core.types.arrays import DoubleArray
from emulator.core.types.survey import Link


def metropolis_links(edges: Iterable[tuple[int, int]], devices: int) -> tuple[Link, ...]:
    """Both directions of every edge, with weights w_ij = 1 / (1 + max(deg i, deg j)).

    Sorted by (receiver, sender). Law: with the own weight 1 - Σ_j w_ij > 0 the mixing matrix is
    symmetric and doubly stochastic; in a full mesh of c devices every weight is 1/c.
    Source: Xiao, Boyd, Lall 2005, Metropolis weights.
    """
    pairs = {(min(edge), max(edge)) for edge in edges}
    degree_M = np.bincount(np.array(sorted(pairs), dtype=np.int64).reshape(-1), minlength=devices)
    links = []
    for low, high in pairs:
        weight = 1.0 / (1 + int(max(degree_M[low], degree_M[high])))
        links += [Link(low, high, weight), Link(high, low, weight)]
    return tuple(sorted(links, key=lambda link: (link.receiver, link.sender)))


def mixing_matrix(links: Iterable[Link], devices: int) -> DoubleArray:
    """The mixing matrix [M, M]: row i holds the weights of receiver i, the diagonal its own weight."""
    weights_MM = np.zeros((devices, devices))
    for link in links:
        weights_MM[link.receiver, link.sender] = link.weight
    np.fill_diagonal(weights_MM, 1.0 - weights_MM.sum(axis=1))
    return weights_MM
