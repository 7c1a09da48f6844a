"""A device's result as bytes, for its way to device 0: JSON and safetensors, never pickle."""

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from emulator.core.errors import EmulatorError
from emulator.core.records import to_json
from emulator.core.types.arrays import FloatArray
from emulator.core.types.records import LinkRecord, MetricRecord
from emulator.core.types.result import DeviceResult, Expert
from emulator.core.types.survey import Link
from emulator.runtime.drivers.lifecycle import LifeOutcome

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Cost:
    """The real resources that the process of a device used.

    pacing: lags of its frames, None without a pacer. peak_gpu_mb: of its own tensors; 0 without a GPU.
    earlier_wall_s: wall time of the run before it was resumed; 0 if it was not.
    """

    cpu_s: float
    peak_rss_mb: float
    own_memory_mb: float
    pacing: dict[str, float] | None = None
    peak_gpu_mb: float = 0.0
    earlier_wall_s: float = 0.0


def encode_result(outcome: LifeOutcome, cost: Cost) -> bytes:
    """Encode a result: length of the JSON, JSON, safetensors. `decode_result` gives back both arguments."""
    result = outcome.result
    experts = (result.own_expert, *result.experts)
    document = {
        "device": result.device,
        "experts": [
            {"task": e.task, "samples": e.samples, "scaling": e.scaling, "form": e.form}
            for e in experts
        ],
        "metrics": [to_json(r) for r in result.records],
        "ledger": [to_json(r) for r in outcome.link_records],
        "links": [vars(link) for link in result.links],
        "clusters": result.clusters,
        "emulated_s": result.emulated_s,
        "compute_energy_j": result.compute_energy_j,
        "train_cpu_s": result.train_cpu_s,
        "rounds": result.rounds,
        "cost": vars(cost),
    }
    tensors: dict[str, FloatArray] = {f"router/{k}": v for k, v in result.router.items()}
    for index, expert in enumerate(experts):
        tensors |= {f"{index}/{name}": v for name, v in expert.tensors.items()}
    head = json.dumps(document).encode()
    # safetensors writes an array's memory, whatever its strides.
    whole = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    return b"".join((_LENGTH.pack(len(head)), head, save(whole)))


def decode_result(blob: bytes) -> tuple[LifeOutcome, Cost]:
    """Decode a result. Raises EmulatorError for bytes that `encode_result` did not write."""
    try:
        return _decode(blob)
    except (struct.error, ValueError, LookupError, TypeError, SafetensorError) as error:
        raise EmulatorError(f"result of a device: got {len(blob)} bytes of no result") from error


def _decode(blob: bytes) -> tuple[LifeOutcome, Cost]:
    (length,) = _LENGTH.unpack_from(blob)
    document: dict[str, Any] = json.loads(blob[_LENGTH.size : _LENGTH.size + length])
    tensors = load(blob[_LENGTH.size + length :])
    experts = [
        Expert(
            tensors={
                name.removeprefix(f"{index}/"): value
                for name, value in tensors.items()
                if name.startswith(f"{index}/")
            },
            **fields,
        )
        for index, fields in enumerate(document["experts"])
    ]
    result = DeviceResult(
        device=document["device"],
        own_expert=experts[0],
        experts=tuple(experts[1:]),
        router={
            name.removeprefix("router/"): value
            for name, value in tensors.items()
            if name.startswith("router/")
        },
        records=tuple(MetricRecord(**row) for row in document["metrics"]),
        links=tuple(Link(**row) for row in document["links"]),
        clusters=tuple(tuple(members) for members in document["clusters"]),
        emulated_s=document["emulated_s"],
        compute_energy_j=document["compute_energy_j"],
        train_cpu_s=document["train_cpu_s"],
        rounds=document["rounds"],
    )
    records = tuple(LinkRecord(**row) for row in document["ledger"])
    return LifeOutcome(result, records), Cost(**document["cost"])
