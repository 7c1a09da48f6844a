"""The sections of a scenario that belong to no room: training, measuring, stopping, time."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from emulator.names import Name


class Section(BaseModel):
    """A part of the scenario that belongs to no room."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ByMethod(Section):
    """The graph that suits the method: clusters for sparse_orthogonal, random_regular for most others,
    the devices of each task for those that average within tasks, none for local.
    """

    kind: Literal["by_method"] = "by_method"
    degree: int = Field(default=3, gt=0, description="neighbours of each device in a random graph")
    max_collision_rate: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="S_max: clusters grow while colliding no more than this",
    )


class Local(Section):
    """Local training and what it costs a device in emulated time and energy (declared)."""

    steps: int = Field(default=15, gt=0, description="E: local steps of a round")
    batch_size: int = Field(default=32, gt=0, description="examples of a step")
    micro_batch_size: int | None = Field(
        default=None,
        gt=0,
        description="examples that are in memory at once; default: all of a step",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="keep only the inputs of layers and compute them once more: less memory, more time",
    )
    step_s: float = Field(default=0.1, ge=0, description="emulated time of a step [s]")
    speeds: tuple[PositiveFloat, ...] = Field(
        default=(),
        description="how many times faster than step_s a device is: a list that devices take turns in; "
        "empty: 1",
    )
    flop_per_s: tuple[PositiveFloat, ...] = Field(
        default=(),
        description="operations a second, a list that devices take turns in: a step then takes as long "
        "as the tokens of its batch need, instead of step_s",
    )
    straggler_probability: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="that the local steps of a device and round take longer",
    )
    straggler_factor: float = Field(
        default=4.0, ge=1, description="how many times longer they then take"
    )
    compute_power_w: float = Field(default=5.0, ge=0, description="power while computing [W]")
    compute_budget: tuple[PositiveFloat, ...] = Field(
        default=(),
        description="c_max of Eq 7 for `method.budget: device`, parameters x steps x cost_per_parameter "
        "of one pass over the own data: a list that devices take turns in; empty: no limit",
    )
    cost_per_parameter: float = Field(default=1.0, gt=0, description="epsilon of Eq 7")
    calibration_samples: int = Field(
        default=256,
        gt=0,
        description="own training examples that spectral entropies and routing statistics are made of",
    )

    @model_validator(mode="after")
    def _one_pace(self) -> "Local":
        if self.speeds and self.flop_per_s:
            raise ValueError(
                f"speeds: got {list(self.speeds)} with flop_per_s, wanted one of the two"
            )
        return self

    @property
    def planned_s(self) -> float:
        """Emulated time of a round's steps on the slowest device, stragglers and flop_per_s aside [s]."""
        return self.steps * self.step_s / min(self.speeds, default=1.0)

    def duration_s(self, device: int, steps: int, flop: float) -> float:
        """Emulated time of so many steps and operations on a device that does not straggle [s]."""
        if self.flop_per_s:
            return flop / self.flop_per_s[device % len(self.flop_per_s)]
        speed = self.speeds[device % len(self.speeds)] if self.speeds else 1.0
        return steps * self.step_s / speed

    def affordable_parameters(self, device: int, samples: int) -> float:
        """Q of Eq 7 and 17: c_max batch / (epsilon N_i); infinite without a budget."""
        if not self.compute_budget:
            return math.inf
        budget = self.compute_budget[device % len(self.compute_budget)]
        return budget * self.batch_size / (self.cost_per_parameter * samples)


class Evaluation(Section):
    """What is measured besides the final answers of every device to every task."""

    own_task_every: int = Field(
        default=0, ge=0, description="own-task accuracy every so many rounds; 0: never"
    )
    paraphrases: Literal["none", "routing", "answers"] = Field(
        default="none",
        description="what to measure on test questions in other words: where they are routed, or "
        "their answers as well",
    )
    unseen_tasks: tuple[Name, ...] = Field(
        default=(), description="tasks of the suite that nobody learns: does the router notice?"
    )
    controls: tuple[Literal["alone", "summed", "averaged", "diluted"], ...] = Field(
        default=(),
        description="what each device's own task also answers to: its own expert alone; all experts "
        "summed without gates; the mean of all experts; that mean if the others had learnt nothing",
    )
    split: Literal["test", "validation"] = Field(
        default="test",
        description="what is answered; validation: a tenth of each task's training examples (at "
        "most as many as test examples), which is then not trained on",
    )


class Stop(Section):
    """Limits of a run: the round in which the devices find one of them used up is the last.

    What was spent so far is flooded before each exchange (accounted as control); the last round and the
    final exchange come on top.
    """

    bytes_total: float | None = Field(
        default=None, gt=0, description="on the air, all devices together [bytes]"
    )
    emulated_s: float | None = Field(default=None, gt=0, description="on the slowest clock [s]")
    energy_j: float | None = Field(
        default=None, gt=0, description="radio and computing, all devices together [J]"
    )

    @model_validator(mode="after")
    def _limits_something(self) -> "Stop":
        if all(limit is None for _, limit in self):
            raise ValueError("got no limit, wanted some of bytes_total, emulated_s, energy_j")
        return self

    def reached(self, bytes_total: float, emulated_s: float, energy_j: float) -> bool:
        """Whether as much as some limit has been spent."""
        spent = {"bytes_total": bytes_total, "emulated_s": emulated_s, "energy_j": energy_j}
        return any(limit is not None and spent[name] >= limit for name, limit in self)


class Virtual(Section):
    """Emulated time: computed, never slept."""

    kind: Literal["virtual"] = "virtual"


class Paced(Section):
    """Emulated time played in wall time: the same run, its bursts sent when they would be on the air.

    Needs many_processes. Results equal those of the virtual clock; how far the machine lagged behind
    is reported.
    """

    kind: Literal["paced"] = "paced"
    time_scale: float = Field(default=1.0, gt=0, description="wall seconds for an emulated one")


class Synchronous(Section):
    """All devices train, then all exchange, round by round."""

    kind: Literal["synchronous"] = "synchronous"


class Asynchronous(Section):
    """Every device by its own clock: it trains, speaks, mixes what has arrived by then, and goes on.

    Of several messages of a neighbour the newest counts; who was not heard since has no say. Setup and
    final exchange stay synchronous.
    """

    kind: Literal["asynchronous"] = "asynchronous"
