"""The link budget of a scenario, before anything is sent.

The components of a run compute grants, powers and SNR, under the mean gain of each link (without
small-scale fading). Shapes: M devices, L links.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from emulator.analysis.channel.link_table import (
    FEW_DEVICES,
    LinkBudget,
    LinkLine,
    build_link_table,
    describe_relay_paths,
)
from emulator.core.errors import ScenarioError
from emulator.core.protocols.access import BoundAccess
from emulator.core.protocols.channel import BoundChannel
from emulator.core.types.transmission import Grant, Request
from emulator.core.units import bits_from_bytes, db_from_linear, dbm_from_watts, noise_w
from emulator.network.channel.access import bind_access, find_slot_conflicts, find_slots
from emulator.network.channel.availability import earliest_presence_s
from emulator.network.channel.fading import NoFading
from emulator.network.channel.flow import BlockFlow, Blocks, Flow
from emulator.network.channel.ideal import Ideal
from emulator.network.channel.model import Wireless
from emulator.network.channel.placement import distances_m
from emulator.network.channel.transfer import Block
from emulator.network.channel.wireless_channel import WirelessChannel
from emulator.network.islands import Reach, require_connected
from emulator.network.relay_paths import Network
from emulator.scenario.schema import Scenario

MESSAGE_BYTES = 6400
"""Bytes on the channel of a round's message of the embedded backbone at density 0.1: a header and 5 packets."""

PACKET_BYTES = 1500
"""The size of the packet whose loss is shown: a full one."""

NEIGHBOURS = 3
"""The number of links of each device that are shown where all would be too many."""

SAME_POWER = 1e-9
"""Tolerance in ln(power): the power that Eq 25 requires may equal the limit up to rounding."""


Extent = Literal["all", "readable"]
"""Which links are shown: all, or, among many devices, the nearest of each."""


@dataclass(frozen=True)
class Occasion:
    """The emulated time [s], the bytes of a message on the channel, and the neighbours served at once."""

    at_s: float = 0.0
    message_bytes: int = MESSAGE_BYTES
    neighbours: int = 1

    def find_problems(self, devices: int) -> list[str]:
        """Return a line for each option of the command line that is impossible with so many devices."""
        problems = []
        if not (math.isfinite(self.at_s) and self.at_s >= 0.0):
            problems.append(f"--at: got {self.at_s:g}, wanted a time of 0 s or more")
        if self.message_bytes < 1:
            problems.append(f"--bytes: got {self.message_bytes}, wanted 1 or more")
        if not 1 <= self.neighbours < devices:
            problems.append(
                f"--neighbours: got {self.neighbours}, wanted 1 to {devices - 1} of {devices} devices"
            )
        return problems


