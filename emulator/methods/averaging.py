"""How a device merges received adapters: pure functions over flat vectors.

Shapes: N coordinates. A contribution is (weight, values [N], present [N] booleans).
"""

from collections.abc import Sequence

import numpy as np

from emulator.core.types.arrays import BoolArray, DoubleArray, FloatArray

Contribution = tuple[float, FloatArray, BoolArray]


def mask_mean(contributions: Sequence[Contribution]) -> tuple[DoubleArray, BoolArray]:
    """Weighted mean over the devices that write a coordinate, and which coordinates are written.

    mean[x] = sum_j w_j M_j B_j / sum_j w_j M_j, 0 where no device writes. A lost coordinate is not
    present: it is left out of numerator and denominator.
    Laws: a coordinate with one writer keeps its value bit for bit (once back in float32); where all
    agree, nothing changes. The order of the contributions decides the rounding, so callers keep it
    fixed. On values that the wire rounds see held_back.
    """
    size = len(contributions[0][1])
    total_N, weight_N = np.zeros(size), np.zeros(size)
    for weight, values_N, present_N in contributions:
        total_N += np.where(present_N, weight * values_N.astype(np.float64), 0.0)
        weight_N += np.where(present_N, weight, 0.0)
    written_N: BoolArray = weight_N > 0
    return np.divide(total_N, weight_N, out=np.zeros(size), where=written_N), written_N


def printed_mean(
    contributions: Sequence[Contribution], members: int
) -> tuple[DoubleArray, BoolArray]:
    """Eq 10 as printed: sum_j M_j B_j / |c|, without weights, and which coordinates are written.

    members: |c|, also where fewer of them were received.

    A coordinate with one writer shrinks by 1 / |c| each time, so agreement is no fixed point. And Eq 23
    is false as printed: it bounds ||sum_j (B_j M_j - mean) A_j||^2 by something that is 0 at collision
    rate S = 0, where under Eq 10 and orthogonal A the left side is 1 - 1/|c| of sum_j ||B_j M_j A_j||^2
    (each B_j keeps 1/|c| of itself and gets 1/|c| of every other one). With mask_mean, and its own mask
    put over it again for each j, the left side is 0 at S = 0.
    """
    present_JN = np.stack([present_N for _, _, present_N in contributions])
    values_JN = np.stack([values_N for _, values_N, _ in contributions]).astype(np.float64)
    mean_N: DoubleArray = np.where(present_JN, values_JN, 0.0).sum(axis=0) / members
    written_N: BoolArray = np.any(present_JN, axis=0)
    return mean_N, written_N


def held_back(vector_N: FloatArray, rounded_N: FloatArray) -> DoubleArray:
    """x - Q(x): what rounding keeps from all other devices.

    Added to mask_mean over equally rounded values, the own ones among them, it makes the step
    x + sum_j w_j (Q(x_j) - Q(x)) over the writers of a coordinate. Laws: a single writer keeps x
    bit for bit; equal masks and weights keep the mean over the devices, whatever the wire rounds.
    """
    return vector_N.astype(np.float64) - rounded_N


def disagreement(vector_N: FloatArray, others: Sequence[Contribution]) -> float:
    """Consensus distance: root mean square of x_j - x over what of others is present; 0 of nothing."""
    squared, count = 0.0, 0
    for _, values_N, present_N in others:
        difference = values_N[present_N].astype(np.float64) - vector_N[present_N]
        squared += float(difference @ difference)
        count += difference.size
    return float(np.sqrt(squared / count)) if count else 0.0


def collided_share(kept_N: BoolArray, others: Sequence[BoolArray]) -> float:
    """The share of the kept coordinates that other devices write, too."""
    collided_N = np.any([np.zeros_like(kept_N), *others], axis=0)
    return float(collided_N[kept_N].mean())


def gossip_step(
    vector_N: FloatArray, rounded_N: FloatArray, contributions: Sequence[Contribution]
) -> FloatArray:
    """x + sum_j w_j (Q(x_j) - Q(x)): where j's coordinate is lost, the own value stands for it.

    rounded_N is Q(x), the own vector as neighbours received it. Differences of equally rounded values
    let symmetric weights keep the network mean, and agreement is a fixed point.
    """
    return (vector_N + _pull(rounded_N, contributions)).astype(np.float32)


def renormalised_step(
    vector_N: FloatArray, rounded_N: FloatArray, contributions: Sequence[Contribution]
) -> FloatArray:
    """x + sum_j w_j (Q(x_j) - Q(x)) / (1 - sum_lost w_j): the weights of the received values and of
    the own one are scaled up to sum to one.

    Laws: as gossip_step bit for bit where nothing is lost; agreement is a fixed point. The network
    mean is not kept, even if both ends of a link lose the same: their scales differ.
    """
    received_N = np.ones(len(vector_N))
    for weight, _, present_N in contributions:
        received_N -= np.where(present_N, 0.0, weight)
    pull_N = _pull(rounded_N, contributions)
    step_N = np.divide(pull_N, received_N, out=np.zeros(len(vector_N)), where=received_N > 0)
    return (vector_N + step_N).astype(np.float32)


def _pull(rounded_N: FloatArray, contributions: Sequence[Contribution]) -> DoubleArray:
    """sum_j w_j (Q(x_j) - Q(x)) over what is present [N]."""
    pull_N = np.zeros(len(rounded_N))
    for weight, values_N, present_N in contributions:
        difference_N = values_N.astype(np.float64) - rounded_N
        pull_N += np.where(present_N, weight * difference_N, 0.0)
    return pull_N
