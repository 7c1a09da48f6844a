"""What the adapted modules see: second moments of their inputs on a calibration batch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emulator.adapters.density import spectral_entropy
from emulator.protocols import LoadedBackbone
from emulator.state import DoubleArray

CALIBRATION_BATCH = 32


def spectral_entropies(
    backbone: LoadedBackbone, modules: Sequence[str], texts: Sequence[str], ridge: float
) -> DoubleArray:
    """Normalised spectral entropy of each module's W0 C on these texts [L]."""
    moments, num_tokens = input_second_moments(backbone, texts)
    return np.array(
        [
            spectral_entropy(
                backbone.model.get_submodule(name)
                .get_parameter("weight")
                .detach()
                .double()
                .cpu()
                .numpy(),
                moments[name],
                num_tokens,
                ridge,
            )
            for name in modules
        ]
    )


def input_second_moments(
    backbone: LoadedBackbone, texts: Sequence[str]
) -> tuple[dict[str, DoubleArray], int]:
    """X X^T [k, k] of each adapted module over all real tokens of the texts, and their number.

    The frozen model reads the texts; padding does not count.
    """
    moments: dict[str, Tensor] = {}
    kept_ST = torch.empty(0)

    def watch(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def add(_module: Any, inputs: tuple[Tensor, ...]) -> None:
            hidden_nk = inputs[0][kept_ST].float()
            moment = (hidden_nk.T @ hidden_nk).double()
            moments[name] = moments[name] + moment if name in moments else moment

        return add

    handles = [
        backbone.model.get_submodule(name).register_forward_pre_hook(watch(name))
        for name in backbone.target_modules
    ]
    tokens_seen = 0
    try:
        for start in range(0, len(texts), CALIBRATION_BATCH):
            tokens = backbone.tokenize(texts[start : start + CALIBRATION_BATCH])
            kept_ST = tokens["attention_mask"].bool()
            tokens_seen += int(kept_ST.sum())
            with torch.inference_mode():
                backbone.model(**tokens)
    finally:
        for handle in handles:
            handle.remove()
    return {name: moment.cpu().numpy() for name, moment in moments.items()}, tokens_seen
