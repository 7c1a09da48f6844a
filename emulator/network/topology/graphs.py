"""Fixed graphs with Metropolis weights.

All graphs except `edges` and `none` must be connected; otherwise a ScenarioError names the islands.
`links` takes `round_index` because the protocol demands it; it changes nothing here. `seed` matters for
random graphs only.
"""

from typing import ClassVar, Literal

import networkx as nx
import numpy as np
from networkx.utils import UnionFind
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from scipy.sparse.csgraph import connected_components

from emulator.core.errors import ScenarioError
from emulator.core.protocols.topology import Topology
from emulator.core.rng import stream
from emulator.core.types.arrays import BoolArray
from emulator.core.types.survey import Link, Survey
from emulator.network.topology.mixing import metropolis_links

MAX_DRAWS = 100
"""Largest number of draws of a random graph, which is drawn again until it is connected."""


class FixedGraph(BaseModel):
    """A topology whose links are the same in every round, so that they are computed only once."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    fixed: ClassVar[bool] = True


def is_fixed(topology: Topology) -> bool:
    """Whether a topology declares that its links are the same in every round."""
    return bool(getattr(topology, "fixed", False))


def islands(edge_MM: BoolArray) -> list[list[int]]:
    """The connected parts of a graph, sorted by their lowest device: the sorted devices of each part.

    edge_MM [M, M]: an edge in one direction connects both ways.
    """
    count, part_M = connected_components(edge_MM, directed=False)
    return [np.flatnonzero(part_M == part).tolist() for part in range(count)]


class Ring(FixedGraph):
    """An edge between i and i+1 (mod M). Two devices have one edge, one device has none."""

    kind: Literal["ring"] = "ring"

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links, sorted by (receiver, sender)."""
        devices = survey.devices
        edges = [(i, (i + 1) % devices) for i in range(devices)] if devices > 1 else []
        return metropolis_links(edges, devices)


class Complete(FixedGraph):
    """An edge between every two devices; every weight is 1/M."""

    kind: Literal["complete"] = "complete"

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links, sorted by (receiver, sender)."""
        return metropolis_links(nx.complete_graph(survey.devices).edges, survey.devices)


class RandomGeometric(FixedGraph):
    """An edge between every two devices whose distance in the survey is at most a radius."""

    kind: Literal["random_geometric"] = "random_geometric"
    radius_m: FiniteFloat = Field(gt=0, description="Largest distance of two neighbours [m].")

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links, sorted by (receiver, sender). Raises ScenarioError if not connected."""
        offset_MM2 = survey.positions_m[:, None, :] - survey.positions_m[None, :, :]
        near_MM = np.hypot(offset_MM2[..., 0], offset_MM2[..., 1]) <= self.radius_m
        graph = nx.from_numpy_array(np.triu(near_MM, k=1))
        if not nx.is_connected(graph):
            raise _not_connected(graph, f"random_geometric with radius_m {self.radius_m:g}")
        return metropolis_links(graph.edges, survey.devices)


class ErdosRenyi(FixedGraph):
    """Each pair is an edge with the same probability, drawn until the graph is connected."""

    kind: Literal["erdos_renyi"] = "erdos_renyi"
    probability: float = Field(gt=0, le=1, description="Probability of each edge.")

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links, sorted by (receiver, sender). Raises ScenarioError if no drawn graph is connected."""
        graph = nx.empty_graph(survey.devices)
        for draw in range(MAX_DRAWS):
            graph = nx.gnp_random_graph(
                survey.devices, self.probability, seed=_graph_seed(seed, draw)
            )
            if nx.is_connected(graph):
                return metropolis_links(graph.edges, survey.devices)
        raise _not_connected(graph, f"erdos_renyi with probability {self.probability:g}")


class RandomRegular(FixedGraph):
    """Every device has the same number of neighbours, drawn until the graph is connected."""

    kind: Literal["random_regular"] = "random_regular"
    degree: int = Field(ge=1, description="Neighbours of each device.")

    def unfit(self, devices: int) -> list[str]:
        """The reason why no such graph exists for a number of devices; empty if one exists."""
        if self.degree < devices and self.degree * devices % 2 == 0:
            return []
        fitting = [d for d in range(1, devices) if d * devices % 2 == 0]
        nearest = min(fitting, key=lambda d: abs(d - self.degree), default=None)
        return [
            f"topology.degree: got {self.degree} for {devices} devices, wanted less than "
            f"devices, and degree x devices even{f', such as {nearest}' if nearest else ''}"
        ]

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links, sorted by (receiver, sender).

        Raises ScenarioError if no such graph exists (degree >= M, or degree·M odd), or if no drawn
        graph is connected.
        """
        devices = survey.devices
        if problems := self.unfit(devices):
            raise ScenarioError(problems)
        graph = nx.empty_graph(devices)
        for draw in range(MAX_DRAWS):
            graph = nx.random_regular_graph(self.degree, devices, seed=_graph_seed(seed, draw))
            if nx.is_connected(graph):
                return metropolis_links(graph.edges, devices)
        raise _not_connected(graph, f"random_regular with degree {self.degree}")


