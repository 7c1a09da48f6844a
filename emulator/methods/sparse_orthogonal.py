"""Sparse-and-orthogonal LoRA with clusters and an implicit mixture of experts (arXiv 2602.20492).

Local: the kept entries of B over a frozen A. Sent each round: those entries, to the members of the
cluster. Merged: mask_mean. At the end clusters exchange experts.

This file holds the options; `sparse_setup.py` what happens before the rounds and `sparse_device.py` the
life of a device: setup, rounds, end.

`aggregation` has the printed forms. Eq 10 divides by |c|, also where one member writes. With Eq 29
every device puts its own mask over that mean again (`printed`). Eq 24, the answer of the mixture, does
not: expert j is ((1/|c|) sum_i B_i M_i) A_j (`printed_24`; in the rounds a device still trains and
sends what its own mask keeps, as Eq 3 has it). On Eq 23 see averaging.py.

A *task group* is the devices of one task: they have the same A and mask and average their B exactly.
With `projection_by: device` every device is a group of its own.
"""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import LostCoordinates
from emulator.methods.mask_exchange import warmup_steps
from emulator.methods.sparse_device import SparseOrthogonalDevice


class SparseOrthogonal(BaseModel):
    """The paper's method with the repairs that the README lists; each has its printed form as option."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "clusters"
    routes: ClassVar[bool] = True
    kind: Literal["sparse_orthogonal"] = "sparse_orthogonal"
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float = Field(default=2e-2, gt=0, description="AdamW, constant")
    density: float = Field(default=0.25, gt=0, le=1, description="kept share of B over all modules")
    budget: Literal["density", "device"] = Field(
        default="density",
        description="how many entries are kept: density, or what the device's local.compute_budget "
        "(Eq 7) and its radio (Eq 11a, 11b) allow",
    )
    budget_neighbours: int = Field(
        default=3,
        gt=0,
        description="neighbours that a device's budget must reach within the deadline",
    )
    density_allocation: Literal["spectral", "uniform", "printed"] = Field(
        default="spectral", description="how the budget is shared out among the modules"
    )
    density_temperature: float = Field(
        default=0.25,
        gt=0,
        description="tau of Eq 22's softmax: smaller gives high entropies more of the budget",
    )
    covariance_ridge: float = Field(
        default=0.01,
        ge=0,
        description="delta: ridge on the covariance of a module's inputs, over its mean eigenvalue",
    )
    projection: Literal["orthogonal", "gaussian"] = Field(
        default="orthogonal", description="how the frozen A are drawn"
    )
    projection_by: Literal["task", "device"] = Field(
        default="task", description="who has an A and a mask of its own"
    )
    send_projection: Literal["seed", "matrix"] = Field(
        default="seed",
        description="what introductions send of A: the seed and task group that make it, or its entries",
    )
    mask_selection: Literal["magnitude", "random", "disjoint"] = Field(
        default="magnitude",
        description="which entries are kept: the largest after a warm-up, random ones, or the largest "
        "that no device of the cluster has taken",
    )
    mask_warmup_steps: int | None = Field(
        default=None,
        gt=0,
        description="dense local steps before the mask, taken off the first rounds; default 5 % of all, "
        "at least 10, at most half",
    )
    aggregation: Literal["mask_mean", "printed", "printed_24"] = Field(
        default="mask_mean",
        description="over those who keep a coordinate; printed: over the cluster's size, then the own "
        "mask again (Eq 10 with Eq 29); printed_24: the same rounds, but experts are not masked again "
        "(Eq 10 with Eq 24)",
    )
    active_ranks: int | None = Field(
        default=None, gt=0, description="largest entries of A h that pass on; default all"
    )
    exchange_every: int | None = Field(
        default=None,
        gt=0,
        description="clusters exchange experts every so many rounds; default: only at the end",
    )
    recluster_every: int | None = Field(
        default=None,
        gt=0,
        description="U_t: clusters are formed again before every so many-th round, for devices that "
        "move; default: only once",
    )

    @property
    def planned_by_rounds(self) -> tuple[str, ...]:
        """The length of the warm-up by default."""
        depends = self.mask_selection != "random" and self.mask_warmup_steps is None
        return ("mask_warmup_steps",) if depends else ()

    def plan(self, total_steps: int) -> "SparseOrthogonal":
        """The same method with the length of its warm-up in a run of so many local steps."""
        if not self.planned_by_rounds:
            return self
        return self.model_copy(update={"mask_warmup_steps": warmup_steps(None, total_steps)})

    def find_end_difference(self, rounds_done: int) -> str:
        """What the last round leaves out that an earlier one does; empty if nothing."""
        every = self.exchange_every
        if every is None or rounds_done % every:
            return ""
        return f"an exchange of experts follows round {rounds_done} unless it is the last (exchange_every)"

    @model_validator(mode="after")
    def _stays_disjoint(self) -> "SparseOrthogonal":
        if self.recluster_every is not None and self.mask_selection == "disjoint":
            raise ValueError(
                f"recluster_every: got {self.recluster_every} with mask_selection disjoint, wanted "
                "another selection (masks are disjoint in the first clusters only)"
            )
        return self

    def loss_conflict(self, policy: LostCoordinates) -> str:
        """Why a policy for lost coordinates has no meaning here; empty where it has one."""
        if self.aggregation != "mask_mean" and policy == "renormalise":
            return (
                f"with method.aggregation {self.aggregation}, wanted mask_mean or another policy (Eq 10 "
                "divides by the size of the cluster, whoever was received)"
            )
        return ""

    def orthogonal_blocks(self, tasks: int, devices: int) -> int:
        """How many A of `lora_rank` rows must fit into one basis of a module's inputs."""
        if self.projection != "orthogonal":
            return 0
        return tasks if self.projection_by == "task" else devices

    def start(self, ctx: DeviceContext) -> SparseOrthogonalDevice:
        """A of the device's group, frozen, and B = 0."""
        return SparseOrthogonalDevice(self, ctx)