@dataclass(frozen=True, eq=False)
class MeanLinks:
    """The channel of a scenario without fading. Raises ScenarioError for a user's own channel class."""

    scenario: Scenario
    occasion: Occasion

    @cached_property
    def model(self) -> Wireless:
        """The channel section of the scenario."""
        channel = self.scenario.channel
        if not isinstance(channel, Wireless):
            raise ScenarioError(
                [
                    f"channel.kind: got {getattr(channel, 'kind', type(channel).__name__)}, wanted "
                    "wireless: another channel does not name the parts of a link"
                ]
            )
        return channel

    @cached_property
    def channel(self) -> WirelessChannel:
        """The channel bound to the placed devices, with every link at its mean gain."""
        steady = self.model.model_copy(update={"fading": NoFading()})
        return steady.bind(self.scenario.devices, self.scenario.seed)

    @cached_property
    def access(self) -> BoundAccess:
        """The access scheme, bound as in a run."""
        return bind_access(self.scenario.access, self.channel, self.scenario.seed)

    def plan_grants(self, links: Sequence[tuple[int, int]]) -> list[Grant]:
        """Return one grant with its power for each link (sender, receiver).

        The sender serves `occasion.neighbours` equal neighbours at the same time, or all by one broadcast.
        """
        at_once = 1 if self.access.cast == "broadcast" else self.occasion.neighbours
        requests = [
            Request(i, (j,), self.occasion.message_bytes, self.occasion.at_s, exchange)
            for exchange, (i, j) in enumerate(links)
            for _ in range(at_once)
        ]
        planned = self.access.plan(requests)
        starts = range(0, len(requests), at_once)
        spans = [slice(start, start + at_once) for start in starts]
        return [self.channel.set_powers(planned[span], requests[span])[0] for span in spans]

    def snr(self, grant: Grant) -> float:
        """Mean received power over noise and interference at the weakest receiver; 0 on an infinite band."""
        return float(self.channel.signal.snr(grant, 0).min())

    def limit_w(self, grant: Grant) -> float:
        """The power limit of one grant [W]: simultaneous grants of a sender share its power."""
        at_once = grant.slots is None and self.access.cast == "unicast"
        return self.model.max_power_w / (self.occasion.neighbours if at_once else 1)

    def needed_w_log(self, grant: Grant) -> float:
        """ln of the power [W] of the grant; under `least_power`, of the power that Eq 25 requires."""
        if self.model.power.kind == "fixed":
            return math.log(grant.tx_power_w)
        return self.channel.log_needed_w(grant, self.occasion.message_bytes)

    def bit_per_s(self, grant: Grant) -> float:
        """The rate at the mean SNR while the sender transmits [bit/s]."""
        rate = self.model.rate
        if not self.channel.signal.has_path(grant, 0):
            return 0.0
        if rate.kind == "trace":
            return rate.mean_bit_per_s
        return rate.bit_per_s(self.snr(grant), grant.bandwidth_hz)

    def message_s(self, grant: Grant) -> float:
        """Time from the first to the last bit of one message, each packet sent once [s]."""
        rate, bit_per_s = self.model.rate, self.bit_per_s(grant)
        if bit_per_s <= 0.0:
            return math.inf
        start_s = 0.0 if grant.slots is None else float(grant.slots.times_at(np.zeros(1))[0])
        whole = Blocks(math.inf)
        flow: Flow = BlockFlow(lambda _: bit_per_s, whole, grant.slots, start_s)
        if rate.kind == "trace":
            flow = rate.flow(self.occasion.at_s, whole)
        bits = bits_from_bytes(self.occasion.message_bytes)
        return float(flow.finish_times_s(np.array([bits], dtype=np.float64))[0])

    def loss(self, grant: Grant) -> float:
        """Probability that one transmission of a full packet is lost at the mean SNR."""
        losses, rate = self.model.losses, self.model.rate
        snr = self.snr(grant)
        threshold_db = rate.threshold_db(snr) if rate.kind == "nr_cqi" else None
        block = Block(np.array([snr]), threshold_db, math.inf)
        bits = np.array([bits_from_bytes(PACKET_BYTES)], dtype=np.float64)
        return float(losses.loss_probability(block, bits)[0, 0])


def build_link_report(scenario: Scenario, occasion: Occasion, extent: Extent) -> RenderableType:
    """Build the printed link budget of a scenario. Raises ScenarioError for an impossible occasion."""
    if problems := occasion.find_problems(scenario.devices):
        raise ScenarioError(problems)
    if isinstance(scenario.channel, Ideal):
        return Text(
            f"{scenario.name}: the channel is ideal, every message arrives whole, at once and "
            "without cost: there is nothing to show"
        )
    links = MeanLinks(scenario, occasion)
    few = extent == "all" or scenario.devices <= FEW_DEVICES
    return build_link_table(
        compute_link_budget(links, list_links(links) if few else find_nearest_links(links))
    )


def list_links(links: MeanLinks) -> list[tuple[int, int]]:
    """Return every pair once; in both directions where devices share a slot, since interference then differs."""
    devices = links.scenario.devices
    shared = bool(_find_shared_slots(links.access, devices))
    return [(i, j) for i in range(devices) for j in range(devices) if (i != j if shared else i < j)]


def find_nearest_links(links: MeanLinks, count: int = NEIGHBOURS) -> list[tuple[int, int]]:
    """Return links of each device to its `count` nearest others (with gains from a file: the strongest)."""
    snapshot = links.channel.at(links.occasion.at_s)
    from_file = links.model.gain is not None
    far_MM = -snapshot.mean_gain if from_file else distances_m(snapshot.positions_m)
    np.fill_diagonal(far_MM, np.inf)
    order_MM = np.argsort(far_MM, axis=1, kind="stable")
    return [(i, int(j)) for i, order in enumerate(order_MM) for j in order[:count]]


