"""The content of every file in a run's output folder."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from safetensors.numpy import save

from emulator.core.records import (
    check_account,
    parameters_account,
    parquet,
    sort_ledger,
    sort_metrics,
    summarise,
)
from emulator.core.types.records import LinkRecord, MetricRecord
from emulator.core.types.result import DeviceResult, Expert
from emulator.learning.adapters.export import build_model_files, build_peft_files
from emulator.learning.evaluation import check_finite
from emulator.network.channel.access import find_slot_conflicts
from emulator.network.relay_paths import find_paths_taken
from emulator.network.wire.quantisation import VALUE_BYTES
from emulator.runtime.drivers.lifecycle import LifeOutcome
from emulator.scenario.load import dump_scenario
from emulator.scenario.world import World, choose_accelerator

ARITHMETIC_VARIABLES = ("ATEN_CPU_", "DNNL_", "GOTO", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_")
"""Prefixes of variables that may select other instructions for sums, and so change their last digits."""


def build_run_files(
    world: World, outcomes: Sequence[LifeOutcome], driver: str, machine: Mapping[str, float]
) -> dict[str, bytes]:
    """Build every file of a run: path in the folder -> bytes.

    outcomes: of all devices, in order. machine: the real resources that the run used, the last keys of
    summary.json. Raises EmulatorError when the byte account does not add up.
    """
    scenario = world.scenario
    results = [outcome.result for outcome in outcomes]
    ledger = sort_ledger(record for outcome in outcomes for record in outcome.link_records)
    metrics = sort_metrics(record for result in results for record in result.records)
    check_account(ledger)
    summary = summarise(
        {
            "name": scenario.name,
            "method": scenario.method.kind,
            "devices": scenario.devices,
            "rounds": results[0].rounds,
            "rounds_planned": scenario.rounds,
            "seed": scenario.seed,
        },
        [shard.task for shard in world.shards],
        metrics,
        ledger,
        max(result.emulated_s for result in results),
        sum(result.compute_energy_j for result in results),
    )
    parameters = parameters_account(
        metrics,
        ledger,
        scenario.devices,
        results[0].rounds,
        VALUE_BYTES[scenario.wire.number_type],
    )
    files = {
        "scenario.yaml": dump_scenario(scenario).encode(),
        "environment.json": _encode_json(
            describe_environment(driver, choose_accelerator(scenario))
        ),
        "metrics.parquet": parquet(metrics, MetricRecord),
        "ledger.parquet": parquet(ledger, LinkRecord),
        "topology.json": _encode_json(
            _describe_topology(world, results)
            | {"paths": find_paths_taken(ledger), "in_turns": find_shared_slots(world, outcomes)}
        ),
        "summary.json": _encode_json({**summary, **parameters, **machine}),
    }
    for result in results:
        files |= _build_device_files(world, result)
    return files


def find_shared_slots(world: World, outcomes: Sequence[LifeOutcome]) -> list[tuple[int, int]]:
    """Find the links (sender, receiver) that were used although both devices have the same slot."""
    used = ((r.sender, r.receiver) for outcome in outcomes for r in outcome.link_records)
    return find_slot_conflicts(world.access, used)


def _build_device_files(world: World, result: DeviceResult) -> dict[str, bytes]:
    """Build a device's files: its own expert, all experts that it answers with, and its router."""
    name = f"device-{result.device:02d}"
    folders = {f"adapters/{name}": result.own_expert}
    places = name_expert_folders([expert.task for expert in result.experts])
    folders |= {
        f"experts/{name}/{place}": e for place, e in zip(places, result.experts, strict=True)
    }
    for folder, expert in folders.items():
        check_finite(expert.tensors, folder)
    files = {
        f"{folder}/{file}": data
        for folder, expert in folders.items()
        for file, data in _build_expert_files(world, expert).items()
    }
    files[f"experts/{name}/experts.json"] = _encode_json(
        [
            {
                "task": e.task,
                "samples": e.samples,
                "scaling": e.scaling,
                "form": e.form,
                "folder": place,
            }
            for place, e in zip(places, result.experts, strict=True)
        ]
    )
    if result.router:
        files[f"experts/{name}/router.safetensors"] = save(dict(result.router))
    return files


def _build_expert_files(world: World, expert: Expert) -> Mapping[str, bytes]:
    """Build a PEFT folder for a low-rank expert, a model folder for whole weights."""
    backbone = world.backbone
    if expert.form == "weights":
        return build_model_files(expert, backbone.model)
    return build_peft_files(expert, backbone)


def name_expert_folders(tasks: Sequence[str]) -> list[str]:
    """Name a folder for the expert of each task: the task's name; `NAME~2` for its second expert."""
    return [
        task if task not in tasks[:index] else f"{task}~{tasks[:index].count(task) + 1}"
        for index, task in enumerate(tasks)
    ]


def _describe_topology(world: World, results: Sequence[DeviceResult]) -> dict[str, Any]:
    """Describe positions [m], clusters, and links with their mixing weights."""
    return {
        "positions_m": world.channel.at(0.0).positions_m.tolist(),
        "clusters": results[0].clusters,
        "links": [
            {"sender": link.sender, "receiver": link.receiver, "weight": link.weight}
            for result in results
            for link in result.links
        ],
    }


def _encode_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def describe_environment(driver: str, accelerator: str) -> dict[str, Any]:
    """Describe the machine and the package versions; only this file differs between machines."""
    packages = ("torch", "transformers", "peft", "numpy", "scipy", "pyarrow", "safetensors")
    versions = {}
    for package in ("wireless-dfl-emulator", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return {
        "driver": driver,
        "accelerator": accelerator,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(ARITHMETIC_VARIABLES)
        },
        "cores": os.cpu_count(),
        "packages": versions,
    }
