"""The dilution control in real rounds: it is the exchange if the others learn nothing.

Shapes: M devices, N coordinates of the trained vector.
"""

from collections.abc import Collection, Mapping

import numpy as np
import pytest

from emulator.core.protocols.backbone import AdaptedModel
from emulator.core.types.arrays import DoubleArray, FloatArray
from emulator.learning.adapters.lora import LoraModel
from emulator.learning.device_model import DeviceModel
from emulator.learning.inspection import Inspection

from .test_rounds import DEVICES, Rounds, rounds_of

SPARSE: dict[str, object] = {
    "kind": "sparse_orthogonal",
    "density": 0.4,
    "mask_warmup_steps": 1,
    "learning_rate": 0.05,
}
LORI: dict[str, object] = {"kind": "lori", "density": 0.4, "mask_warmup_steps": 1}
LOOKS = {"own_task_every": 1}
Tried = dict[tuple[str, int, int], FloatArray]
"""By prefix, round, device: the trained vector that answered."""


def looked_at(
    monkeypatch: pytest.MonkeyPatch,
    method: dict[str, object],
    idle_in: Collection[int] = (),
    **sections: object,
) -> tuple[Rounds, Tried]:
    """A run in which all but device 0 learn nothing in some rounds, and what was tried in it."""
    tried: Tried = {}
    train_round = DeviceModel.train_round

    def trains(model: DeviceModel) -> None:
        ctx = model._ctx
        if not ctx.info.id or ctx.progress.round_index not in idle_in:
            train_round(model)

    def note(inspection: Inspection, prefix: str, adapted: AdaptedModel) -> None:
        device = inspection._log._device_id  # type: ignore[attr-defined]
        tried[prefix, inspection._round_index, device] = adapted.vector()

    monkeypatch.setattr(DeviceModel, "train_round", trains)
    monkeypatch.setattr(Inspection, "_measure_accuracy", note)
    return rounds_of(method, evaluation=LOOKS, **sections), tried


@pytest.mark.parametrize(
    ("method", "idle_in"),
    [
        ({"kind": "lora"}, (1,)),
        ({"kind": "ffa"}, (1,)),
        ({"kind": "fedsa"}, (1,)),
        ({"kind": "alternating"}, (1,)),
        ({"kind": "lora_by_task"}, (1,)),
        (LORI, (1,)),
        (LORI | {"density": 1.0}, (1,)),
        (LORI | {"aggregation": "mask_mean"}, (1,)),
        (SPARSE, (1,)),
        (SPARSE | {"projection_by": "device"}, (1,)),
        (SPARSE | {"aggregation": "printed"}, (1,)),
        (SPARSE | {"aggregation": "printed_24"}, (1,)),
        ({"kind": "experts_once", "adapter": "lora"}, (0, 1)),
        ({"kind": "experts_once", "density": 0.4}, (0, 1)),
    ],
    ids=str,
)
def test_it_is_the_exchange_if_others_learn_nothing_in_the_round(
    monkeypatch: pytest.MonkeyPatch, method: dict[str, object], idle_in: tuple[int, ...]
) -> None:
    by_task = method["kind"] in ("lora_by_task", "experts_once")
    topology = {"kind": "tasks" if by_task else "complete"}
    _, tried = looked_at(monkeypatch, method, idle_in, topology=topology)
    before_N, diluted_N, after_N = (tried[p, 1, 0] for p in ("before_", "diluted_", "own_"))
    assert np.abs(before_N - after_N).max() > 1e-3
    np.testing.assert_allclose(diluted_N, after_N, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", [{"kind": "lora"}, SPARSE, LORI | {"density": 1.0}], ids=str)
def test_where_others_learn_it_is_not(
    monkeypatch: pytest.MonkeyPatch, method: dict[str, object]
) -> None:
    _, tried = looked_at(monkeypatch, method)
    assert np.abs(tried["diluted_", 1, 0] - tried["own_", 1, 0]).max() > 1e-3


def slow(kept_MN: np.ndarray, weigh: str, b0_N: FloatArray, b1_N: FloatArray) -> DoubleArray:
    """Device 0's control coordinate by coordinate, all four of equal weight."""
    diluted_N = np.zeros(len(b0_N))
    for n in np.flatnonzero(kept_MN[0]):
        writers = int(kept_MN[:, n].sum())
        above = float(b1_N[n]) + (writers - 1) * float(b0_N[n])
        diluted_N[n] = above / (writers if weigh == "writers" else DEVICES)
    return diluted_N


@pytest.mark.parametrize(
    ("method", "weigh"),
    [
        (SPARSE, "writers"),
        (SPARSE | {"aggregation": "printed"}, "devices"),
        (LORI, "devices"),
        (LORI | {"aggregation": "mask_mean"}, "writers"),
        ({"kind": "lora"}, "devices"),
    ],
    ids=str,
)
def test_it_weighs_as_the_method_does_from_where_the_round_started(
    monkeypatch: pytest.MonkeyPatch, method: dict[str, object], weigh: str
) -> None:
    rounds, tried = looked_at(monkeypatch, method, rounds=3)
    for r in (1, 2):
        _, kept_MN = rounds.said_by_all(r)
        wanted_N = slow(kept_MN, weigh, tried["own_", r - 1, 0], tried["before_", r, 0])
        np.testing.assert_allclose(tried["diluted_", r, 0], wanted_N, rtol=0, atol=1e-6)


def test_what_is_not_averaged_is_not_diluted(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds, tried = looked_at(monkeypatch, {"kind": "fedsa"})
    shared_N = rounds.said[1, 0].mask.dense
    before_N, diluted_N = tried["before_", 1, 0], tried["diluted_", 1, 0]
    assert 0 < shared_N.mean() < 1
    assert np.array_equal(diluted_N[~shared_N], before_N[~shared_N])
    assert (diluted_N[shared_N] != before_N[shared_N]).mean() > 0.9


def test_stacking_adds_nothing_of_those_who_learn_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The product B A of the control is all that the exchange folds into the weights."""
    folded: list[tuple[FloatArray, Mapping[str, FloatArray]]] = []
    absorb = LoraModel.absorb

    def note(adapted: LoraModel, factors: Mapping[str, FloatArray]) -> None:
        folded.append((adapted.vector(), factors))
        absorb(adapted, factors)

    monkeypatch.setattr(LoraModel, "absorb", note)
    rounds, tried = looked_at(monkeypatch, {"kind": "stacking"}, (1,))
    layout = rounds.said[1, 0].layout
    trained_N = tried["before_", 1, 0]
    (factors,) = [f for vector_N, f in folded if np.array_equal(vector_N, trained_N)]
    control = layout.split(tried["diluted_", 1, 0])
    for name in (n.removesuffix(".lora_A") for n in layout.names if n.endswith(".lora_A")):
        wanted, got = (t[f"{name}.lora_B"] @ t[f"{name}.lora_A"] for t in (factors, control))
        assert np.abs(wanted).max() > 1e-6
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-7)
