"""FLoRA (arXiv 2409.05976) over a graph: adapters are stacked and folded in, never averaged.

Local: A and B. Sent each round: A and B, dense. Merged: the own and the heard pairs are concatenated,
which adds up their products, delta_W = sum_j w_ij B_j A_j (w_ii = 1 - sum_j w_ij); that is folded into
the device's own frozen weights, and a fresh adapter starts the next round. FLoRA's server does this for
all at once; on a graph, devices hear their neighbours only and their weights drift apart.

A lost coordinate of A_j or B_j counts as zero: the heard product then lacks the rank-one pieces that
the loss has touched, and nothing stands for them. That is keep_own here; under drop_message an
incomplete pair adds nothing at all, under retransmit every pair comes. The other policies for lost
coordinates are refused: a sum of products has no weights to scale up, and a fresh A every round
leaves nothing that an older value could stand for. The own pair is used as rounded for the others, so
that devices which heard the same add the same. What rounding takes away is gone with the adapter:
wire.error_feedback has nothing to carry over.

Shapes: k inputs and d outputs of a module, r lora_rank, R = r (neighbours + 1).
"""

from collections.abc import Generator, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emulator.methods.gossip import Gossip, receivers_of, weights_at
from emulator.methods.lost import listener_of
from emulator.methods.speech import values_message
from emulator.protocols import Own
from emulator.state import SETUP_ROUND, Expert, FloatArray, Inbox, Mask, Step
from emulator.streams import stream


class Stacking(BaseModel):
    """One model for all tasks, to which every round adds the neighbourhood's adapters."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    topology_by_default: ClassVar[str] = "random_regular"
    routes: ClassVar[bool] = False
    kind: Literal["stacking"] = "stacking"
    lora_rank: int = Field(default=8, gt=0, description="r")
    lora_alpha: int | None = Field(default=None, gt=0, description="scale alpha / r; default r")
    learning_rate: float = Field(default=5e-3, gt=0, description="AdamW, constant")

    def start(self, own: Own) -> "StackingDevice":
        """All devices start from the backbone, each with an A of its own."""
        return StackingDevice(self, own)


class StackingDevice:
    """One device's part in FLoRA."""

    def __init__(self, config: Stacking, own: Own) -> None:
        self.config = config
        self.own = own
        rank = config.lora_rank
        self.adapted = own.adapt(rank, config.lora_alpha or rank, ("lora_A", "lora_B"))
        own.adapted = self.adapted
        self.everything = Mask.full(self.adapted.layout.size)
        self.listener = listener_of(own.lost_coordinates)
        self._start_afresh(0)
        own.measure("collision_rate", 1.0, SETUP_ROUND)  # everybody writes everywhere

    def setup(self) -> Generator[Step, Inbox, None]:
        """Introduce: who is where, and with how many samples."""
        yield from Gossip(self.own, self.everything).setup()

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Send A and B; fold what was heard, and one's own, into the weights; start afresh."""
        own, layout = self.own, self.adapted.layout
        links = own.links(round_index)
        weight = weights_at(own.id, links)
        vector_N = self.adapted.vector()
        receivers = receivers_of(own.id, links)
        message = values_message(own, round_index, self.everything, vector_N, receivers)
        received = yield from own.exchange([message], tuple(sorted(weight)))
        heard = {
            told.source: np.asarray(told.values, dtype=np.float32)
            for told in map(self.listener.take, received)
        }
        heard[own.id] = own.as_received(vector_N)
        weight[own.id] = 1.0 - sum(weight.values())
        pairs = [(weight[i], layout.split(heard[i])) for i in sorted(heard)]
        self.adapted.absorb(stacked(self.adapted.module_names, pairs))
        self._start_afresh(round_index + 1)

    def finish(self) -> Generator[Step, Inbox, None]:
        """Nothing more to say: the last round's pairs were the final exchange."""
        yield from ()

    def own_expert(self) -> Expert:
        """All that was added to the backbone, as one adapter of higher rank."""
        return Expert("all", len(self.own.shard.train), 1.0, factorised(self.adapted.learnt()))

    def experts(self) -> Sequence[Expert]:
        """One model answers everything."""
        return (self.own_expert(),)

    def _start_afresh(self, round_index: int) -> None:
        """A drawn anew by PEFT's law U(-1/sqrt(k), 1/sqrt(k)), B = 0, a fresh optimiser."""
        own, adapted = self.own, self.adapted
        fresh = {name: np.zeros_like(values) for name, values in adapted.tensors().items()}
        for index, module in enumerate(adapted.module_names):
            shape = adapted.shape_of(f"{module}.lora_A")
            bound = 1.0 / np.sqrt(shape[1])
            draws = stream(own.seed, "stacking_start", own.id, round_index, index)
            fresh[f"{module}.lora_A"] = draws.uniform(-bound, bound, shape).astype(np.float32)
        adapted.set_tensors(fresh)
        adapted.start_optimiser(self.config.learning_rate)
        own.start_rounds()


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
