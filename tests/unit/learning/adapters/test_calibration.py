"""Second moments of the inputs of the adapted modules."""

import numpy as np
import pytest
import torch

from emulator.learning.adapters import calibration
from emulator.learning.adapters.calibration import (
    entropy_on_gpu,
    input_second_moments,
    spectral_entropies,
)
from emulator.learning.adapters.density import spectral_entropy
from emulator.learning.backbone.load import Backbone, Tiny

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
    moments, tokens_seen = input_second_moments(backbone, backbone.target_modules, TEXTS)
    slow = slow_moments(backbone, TEXTS)
    assert tokens_seen == sum(len(ids) for ids in backbone.tokenizer(TEXTS)["input_ids"])
    assert list(moments) == list(backbone.target_modules)
    for name, moment in moments.items():
        assert moment.dtype == torch.float64
        scale = np.abs(slow[name]).max()
        np.testing.assert_allclose(moment, slow[name], rtol=0, atol=2e-5 * scale)


def test_padding_beside_a_text_changes_nothing(backbone: Backbone) -> None:
    alone, few = input_second_moments(backbone, backbone.target_modules, TEXTS[1:2])
    long, _ = input_second_moments(backbone, backbone.target_modules, TEXTS[:1])
    both, many = input_second_moments(backbone, backbone.target_modules, TEXTS[:2])
    assert few < many
    for name in backbone.target_modules:
        wanted = alone[name] + long[name]
        np.testing.assert_allclose(
            both[name], wanted, rtol=0, atol=2e-5 * float(wanted.abs().max())
        )


def test_the_watchers_are_taken_off_even_after_a_failure(backbone: Backbone) -> None:
    def fails(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("no forward pass today")

    handle = backbone.model.base_model.register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match="no forward"):
        input_second_moments(backbone, backbone.target_modules, TEXTS[:1])
    handle.remove()
    modules = [backbone.model.get_submodule(name) for name in backbone.target_modules]
    assert not any(module._forward_pre_hooks for module in modules)


def test_entropies_are_the_same_when_the_texts_are_read_for_few_modules_at_a_time(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = backbone.target_modules
    at_once = spectral_entropies(backbone, names, TEXTS, ridge=0.01)
    readings = []
    read = calibration.input_second_moments

    def counted(*arguments: object) -> object:
        readings.append(arguments[1])
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(calibration, "input_second_moments", counted)
    # The widest input of the model takes 1 MiB, the others 128 KiB each.
    monkeypatch.setattr(calibration, "MOST_MOMENTS_BYTES", 700_000)
    assert spectral_entropies(backbone, names, TEXTS, ridge=0.01).tolist() == at_once.tolist()
    assert len(readings) > 3
    assert [name for group in readings for name in group] == list(names)


def test_entropy_on_the_gpu_equals_that_on_the_cpu() -> None:
    """The computation of the GPU, in main memory."""
    draws = np.random.default_rng(6)
    weight, inputs = draws.standard_normal((5, 9)), draws.standard_normal((9, 30))
    moment = inputs @ inputs.T
    wanted = spectral_entropy(weight, moment, 30, 0.01)
    got = entropy_on_gpu(torch.from_numpy(weight), torch.from_numpy(moment), 30, 0.01)
    assert got == pytest.approx(wanted, rel=1e-12)
