"""What the devices of sparse_orthogonal introduce to each other, and what all then know of all.

Shapes: N coordinates of all B, L modules, M devices. A *task group* shares an A and a mask
(see sparse_orthogonal.py); its *group leader*, the lowest of its devices, chooses the mask.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import AdapterLayout
from emulator.core.types.arrays import DoubleArray, FloatArray, IndexArray

if TYPE_CHECKING:
    from emulator.methods.sparse_orthogonal import SparseOrthogonal

INTRODUCTION = struct.Struct("<QIIfff")
"""Seed of the projections, task, samples, position x and y [m], p_max [W]; L densities follow, and
A in float32 where it is asked for (`send_projection`)."""

WHEREABOUTS = struct.Struct("<dff")
"""A device's time [s] and position x and y [m], before clusters are formed again."""


@dataclass(frozen=True, eq=False)
class Introductions:
    """What all devices know of all after the introductions.

    groups and samples: of each device [M]. task_of_group: index of a group's task. counts_ML: entries
    that each device's mask keeps in each module, the same for all devices of a group. projections: A of
    each group by layer name, empty where devices draw it from the seed.
    """

    groups: list[int]
    samples: list[int]
    task_of_group: Mapping[int, int]
    counts_ML: IndexArray
    densities_ML: DoubleArray
    projections: Mapping[int, dict[str, FloatArray]]


def count_entries(config: SparseOrthogonal, ctx: DeviceContext) -> IndexArray:
    """How many entries of B the device would keep in each module [L]; its spectral entropies are recorded."""
    layout = ctx.model.adapted.layout
    if config.budget == "device":
        budget = ctx.wire.affordable_values(config.budget_neighbours)
    else:
        budget = max(1, round(config.density * layout.size))
    entropies_L = np.zeros(len(layout.sizes))
    if config.density_allocation != "uniform":
        entropies_L = ctx.sparsity.entropies(config.covariance_ridge)
        ctx.log.per_module("spectral_entropy", entropies_L)
    return ctx.sparsity.density_counts(
        config.density_allocation, budget, config.density_temperature, entropies_L
    )


def pack_introduction(
    ctx: DeviceContext, task: int, counts_L: IndexArray, projection: Mapping[str, FloatArray]
) -> bytes:
    """Seed and task stand for A (12 bytes); then what clusters are formed from, and A where it is sent."""
    info = ctx.info
    head = INTRODUCTION.pack(
        info.seed, task, len(info.shard.train), *ctx.network.position_m, info.max_power_w
    )
    values = [counts_L / np.array(ctx.model.adapted.layout.sizes)]
    if projection:
        values.append(layout_of(projection).join(projection))
    return head + np.concatenate(values).astype("<f4").tobytes()


def read_introductions(
    bodies: Mapping[int, bytes],
    sizes_L: IndexArray,
    projection_by: str,
    layout_of_A: AdapterLayout | None,
) -> Introductions:
    """What the devices introduced. layout_of_A: where A was sent.

    A group's counts are those of its device with the smallest sum, of equals the lowest.
    """
    devices = range(len(bodies))
    heads = [INTRODUCTION.unpack_from(bodies[i]) for i in devices]
    tasks, samples = [head[1] for head in heads], [head[2] for head in heads]
    groups = tasks if projection_by == "task" else list(devices)
    tails = [np.frombuffer(bodies[i], "<f4", offset=INTRODUCTION.size).copy() for i in devices]
    wished_ML = np.rint(np.stack([tail[: sizes_L.size] for tail in tails]) * sizes_L)
    wishes_M = wished_ML.sum(axis=1)
    smallest = {
        group: min((i for i, b in enumerate(groups) if b == group), key=wishes_M.__getitem__)
        for group in set(groups)
    }
    counts_ML = wished_ML[[smallest[group] for group in groups]].astype(np.int64)
    projections = {}
    if layout_of_A is not None:
        projections = {
            group: layout_of_A.split(tail[sizes_L.size :])
            for group, tail in zip(groups, tails, strict=True)
        }
    return Introductions(
        groups=groups,
        samples=samples,
        task_of_group=dict(zip(groups, tasks, strict=True)),
        counts_ML=counts_ML,
        densities_ML=counts_ML / sizes_L,
        projections=projections,
    )


def layout_of(projection: Mapping[str, FloatArray]) -> AdapterLayout:
    """The layout of a projection's tensors."""
    return AdapterLayout(tuple(projection), tuple(a.shape for a in projection.values()))
