"""What a device leaves behind: its experts and measurements.

Shapes: k inputs, d outputs and r lora_rank of a module.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from emulator.core.types.arrays import FloatArray
from emulator.core.types.records import MetricRecord
from emulator.core.types.survey import Link

ExpertForm = Literal["low_rank", "weights"]
"""What the tensors of an expert are."""


@dataclass(frozen=True, eq=False)
class Expert:
    """What answers for one task (`task` is "all" for a method that has a single model).

    tensors, float32. form low_rank: `<module>.lora_A` [r, k] and `<module>.lora_B` [d, r], B with 0
    where its mask (under `aggregation: printed_24` every mask of its cluster) keeps nothing. form weights: every parameter's difference from the frozen backbone's, by its name and in
    its shape; tied ones once. scaling multiplies B A, or the differences. samples: trained on.
    """

    task: str
    samples: int
    scaling: float
    tensors: Mapping[str, FloatArray]
    form: ExpertForm = "low_rank"


@dataclass(frozen=True, eq=False)
class DeviceResult:
    """What a device leaves behind: its own expert, all it can answer with, and its measurements.

    links: those of the last round that end at the device; clusters: empty under a topology without any.
    """

    device: int
    own_expert: Expert
    experts: tuple[Expert, ...]
    router: Mapping[str, FloatArray]
    records: tuple[MetricRecord, ...]
    links: tuple[Link, ...]
    clusters: tuple[tuple[int, ...], ...]
    emulated_s: float
    compute_energy_j: float
    train_cpu_s: float
    rounds: int
