"""Fixed graphs with Metropolis weights. All must be connected, or ScenarioError names the islands.

`round_index` is part of the door and changes nothing here; `seed` matters to random graphs only.
"""

from typing import Literal

import networkx as nx
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.errors import ScenarioError
from emulator.state import Link, Survey
from emulator.streams import stream
from emulator.topology.mixing import metropolis_links

MAX_DRAWS = 100
"""A random graph is drawn anew until it is connected, at most so often."""


class Ring(BaseModel):
    """Device i and i+1 (mod M). Two devices have one edge, one device has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["ring"] = "ring"

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links, sorted by (receiver, sender)."""
        devices = survey.devices
        edges = [(i, (i + 1) % devices) for i in range(devices)] if devices > 1 else []
        return metropolis_links(edges, devices)


class Complete(BaseModel):
    """Everybody with everybody, every weight 1/M."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["complete"] = "complete"

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links, sorted by (receiver, sender)."""
        return metropolis_links(nx.complete_graph(survey.devices).edges, survey.devices)


class RandomGeometric(BaseModel):
    """Everybody with all within a radius of the surveyed positions."""

    model_config = ConfigDict(frozen=True, extra="forbid")
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


class ErdosRenyi(BaseModel):
    """Each pair is an edge with the same probability, drawn until the graph is connected."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["erdos_renyi"] = "erdos_renyi"
    probability: float = Field(gt=0, le=1, description="Probability of each edge.")

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links, sorted by (receiver, sender). Raises ScenarioError if none is connected."""
        graph = nx.empty_graph(survey.devices)
        for draw in range(MAX_DRAWS):
            graph = nx.gnp_random_graph(
                survey.devices, self.probability, seed=_graph_seed(seed, draw)
            )
            if nx.is_connected(graph):
                return metropolis_links(graph.edges, survey.devices)
        raise _not_connected(graph, f"erdos_renyi with probability {self.probability:g}")


class RandomRegular(BaseModel):
    """Every device has the same number of neighbours, drawn until the graph is connected."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["random_regular"] = "random_regular"
    degree: int = Field(ge=1, description="Neighbours of each device.")

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links, sorted by (receiver, sender).

        Raises ScenarioError if there is no such graph (degree >= M, or degree·M odd) or none drawn
        is connected.
        """
        devices = survey.devices
        if self.degree >= devices or self.degree * devices % 2:
            raise ScenarioError(
                [
                    f"topology.degree: got {self.degree} for {devices} devices, wanted a degree "
                    f"below {devices} with degree * devices even"
                ]
            )
        graph = nx.empty_graph(devices)
        for draw in range(MAX_DRAWS):
            graph = nx.random_regular_graph(self.degree, devices, seed=_graph_seed(seed, draw))
            if nx.is_connected(graph):
                return metropolis_links(graph.edges, devices)
        raise _not_connected(graph, f"random_regular with degree {self.degree}")


def _graph_seed(seed: int, draw: int) -> int:
    """A seed for NetworkX, which draws by itself."""
    return int(stream(seed, "topology", draw).integers(2**32))


def _not_connected(graph: "nx.Graph[int]", what: str) -> ScenarioError:
    """The error that names the islands of a graph."""
    islands = sorted(sorted(island) for island in nx.connected_components(graph))
    named = " ".join("{" + " ".join(map(str, island)) + "}" for island in islands)
    return ScenarioError([f"topology: got {len(islands)} islands {named} ({what}), wanted one"])
