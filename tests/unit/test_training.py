"""The pace of local training: as declared, whatever the host."""

import numpy as np
import pytest

from emulator.errors import EmulatorError
from emulator.scenario import Scenario
from emulator.sections import Local
from emulator.tasks.learning import learner_for
from emulator.training import LocalTraining, linear_weights
from emulator.world import World, build_world

STEPS = 3


class Frozen:
    """A model whose steps change nothing."""

    def __init__(self, world: World, form: str = "low_rank") -> None:
        self.module = world.backbone.model
        self.form = form
        self.steps = 0

    def step(self, loss: object) -> None:
        self.steps += 1


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
    return LocalTraining(air, device, learner_for(air.backbone), air.shards[device])


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
    assert linear_weights(air.backbone.model) == 3 * layers + 71 * 128  # and the head
    trained = LocalTraining(air, 1, learner, air.shards[1]).run(Frozen(air, form), STEPS)
    flop = 2.0 * passes * linear_weights(air.backbone.model) * tokens
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

    class Broken(Frozen):
        def step(self, loss: object) -> None:
            super().step(loss)
            with np.errstate(all="ignore"):
                loss.data.fill_(float("nan"))

    with pytest.raises(EmulatorError, match="device 0: the loss diverged"):
        training(air, 0).run(Broken(air), STEPS)


def test_one_way_to_declare_a_pace() -> None:
    with pytest.raises(ValueError, match="wanted one of the two"):
        Local(speeds=(1.0,), flop_per_s=(1e9,))
