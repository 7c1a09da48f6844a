"""FLoRA (arXiv 2409.05976) over a graph: adapters are stacked and folded in, never averaged.

Local: A and B. Sent each round: A and B, dense. Merged: the own and the received pairs are concatenated,
which adds up their products, delta_W = sum_j w_ij B_j A_j (w_ii = 1 - sum_j w_ij); that is folded into
the device's own frozen weights, and a fresh adapter starts the next round. FLoRA's server does this for
all at once; on a graph, devices receive from their neighbours only and their weights drift apart. Ranks may
differ (`budget: device`): a sum of products does not care.

A lost coordinate of A_j or B_j counts as zero: the received product then lacks the rank-one pieces that
the loss has touched, and nothing stands for them. That is keep_own here; under drop_message an
incomplete pair adds nothing at all, under retransmit every pair arrives. The other policies for lost
coordinates are refused: a sum of products has no weights to scale up, and a fresh A every round
leaves nothing that an older value could stand for. The own pair is used as rounded for the others, so
that devices which received the same add the same. What rounding takes away is gone with the adapter:
wire.error_feedback has nothing to carry over.

Shapes: k inputs and d outputs of a module, r lora_rank, R = r (neighbours + 1).
"""

import struct
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from emulator.core.errors import EmulatorError
from emulator.core.protocols.context import DeviceContext
from emulator.core.rng import stream
from emulator.core.types.adapter import AdapterLayout, LostCoordinates, Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Message
from emulator.core.types.records import SETUP_ROUND
from emulator.core.types.result import Expert
from emulator.core.types.steps import Inbox, State, Step
from emulator.methods.gossip import introduce, share_with_neighbours, survey_dense
from emulator.methods.messages import values_message

RANK = struct.Struct("<H")
"""A device's rank, after its introduction."""


