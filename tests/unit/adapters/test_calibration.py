"""Second moments of the inputs of the adapted modules."""

import numpy as np
import pytest
import torch

from emulator.adapters import calibration
from emulator.adapters.calibration import input_second_moments
from emulator.backbone.loading import Backbone, Tiny

TEXTS = ["tag02 : b n h a c ->", "tag05 : a ->", "tag01 : c c d ->", "b"]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Tiny().load()


def slow_moments(backbone: Backbone, texts: list[str]) -> dict[str, np.ndarray]:
    """One text at a time, so that nothing is ever padded, and one token at a time."""
    moments: dict[str, np.ndarray] = {}
    seen: dict[str, torch.Tensor] = {}
    handles = [
        backbone.model.get_submodule(name).register_forward_hook(
            lambda _module, inputs, _output, name=name: seen.update({name: inputs[0]})
        )
        for name in backbone.target_modules
    ]
    for text in texts:
        with torch.no_grad():
            backbone.model(**backbone.tokenizer([text], return_tensors="pt"))
        for name, hidden in seen.items():
            for token in hidden[0].double().numpy():
                moments[name] = moments.get(name, 0.0) + np.outer(token, token)
    for handle in handles:
        handle.remove()
    return moments


def test_moments_equal_a_slow_reference_without_padding(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "CALIBRATION_BATCH", 3)  # padded batches, and a last short one
    moments, tokens_seen = input_second_moments(backbone, TEXTS)
    slow = slow_moments(backbone, TEXTS)
    assert tokens_seen == sum(len(ids) for ids in backbone.tokenizer(TEXTS)["input_ids"])
    assert list(moments) == list(backbone.target_modules)
    for name, moment in moments.items():
        assert moment.dtype == np.float64
        scale = np.abs(slow[name]).max()
        np.testing.assert_allclose(moment, slow[name], rtol=0, atol=2e-5 * scale)


def test_padding_beside_a_text_changes_nothing(backbone: Backbone) -> None:
    alone, few = input_second_moments(backbone, TEXTS[1:2])
    long, _ = input_second_moments(backbone, TEXTS[:1])
    both, many = input_second_moments(backbone, TEXTS[:2])
    assert few < many
    for name in backbone.target_modules:
        wanted = alone[name] + long[name]
        np.testing.assert_allclose(both[name], wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


def test_the_watchers_are_taken_off_even_after_a_failure(backbone: Backbone) -> None:
    def fails(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("no forward pass today")

    handle = backbone.model.register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match="no forward"):
        input_second_moments(backbone, TEXTS[:1])
    handle.remove()
    modules = [backbone.model.get_submodule(name) for name in backbone.target_modules]
    assert not any(module._forward_pre_hooks for module in modules)
