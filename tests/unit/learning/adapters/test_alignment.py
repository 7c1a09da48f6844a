"""Inner products of updates, compared with the full update matrices."""

import numpy as np
import pytest

from emulator.core.types.arrays import FloatArray
from emulator.core.types.result import Expert
from emulator.learning.adapters.alignment import alignments, inner_product
from emulator.learning.adapters.projection import gaussian_blocks, orthogonal_blocks


def expert(task: str, seed: int, projections: list[FloatArray], scaling: float = 1.0) -> Expert:
    draws = np.random.default_rng(seed)
    tensors: dict[str, FloatArray] = {}
    for module, projection in enumerate(projections):
        tensors[f"m{module}.lora_A"] = projection
        tensors[f"m{module}.lora_B"] = draws.standard_normal((24, 4)).astype(np.float32)
    return Expert(task, 1, scaling, tensors)


def update(one: Expert) -> FloatArray:
    parts = [
        one.scaling * one.tensors[f"m{m}.lora_B"] @ one.tensors[f"m{m}.lora_A"] for m in range(2)
    ]
    return np.concatenate([part.ravel() for part in parts])


def test_the_inner_product_is_that_of_the_updates() -> None:
    blocks = [gaussian_blocks(1, m, 32, 4, 2) for m in range(2)]
    one = expert("a", 1, [b[0] for b in blocks], scaling=2.0)
    other = expert("b", 2, [b[1] for b in blocks], scaling=0.5)
    assert inner_product(one, other) == pytest.approx(float(update(one) @ update(other)), rel=1e-4)


def test_whole_weights_are_compared_element_by_element() -> None:
    draws = np.random.default_rng(1)
    tensors = [{n: draws.standard_normal((5, 3)) for n in ("v", "w")} for _ in range(2)]
    one, other = (
        Expert("a", 1, s, {n: v.astype(np.float32) for n, v in t.items()}, "weights")
        for s, t in zip((2.0, 0.5), tensors, strict=True)
    )
    wanted = sum(float((tensors[0][n] * tensors[1][n]).sum()) for n in ("v", "w"))
    assert inner_product(one, other) == pytest.approx(wanted, rel=1e-5)


def test_orthogonal_projections_keep_updates_apart_whatever_b_is() -> None:
    blocks = [orthogonal_blocks(1, m, 32, 4, 3) for m in range(2)]
    experts = [expert(name, 7, [b[i] for b in blocks]) for i, name in enumerate("abc")]
    measured = list(alignments(experts))
    assert [(metric, task) for metric, task, _ in measured] == [
        ("alignment/b", "a"),
        ("alignment/c", "a"),
        ("alignment/c", "b"),
    ]
    assert max(abs(value) for _, _, value in measured) < 1e-6


def test_equal_updates_are_aligned_and_none_is_aligned_with_nothing() -> None:
    blocks = [gaussian_blocks(1, m, 32, 4, 1)[0] for m in range(2)]
    one, same = expert("a", 3, blocks), expert("b", 3, blocks)
    zero = Expert("c", 1, 1.0, {k: v * (not k.endswith("B")) for k, v in one.tensors.items()})
    values = {metric: value for metric, task, value in alignments([one, same, zero]) if task == "a"}
    assert values["alignment/b"] == pytest.approx(1.0)
    assert values["alignment/c"] == 0.0
