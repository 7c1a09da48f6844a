"""The duration of local training is the declared one on every host."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from emulator.core.errors import EmulatorError
from emulator.core.types.arrays import FloatArray
from emulator.learning.adapters.lora import LoraModel
from emulator.learning.tasks.causal_learner import CausalLearner
from emulator.learning.tasks.learner import learner_for
from emulator.learning.training import Local, LocalTraining, count_linear_weights, recompute_layers
from emulator.scenario.schema import Scenario
from emulator.scenario.world import World, build_world

STEPS = 3


class Frozen:
    """A model whose steps change nothing."""

    def __init__(self, world: World, form: str = "low_rank") -> None:
        self.module = world.backbone.model
        self.form = form
        self.steps = 0

    def step(self, losses: object) -> None:
        self.steps += 1

    def vector(self) -> FloatArray:
        return np.zeros(1, dtype=np.float32)


def world(**local: object) -> World:
    return build_world(
        Scenario.model_validate(
            {
                "name": "pace",
                "devices": 4,
                "tasks": {"kind": "synthetic", "train_samples": 40, "test_samples": 4},
                "router": {"kind": "uniform"},
                "local": {"steps": STEPS, "batch_size": 4, "step_s": 0.5} | local,
            }
        )
    )


def training(air: World, device: int) -> LocalTraining:
    return air.local_training(device, learner_for(air.backbone))


def test_devices_take_turns_in_the_listed_speeds() -> None:
    air = world(speeds=[1.0, 4.0, 0.5])
    took_s = [training(air, i).run(Frozen(air), STEPS).duration_s for i in range(4)]
    assert took_s == [1.5, 0.375, 3.0, 1.5]
    assert air.scenario.local.planned_s == 3.0


def test_energy_is_power_times_the_declared_time() -> None:
    air = world(speeds=[2.0], compute_power_w=8.0)
    model = Frozen(air)
    trained = training(air, 0).run(model, STEPS)
    assert (trained.duration_s, trained.energy_j, model.steps) == (0.75, 6.0, STEPS)


@pytest.mark.parametrize(("form", "passes"), [("low_rank", 2), ("weights", 3)])
def test_operations_are_two_for_each_weight_token_and_pass(form: str, passes: int) -> None:
    air = world(flop_per_s=[1e9, 1e8])
    learner = learner_for(air.backbone)
    seen = iter(training(air, 1)._batches)
    tokens = sum(int(next(seen).attention_mask.sum()) for _ in range(STEPS))
    layers = 128 * (4 * 128 + 3 * 256)  # attention and MLP of one of three blocks
    assert count_linear_weights(air.backbone.model) == 3 * layers + 71 * 128  # and the head
    trained = air.local_training(1, learner).run(Frozen(air, form), STEPS)
    flop = 2.0 * passes * count_linear_weights(air.backbone.model) * tokens
    assert trained.duration_s == pytest.approx(flop / 1e8)


def test_stragglers_are_drawn_by_device_and_session() -> None:
    air = world(straggler_probability=0.4, straggler_factor=3.0)
    took_s = np.array(
        [[session.run(Frozen(air), 1).duration_s for _ in range(60)]
         for session in (training(air, i) for i in range(4))]
    )  # fmt: skip
    assert set(took_s.ravel().tolist()) == {0.5, 1.5}
    share = (took_s > 1.0).mean()
    assert abs(share - 0.4) < 3.3 * np.sqrt(0.24 / took_s.size)
    again = training(air, 2)
    assert [again.run(Frozen(air), 1).duration_s for _ in range(60)] == took_s[2].tolist()
    assert len({tuple(row) for row in took_s.tolist()}) == 4


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    air = world()

    class Broken(CausalLearner):
        def loss(self, model: nn.Module, batch: object) -> torch.Tensor:
            return torch.tensor(float("nan"))

    class Asking(Frozen):
        def step(self, losses: Iterable[torch.Tensor]) -> None:
            self.steps += len(list(losses))

    broken = air.local_training(0, Broken(air.backbone))
    with pytest.raises(EmulatorError, match="device 0: the loss diverged"):
        broken.run(Asking(air), STEPS)


def learnt(**local: object) -> tuple[FloatArray, FloatArray, float]:
    """B after three steps, the last gradient, and the mean loss."""
    air = world(batch_size=8, **local)
    backbone = air.backbone
    model = LoraModel(backbone.model, backbone.target_modules, 4, 4, ("lora_B",))
    model.start_optimiser(1e-6)
    loss = training(air, 0).run(model, STEPS).loss
    return model.vector(), model._trained._grad_N.numpy(), loss


@pytest.mark.parametrize("size", [1, 3, 4])
def test_parts_of_a_batch_add_up_to_it(size: int) -> None:
    whole, gradient, loss = learnt()
    _, of_parts, loss_of_parts = learnt(micro_batch_size=size)
    np.testing.assert_allclose(of_parts, gradient, rtol=1e-3, atol=1e-5 * np.abs(gradient).max())
    assert loss_of_parts == pytest.approx(loss, rel=1e-5)
    assert learnt(micro_batch_size=8)[0].tobytes() == whole.tobytes()


def test_layers_computed_twice_learn_the_same_bit_for_bit() -> None:
    passes: list[int] = []
    plain, _, loss = learnt()

    def count(module: nn.Module, _inputs: object) -> None:
        if isinstance(module, LlamaRMSNorm) and torch.is_grad_enabled():  # not while loading
            passes.append(1)

    handle = torch.nn.modules.module.register_module_forward_pre_hook(count)
    try:
        learnt()
        once = len(passes)
        recomputed, _, loss_again = learnt(gradient_checkpointing=True)
    finally:
        handle.remove()
    assert recomputed.tobytes() == plain.tobytes()
    assert loss_again == loss
    assert len(passes) - once > 1.8 * once  # all but the last norm, behind the layers


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_diverging_last_step_is_reported(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """No loss shows it, because the next loss is computed after the exchange, by the receivers of the values."""
    air = world()
    monkeypatch.setattr(Frozen, "vector", lambda _self: np.array([0.0, value], dtype=np.float32))
    with pytest.raises(EmulatorError, match=r"device 2: the trained values diverged .* after 3 "):
        training(air, 2).run(Frozen(air), STEPS)


def test_a_backbone_without_such_layers_is_refused() -> None:
    with (
        pytest.raises(EmulatorError, match="gradient_checkpointing"),
        recompute_layers(nn.Linear(2, 2)),
    ):
        pass


def test_a_backbone_whose_authors_rule_it_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = world().backbone.model
    monkeypatch.setattr(model, "supports_gradient_checkpointing", False)
    with pytest.raises(EmulatorError, match="gradient_checkpointing"), recompute_layers(model):
        pass


def test_nothing_of_computing_twice_stays_behind() -> None:
    model = world().backbone.model
    with recompute_layers(model):
        assert model.is_activation_checkpointing
    assert not model.is_activation_checkpointing
    assert not any(part.training or part._forward_hooks for part in model.modules())


def test_one_way_to_declare_a_pace() -> None:
    with pytest.raises(ValueError, match="wanted one of the two"):
        Local(speeds=(1.0,), flop_per_s=(1e9,))