class Stacking(BaseModel):
    """One model for all tasks, to which every round adds the neighbourhood's adapters."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "random_regular"
    routes: ClassVar[bool] = False
    waits_for_all: ClassVar[bool] = True
    kind: Literal["stacking"] = "stacking"
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float = Field(default=5e-3, gt=0, description="AdamW, constant")
    budget: Literal["rank", "device"] = Field(
        default="rank",
        description="the rank of a device: lora_rank, or, up to that, what its local.compute_budget "
        "(Eq 7) and its radio (Eq 11a, 11b) allow",
    )
    budget_neighbours: int = Field(
        default=3,
        gt=0,
        description="neighbours that a device's budget must reach within the deadline",
    )

    @model_validator(mode="after")
    def _adds_alike(self) -> "Stacking":
        if self.budget == "device" and self.lora_alpha is not None:
            raise ValueError(
                f"lora_alpha: got {self.lora_alpha} with budget device, wanted none (ranks differ, and "
                "alpha / r would weigh devices by them)"
            )
        return self

    def loss_conflict(self, policy: LostCoordinates) -> str:
        """Why a policy for lost coordinates has no meaning here; empty where it has one."""
        if policy in ("renormalise", "last_received"):
            return (
                "for stacking, wanted keep_own, retransmit or drop_message (it adds products up, it "
                "does not average)"
            )
        return ""

    def start(self, ctx: DeviceContext) -> "StackingDevice":
        """All devices start from the backbone, each with an A of its own."""
        return StackingDevice(self, ctx)


class StackingDevice:
    """One device's part in FLoRA."""

    def __init__(self, config: Stacking, ctx: DeviceContext) -> None:
        self.config = config
        self.ctx = ctx
        self.rank = config.lora_rank
        self._adapt()
        if config.budget == "device":
            values_of_a_rank = self.adapted.layout.size // self.rank
            affordable = ctx.wire.affordable_values(config.budget_neighbours)
            if affordable < values_of_a_rank:
                raise EmulatorError(
                    f"device {ctx.info.id}: got a budget of {affordable} values, wanted at least "
                    f"{values_of_a_rank}, those of one rank (local.compute_budget or power)"
                )
            self.rank = min(affordable // values_of_a_rank, self.rank)
            self._adapt()
        self.everything = Mask.full(self.adapted.layout.size)
        self._start_afresh(0)
        ctx.log.metric("collision_rate", 1.0, SETUP_ROUND)  # every device writes everywhere

    def _adapt(self) -> None:
        """Both sides at the device's rank."""
        alpha = self.config.lora_alpha or self.rank
        self.adapted = self.ctx.model.lora(self.rank, alpha, ("lora_A", "lora_B"))

    def setup(self) -> Generator[Step, Inbox, None]:
        """Introduce: who is where, with how many samples, and of which rank where that is not known."""
        own_rank = RANK.pack(self.rank) if self.config.budget == "device" else b""
        samples, tails = yield from introduce(self.ctx, own_rank)
        ranks = [RANK.unpack(tail)[0] if tail else self.rank for tail in tails]
        self.layouts = [of_rank(self.adapted.layout, rank) for rank in ranks]
        survey_dense(self.ctx, samples, [self._planned(layout) for layout in self.layouts])

    def _planned(self, layout: AdapterLayout) -> Message:
        """A round's message of a device."""
        everything, nothing = Mask.full(layout.size), np.zeros(layout.size, dtype=np.float32)
        return replace(values_message(self.ctx, everything, nothing, ()), layout=layout)

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Send A and B; fold the received pairs and the own one into the weights; start afresh."""
        ctx, own_id = self.ctx, self.ctx.info.id
        weight, shared = yield from share_with_neighbours(
            ctx, round_index, self.everything, self.adapted.vector(), self.layouts
        )
        vectors = {r.source: np.asarray(r.values, dtype=np.float32) for r in shared.received}
        vectors[own_id] = shared.own_N
        weight[own_id] = 1.0 - sum(weight.values())
        side_B_N = self.adapted.layout.part("lora_B").dense  # of the product B A the weight is B's
        alone_N = np.where(side_B_N, weight[own_id], 1.0) * shared.own_N  # others start from B = 0
        ctx.model.try_diluted(lambda _: alone_N.astype(np.float32), shared.received)
        pairs = [(weight[i], self.layouts[i].split(vectors[i])) for i in sorted(vectors)]
        self.adapted.absorb(stacked(self.adapted.module_names, pairs))
        self._start_afresh(round_index + 1)

    def finish(self) -> Generator[Step, Inbox, None]:
        """Nothing is left to send: the last round's pairs were the final exchange."""
        yield from ()

    def state(self) -> State:
        """The rank of every device; the adapter and what was folded in are the model's."""
        return {"layouts": self.layouts}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.layouts = state["layouts"]

    def own_expert(self) -> Expert:
        """All that was added to the backbone, as one adapter of higher rank."""
        return Expert("all", len(self.ctx.info.shard.train), 1.0, factorised(self.adapted.learnt()))

    def experts(self) -> Sequence[Expert]:
        """One model answers everything."""
        return (self.own_expert(),)

    def _start_afresh(self, round_index: int) -> None:
        """A drawn anew by PEFT's law U(-1/sqrt(k), 1/sqrt(k)), B = 0, a fresh optimiser."""
        ctx, adapted = self.ctx, self.adapted
        fresh = {name: np.zeros_like(values) for name, values in adapted.tensors().items()}
        for index, module in enumerate(adapted.module_names):
            shape = adapted.shape_of(f"{module}.lora_A")
            bound = 1.0 / np.sqrt(shape[1])
            draws = stream(ctx.info.seed, "stacking_start", ctx.info.id, round_index, index)
            fresh[f"{module}.lora_A"] = draws.uniform(-bound, bound, shape).astype(np.float32)
        adapted.set_tensors(fresh)
        adapted.start_optimiser(self.config.learning_rate)
        ctx.model.mark_start()


def of_rank(layout: AdapterLayout, rank: int) -> AdapterLayout:
    """The layout of the same modules at another rank."""
    shapes = (
        (rank, shape[1]) if name.endswith(".lora_A") else (shape[0], rank)
        for name, shape in zip(layout.names, layout.shapes, strict=True)
    )
    return AdapterLayout(layout.names, tuple(shapes))


def stacked(
    modules: Sequence[str], pairs: Sequence[tuple[float, Mapping[str, FloatArray]]]
) -> dict[str, FloatArray]:
    """Weighted pairs (w_j, B_j and A_j by name) as one: B = [w_1 B_1 ... w_n B_n], A = [A_1; ...; A_n].

    Law: B A = sum_j w_j B_j A_j in every module.
    """
    factors = {}
    for module in modules:
        wide_dR = np.concatenate([w * t[f"{module}.lora_B"] for w, t in pairs], axis=1)
        factors[f"{module}.lora_B"] = wide_dR.astype(np.float32)
        factors[f"{module}.lora_A"] = np.concatenate([t[f"{module}.lora_A"] for _, t in pairs])
    return factors


def factorised(deltas: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Matrices by module [d, k] as `<module>.lora_B` [d, R] and `<module>.lora_A` [R, k].

    Law: B A equals delta up to float32 rounding. R, one for all modules, is the largest numerical rank
    of them (singular values above max(d, k) * float32's epsilon * the largest one), at least 1; a
    module that has fewer inputs or outputs than that is filled up with zeros.
    """
    parts = {n: np.linalg.svd(d.astype(np.float64), full_matrices=False) for n, d in deltas.items()}
    epsilon = np.finfo(np.float32).eps
    rank = 1
    for module, (_, sigma, _) in parts.items():
        rank = max(rank, int((sigma > max(deltas[module].shape) * epsilon * sigma[0]).sum()))
    factors = {}
    for module, (left, sigma, right) in parts.items():
        kept = min(rank, len(sigma))
        root = np.sqrt(sigma[:kept])
        factor_B = np.zeros((len(left), rank), dtype=np.float32)
        factor_A = np.zeros((rank, right.shape[1]), dtype=np.float32)
        factor_B[:, :kept], factor_A[:kept] = left[:, :kept] * root, root[:, None] * right[:kept]
        factors[f"{module}.lora_B"], factors[f"{module}.lora_A"] = factor_B, factor_A
    return factors
