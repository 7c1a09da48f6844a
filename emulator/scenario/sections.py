"""The sections of a scenario that no other package owns: which graph, when to stop, emulated time."""

from typing import Literal

from pydantic import Field, model_validator

from emulator.core.section import Section


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
