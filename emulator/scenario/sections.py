"""The sections of a scenario that no other package owns: default graph, limits, clock and schedule."""

from typing import Literal

from pydantic import Field, model_validator

from emulator.core.section import Section


class ByMethod(Section):
    """The graph of the method: clusters for sparse_orthogonal, random_regular for most others, the
    devices of each task for methods that average within tasks, none for local.
    """

    kind: Literal["by_method"] = "by_method"
    degree: int = Field(default=3, gt=0, description="neighbours of each device in a random graph")
    max_collision_rate: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="S_max: largest collision rate of a cluster",
    )


class Stop(Section):
    """Limits of a run: the round in which the devices find that a limit is reached is the last.

    Every device floods its costs so far before each exchange (accounted as control). The last round and
    the final exchange add to these costs.
    """

    bytes_total: float | None = Field(
        default=None, gt=0, description="bytes sent by all devices together [bytes]"
    )
    emulated_s: float | None = Field(
        default=None, gt=0, description="emulated time on the slowest clock [s]"
    )
    energy_j: float | None = Field(
        default=None, gt=0, description="energy of radio and computing, all devices together [J]"
    )

    @model_validator(mode="after")
    def _check_limits(self) -> "Stop":
        if all(limit is None for _, limit in self):
            raise ValueError("got no limit, wanted some of bytes_total, emulated_s, energy_j")
        return self

    def reached(self, bytes_total: float, emulated_s: float, energy_j: float) -> bool:
        """Whether the costs have reached a limit."""
        spent = {"bytes_total": bytes_total, "emulated_s": emulated_s, "energy_j": energy_j}
        return any(limit is not None and spent[name] >= limit for name, limit in self)


class Virtual(Section):
    """Emulated time that is only computed; the run does not wait for it."""

    kind: Literal["virtual"] = "virtual"


class Paced(Section):
    """Emulated time in step with wall time: bursts are sent at their emulated times.

    This needs the driver many_processes. The results equal those of the virtual clock; the lag of the
    machine is reported.
    """

    kind: Literal["paced"] = "paced"
    time_scale: float = Field(default=1.0, gt=0, description="wall seconds per emulated second")


class Synchronous(Section):
    """In every round, all devices train, then all devices exchange."""

    kind: Literal["synchronous"] = "synchronous"


class Asynchronous(Section):
    """Every device follows its own clock: it trains, sends, averages the arrived messages, and continues.

    Only the newest message of a neighbour counts; a neighbour without a new message is left out. Setup
    and final exchange stay synchronous.
    """

    kind: Literal["asynchronous"] = "asynchronous"
