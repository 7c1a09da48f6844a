"""Calibration of the adapted modules: second moments of their inputs on a few texts."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emulator.core.protocols.backbone import LoadedBackbone
from emulator.core.types.arrays import DoubleArray
from emulator.learning.adapters.density import entropy_of, spectral_entropy
from emulator.learning.linear_layers import weight_of

CALIBRATION_BATCH = 32
MOST_MOMENTS_BYTES = 1 << 30
"""Memory for the moments of one pass over the texts; further modules need further passes."""


def spectral_entropies(
    backbone: LoadedBackbone, modules: Sequence[str], texts: Sequence[str], ridge: float
) -> DoubleArray:
    """Normalised spectral entropy of each module's W0 C on these texts [L]."""
    entropies: list[float] = []
    for group in _group_modules(backbone, modules):
        moments, num_tokens = input_second_moments(backbone, group, texts)
        for name in group:
            weight_dk = weight_of(backbone.model.get_submodule(name)).detach().double()
            entropy = entropy_on_gpu if weight_dk.is_cuda else _entropy_on_cpu
            entropies.append(entropy(weight_dk, moments.pop(name), num_tokens, ridge))
    return np.array(entropies)


def entropy_on_gpu(
    weight_dk: Tensor, second_moment_kk: Tensor, num_tokens: int, ridge: float
) -> float:
    """`spectral_entropy` on the GPU; on a CPU a model of a billion parameters takes minutes."""
    covariance_kk = second_moment_kk / num_tokens
    covariance_kk.diagonal().add_(ridge * covariance_kk.trace() / len(covariance_kk))
    return entropy_of(torch.linalg.svdvals(weight_dk @ covariance_kk).cpu().numpy())


def _entropy_on_cpu(
    weight_dk: Tensor, second_moment_kk: Tensor, num_tokens: int, ridge: float
) -> float:
    return spectral_entropy(weight_dk.numpy(), second_moment_kk.numpy(), num_tokens, ridge)


def _group_modules(backbone: LoadedBackbone, modules: Sequence[str]) -> Iterator[list[str]]:
    """Groups of modules whose moments together fit into MOST_MOMENTS_BYTES."""
    group: list[str] = []
    room = MOST_MOMENTS_BYTES
    for name in modules:
        inputs = weight_of(backbone.model.get_submodule(name)).shape[1]
        num_bytes = inputs**2 * torch.float64.itemsize
        if group and num_bytes > room:
            yield group
            group, room = [], MOST_MOMENTS_BYTES
        group.append(name)
        room -= num_bytes
    yield group


def input_second_moments(
    backbone: LoadedBackbone, modules: Sequence[str], texts: Sequence[str]
) -> tuple[dict[str, Tensor], int]:
    """X X^T [k, k] float64 of each module over all tokens of the texts, and the number of tokens.

    The frozen model reads the texts; padding does not count. The output layer, whose logits are as many
    as the vocabulary, runs only if it is one of the modules, and then for one text at a time.
    """
    moments: dict[str, Tensor] = {}
    kept_ST = last_STk = last_kk = torch.empty(0)

    def watch(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def add(_module: Any, inputs: tuple[Tensor, ...]) -> None:
            nonlocal last_STk, last_kk
            if inputs[0] is not last_STk:  # queries, keys and values have the same input
                hidden_nk = inputs[0][kept_ST].float()
                last_STk, last_kk = inputs[0], (hidden_nk.T @ hidden_nk).double()
            moments[name] = moments[name] + last_kk if name in moments else last_kk

        return add

    handles = [
        backbone.model.get_submodule(name).register_forward_pre_hook(watch(name))
        for name in modules
    ]
    body: nn.Module = backbone.model.base_model  # type: ignore[assignment]
    watched = {backbone.model.get_submodule(name) for name in modules}
    reader, batch = (
        (body, CALIBRATION_BATCH) if watched <= set(body.modules()) else (backbone.model, 1)
    )
    tokens_seen = 0
    try:
        for start in range(0, len(texts), batch):
            tokens = backbone.tokenize(texts[start : start + batch])
            kept_ST = tokens["attention_mask"].bool()
            tokens_seen += int(kept_ST.sum())
            with torch.inference_mode():
                reader(**tokens)
    finally:
        for handle in handles:
            handle.remove()
    return moments, tokens_seen
