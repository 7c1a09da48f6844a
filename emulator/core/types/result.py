"""The result of a device: its experts and measurements.

Shapes: k inputs, d outputs and r lora_rank of a module.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from emulator.core.types.arrays import FloatArray
from emulator.core.types.records import MetricRecord
from emulator.core.types.survey import Link

ExpertForm = Literal["low_rank", "weights"]
"""The form of an expert's tensors: LoRA factors, or differences of whole weights."""


@dataclass(frozen=True, eq=False)
class Expert:
    """The adapter that answers one task (`task` is "all" for a method with a single model).

    tensors: float32. Form low_rank: `<module>.lora_A` [r, k] and `<module>.lora_B` [d, r]; B is 0 where
    its mask (under `aggregation: printed_24` every mask of its cluster) keeps nothing. Form weights:
    the difference of every parameter from the frozen backbone's, by name and in its shape, tied
    parameters once. scaling multiplies B A, or the differences. samples: number of training examples.
    """

    task: str
    samples: int
    scaling: float
    tensors: Mapping[str, FloatArray]
    form: ExpertForm = "low_rank"


@dataclass(frozen=True, eq=False)
class DeviceResult:
    """The result of a device: its own expert, all its experts, its router, and its measurements.

    links: the links of the last round that end at the device. clusters: empty under a topology without
    clusters.
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