def compute_link_budget(links: MeanLinks, chosen: Sequence[tuple[int, int]]) -> LinkBudget:
    """Compute the budget of the chosen links, and what all links have in common."""
    grants = links.plan_grants(chosen)
    model, scenario, occasion = links.model, links.scenario, links.occasion
    reach = Reach(links.channel, links.access, scenario.access, scenario.seed, occasion.at_s)
    first = grants[0]
    finite = math.isfinite(first.bandwidth_hz)
    noise = noise_w(first.bandwidth_hz, model.noise_figure_db)
    return LinkBudget(
        name=scenario.name,
        seed=scenario.seed,
        at_s=occasion.at_s,
        message=_describe_message(links),
        lines=_compute_lines(links, chosen, grants),
        pairs=len(list_links(links)),
        least_power=model.power.kind == "least_power",
        limit_dbm=dbm_from_watts(model.max_power_w),
        deadline_s=model.deadline_s,
        access=_describe_access(links),
        bandwidth_hz=first.bandwidth_hz,
        noise_dbm=dbm_from_watts(noise) if finite else None,
        outside_dbm=dbm_from_watts(model.interference_w) if model.interference_w else None,
        slot_of=find_slots(links.access),
        one_slot=_find_shared_slots(links.access, scenario.devices),
        slot_s=getattr(links.access, "slot_s", None),
        in_range_MM=reach.near,
        islands=reach.islands,
        missing=reach.describe_missing_link() if len(reach.islands) > 1 else None,
        away=tuple(
            i
            for i in range(scenario.devices)
            if earliest_presence_s(model.offline, (i,), occasion.at_s) > occasion.at_s
        ),
        relayed=Network(links.channel, links.access).at(occasion.at_s).find_relayed(),
    )


def describe_relays(scenario: Scenario, air: tuple[BoundChannel, BoundAccess]) -> list[str]:
    """Return one line if some pairs of devices reach each other only over relays at the start.

    air: channel and access of the scenario, bound. Raises ScenarioError where devices that exchange
    messages cannot reach each other.
    """
    if not scenario.exchanges:
        return []
    require_connected(Reach(*air, scenario.access, scenario.seed))
    paths = Network(*air).at(0.0).find_relayed()
    if not paths:
        return []
    pairs = len({frozenset((path[0], path[-1])) for path in paths})
    note = f"channel: got {pairs} pairs of devices out of range, whose messages go hop by hop"
    if scenario.devices > FEW_DEVICES:
        return [f"{note} (channel show --all names the relays)"]
    return [f"{note}: {describe_relay_paths(paths)}"]


def _compute_lines(
    links: MeanLinks, chosen: Sequence[tuple[int, int]], grants: Sequence[Grant]
) -> list[LinkLine]:
    paths = links.channel.gains.pair_losses(chosen, links.occasion.at_s)
    shadowed = links.model.shadowing.kind != "none"
    lines = []
    for index, ((sender, receiver), grant) in enumerate(zip(chosen, grants, strict=True)):
        needed_w_log = links.needed_w_log(grant)
        snr = links.snr(grant)
        gain = links.channel.gains.gain(sender, receiver, links.occasion.at_s)
        line = LinkLine(
            sender=sender,
            receiver=receiver,
            distance_m=float(paths.distance_m[index]) if paths else None,
            line_of_sight=bool(paths.line_of_sight[index]) if paths else None,
            path_loss_db=float(paths.path_loss_db[index]) if paths else -db_from_linear(gain),
            shadowing_db=float(paths.shadowing_db[index]) if paths and shadowed else None,
            power_dbm=30.0 + 10.0 * needed_w_log / math.log(10.0),
            above_limit=gain > 0.0 and needed_w_log > math.log(links.limit_w(grant)) + SAME_POWER,
            snr_db=db_from_linear(snr) if snr > 0.0 else None,
            bit_per_s=links.bit_per_s(grant),
            loss=links.loss(grant),
            message_s=links.message_s(grant),
            there=gain > 0.0,
        )
        lines.append(line)
    return lines


def _find_shared_slots(access: BoundAccess, devices: int) -> list[tuple[int, int]]:
    """Return the pairs of devices that share a slot, each once, sorted."""
    return find_slot_conflicts(access, combinations(range(devices), 2))


def _describe_message(links: MeanLinks) -> str:
    size = f"{links.occasion.message_bytes:,} bytes"
    if links.access.cast == "broadcast":
        return f"a broadcast of {size}"
    count = links.occasion.neighbours
    return f"a message of {size} to {count} neighbour{'s at once' if count > 1 else ' at a time'}"


def _describe_access(links: MeanLinks) -> str:
    scheme = links.scenario.access
    name = f"{getattr(scheme, 'kind', type(scheme).__name__)}, {links.access.cast}"
    details = getattr(links.access, "details", "")
    return f"{name}, {details}" if details else name