class RandomFeasible(FixedGraph):
    """A random connected graph of num_edges edges within the range and the power limit of all devices.

    Every edge joins two devices in range, and every device must be able to serve all its neighbours
    at once: sum_j required_power[i, j, degree i] <= p_max. A random spanning tree is drawn first, then
    further pairs, in keyed random order. The draw is repeated until all edges have found a place.
    """

    kind: Literal["random_feasible"] = "random_feasible"
    num_edges: int = Field(ge=1, description="Undirected edges of the whole graph.")
    message_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Air bytes of the message that the powers must carry within the deadline; "
        "default: the method's own.",
    )

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links, sorted by (receiver, sender). Raises ScenarioError if no draw succeeds."""
        pairs = [tuple(map(int, pair)) for pair in np.argwhere(np.triu(survey.in_range, k=1))]
        graph = nx.empty_graph(survey.devices)
        for draw in range(MAX_DRAWS):
            order = stream(seed, "topology", draw).permutation(len(pairs))
            graph = self._grown([pairs[i] for i in order], survey)
            if graph.number_of_edges() == self.num_edges and nx.is_connected(graph):
                return metropolis_links(graph.edges, survey.devices)
        raise ScenarioError(
            [
                f"topology.num_edges: got {self.num_edges}, wanted fewer, but at least "
                f"{survey.devices - 1}, or more range and power (none of {MAX_DRAWS} draws is connected "
                "and within max_power_w)"
            ]
        )

    def _grown(self, pairs: list[tuple[int, ...]], survey: Survey) -> "nx.Graph[int]":
        """The graph of the edges that the powers allow: first those that join two parts, in the given order."""
        graph: nx.Graph[int] = nx.empty_graph(survey.devices)
        parts: UnionFind[int] = UnionFind(range(survey.devices))
        rest = []
        for low, high in pairs:
            if parts[low] != parts[high] and _add_if_fed(graph, low, high, survey):
                parts.union(low, high)
            else:
                rest.append((low, high))
        for low, high in rest:
            if graph.number_of_edges() < self.num_edges and not graph.has_edge(low, high):
                _add_if_fed(graph, low, high, survey)
        return graph


class ListedEdges(FixedGraph):
    """The edges that the scenario lists, such as the graph of another run."""

    kind: Literal["edges"] = "edges"
    edges: tuple[tuple[int, int], ...] = Field(description="Pairs of device ids; need not connect.")

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links, sorted by (receiver, sender). Raises ScenarioError for an unknown device."""
        for edge in self.edges:
            if edge[0] == edge[1] or not all(0 <= i < survey.devices for i in edge):
                raise ScenarioError(
                    [
                        f"topology.edges: got {list(edge)}, wanted two different devices of "
                        f"0 … {survey.devices - 1}"
                    ]
                )
        return metropolis_links(self.edges, survey.devices)


class Isolated(FixedGraph):
    """A graph without edges: the devices train alone."""

    kind: Literal["none"] = "none"

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """No links."""
        return ()


def _add_if_fed(graph: "nx.Graph[int]", low: int, high: int, survey: Survey) -> bool:
    """Add an edge if both ends can still serve all their neighbours at once; return whether they can."""
    graph.add_edge(low, high)
    for device in (low, high):
        neighbours = list(graph[device])
        needed_w = survey.required_power_w(len(neighbours))[device, neighbours]
        if survey.spent_w(needed_w) > survey.max_power_w[device]:
            graph.remove_edge(low, high)
            return False
    return True


def _graph_seed(seed: int, draw: int) -> int:
    """The seed of one draw of NetworkX, which has generators of its own."""
    return int(stream(seed, "topology", draw).integers(2**32))


def _not_connected(graph: "nx.Graph[int]", what: str) -> ScenarioError:
    """An error that names the islands of a graph."""
    edge_MM = nx.to_numpy_array(graph, nodelist=sorted(graph)) > 0.0
    found = islands(edge_MM)
    named = " ".join("{" + " ".join(map(str, island)) + "}" for island in found)
    return ScenarioError([f"topology: got {len(found)} islands {named} ({what}), wanted one"])
