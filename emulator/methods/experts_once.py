"""Experts trained alone and shared once: the control that decides whether rounds are worth their bytes.

Local: what another method trains (`adapter`). Sent each round: nothing. Once, after the last round: the
devices of a task average, then every task's expert goes to all devices and the same router chooses.
"""

from collections.abc import Generator, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from emulator.core.errors import drop_consequences
from emulator.core.protocols.context import DeviceContext
from emulator.core.protocols.method import AdapterMethod
from emulator.core.types.adapter import LostCoordinates
from emulator.core.types.result import Expert
from emulator.core.types.steps import Inbox, State, Step
from emulator.core.validation_errors import explain_problem
from emulator.methods.lora_by_task import LoraByTask
from emulator.methods.sparse_orthogonal import SparseOrthogonal


class ExpertsOnce(BaseModel):
    """Another method's adapters without its rounds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "tasks"
    routes: ClassVar[bool] = True
    waits_for_all: ClassVar[bool] = True
    kind: Literal["experts_once"] = "experts_once"
    adapter: Literal["sparse_orthogonal", "lora"] = Field(
        default="sparse_orthogonal", description="masked B over frozen A, or dense A and B"
    )
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float | None = Field(
        default=None, gt=0, description="AdamW, constant; default: that of the adapter's method"
    )
    density: float = Field(
        default=0.25, gt=0, le=1, description="kept share of B (adapter: sparse_orthogonal)"
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="what else differs from the defaults of the adapter's method, e.g. "
        "{mask_selection: random}",
    )

    @model_validator(mode="after")
    def _options_fit(self) -> "ExpertsOnce":
        taken = sorted(self.options.keys() & type(self).model_fields.keys())
        if taken:
            raise ValueError(
                f"options: got {', '.join(taken)}, wanted it beside options, not inside"
            )
        try:
            _ = self.inner
        except ValidationError as error:
            problems = drop_consequences(error.errors())
            lines = [line for found in problems for line in self._lines_of(found)]
            raise ValueError("\n".join(lines)) from None
        return self

    def _lines_of(self, found: ErrorDetails) -> list[str]:
        """What is wrong with an option."""
        where = ".".join(map(str, ("options", *found["loc"])))
        if found["type"] == "extra_forbidden":
            known = sorted(self._adapter_model.model_fields.keys() - type(self).model_fields.keys())
            return explain_problem(found, where, known=known, wanted=f"an option of {self.adapter}")
        return [f"{line} (an option of {self.adapter})" for line in explain_problem(found, where)]

    @property
    def _adapter_model(self) -> type[LoraByTask] | type[SparseOrthogonal]:
        return LoraByTask if self.adapter == "lora" else SparseOrthogonal

    @property
    def inner(self) -> SparseOrthogonal | LoraByTask:
        """The other method."""
        fields = {"lora_rank": self.lora_rank, "lora_alpha": self.lora_alpha, **self.options}
        if self.learning_rate is not None:
            fields["learning_rate"] = self.learning_rate
        if self.adapter == "sparse_orthogonal":
            fields["density"] = self.density
        return self._adapter_model.model_validate(fields)

    @property
    def planned_by_rounds(self) -> tuple[str, ...]:
        """What the other method plans."""
        return getattr(self.inner, "planned_by_rounds", ())

    def find_end_difference(self, rounds_done: int) -> str:
        """What only the last round does."""
        return "only the last round averages"

    @property
    def active_ranks(self) -> int | None:
        """As the other method."""
        return getattr(self.inner, "active_ranks", None)

    def loss_conflict(self, policy: LostCoordinates) -> str:
        """As the other method."""
        asked = getattr(self.inner, "loss_conflict", None)
        return asked(policy) if asked else ""

    def orthogonal_blocks(self, tasks: int, devices: int) -> int:
        """As the other method."""
        asked = getattr(self.inner, "orthogonal_blocks", None)
        return asked(tasks, devices) if asked else 0

    def start(self, ctx: DeviceContext) -> "ExpertsOnceDevice":
        """The other method's part without its rounds."""
        return ExpertsOnceDevice(ctx, self.inner.start(ctx))


class ExpertsOnceDevice:
    """One device's part."""

    def __init__(self, ctx: DeviceContext, inner: AdapterMethod) -> None:
        self.ctx = ctx
        self.inner = inner

    def setup(self) -> Generator[Step, Inbox, None]:
        """As the other method."""
        yield from self.inner.setup()

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Send nothing until the last round, then average once among the devices of a task."""
        if round_index == self.ctx.progress.rounds - 1:
            yield from self.inner.exchange(round_index)

    def finish(self) -> Generator[Step, Inbox, None]:
        """As the other method."""
        yield from self.inner.finish()

    def state(self) -> State:
        """As the other method."""
        return self.inner.state()

    def restore(self, state: State) -> None:
        """As the other method."""
        self.inner.restore(state)

    def own_expert(self) -> Expert:
        """The expert of the own task."""
        return self.inner.own_expert()

    def experts(self) -> Sequence[Expert]:
        """One expert per task."""
        return self.inner.experts()
