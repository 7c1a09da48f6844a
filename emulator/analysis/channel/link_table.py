"""The link budget of a scenario as a table, with notes on its assumptions beneath it.

Shapes: M devices.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emulator.core.types.arrays import BoolArray

FEW_DEVICES = 12
"""The largest number of devices for which all links, and the devices in range, are listed."""


@dataclass(frozen=True)
class LinkLine:
    """One link at its mean gain. None: unknown.

    power_dbm: the fixed power, or what Eq 25 requires. above_limit: this exceeds the limit of the device;
    SNR, rate, loss and time are then those at the limit. loss: of one transmission of a full packet.
    message_s: time from the first to the last bit, each packet sent once; inf: never. there: whether
    a path exists at all.
    """

    sender: int
    receiver: int
    distance_m: float | None
    line_of_sight: bool | None
    path_loss_db: float
    shadowing_db: float | None
    power_dbm: float
    above_limit: bool
    snr_db: float | None
    bit_per_s: float
    loss: float
    message_s: float
    there: bool = True


@dataclass(frozen=True, eq=False)
class LinkBudget:
    """The links of a network at one moment.

    lines: the links that are shown, of all `pairs` (both directions count where they differ). message:
    a description of what is sent. bandwidth_hz: of one link. noise_dbm, outside_dbm: noise and external
    interference in that band, None without. slot_of [M], slot_s: None without slots. one_slot: the pairs
    that share a slot. in_range_MM: [i, j] is whether i can send a packet to j within the deadline.
    islands: the groups of devices that are connected over any number of hops. missing: a description of
    the best link between two islands. away: devices that are offline at that moment; their links are
    computed as if they were online. relayed: the paths of the pairs that reach each other only over
    relays, in both directions.
    """

    name: str
    seed: int
    at_s: float
    message: str
    lines: Sequence[LinkLine]
    pairs: int
    least_power: bool
    limit_dbm: float
    deadline_s: float
    access: str
    bandwidth_hz: float
    noise_dbm: float | None
    outside_dbm: float | None
    slot_of: tuple[int, ...] | None
    one_slot: Sequence[tuple[int, int]]
    slot_s: float | None
    in_range_MM: BoolArray
    islands: Sequence[Sequence[int]]
    missing: str | None
    away: tuple[int, ...]
    relayed: Sequence[Sequence[int]]


def build_link_table(budget: LinkBudget) -> RenderableType:
    """Build the table and the notes beneath it."""
    devices = len(budget.in_range_MM)
    title = (
        f"{budget.name}: {devices} devices at {budget.at_s:g} s, seed {budget.seed}; {budget.message}; "
        "mean gains, no fading"
    )
    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    shadowed = any(line.shadowing_db is not None for line in budget.lines)
    for heading in _list_headings(budget, shadowed):
        table.add_column(
            Text(heading), justify="right", overflow="fold"
        )  # no digit is ever cut off
    for line in budget.lines:
        table.add_row(*_list_cells(line, shadowed))
    notes = Table.grid(padding=(0, 2))
    for label, note in _list_notes(budget):
        notes.add_row(Text(label, style="italic"), Text(note))
    return Group(table, notes)


def _list_headings(budget: LinkBudget, shadowed: bool) -> list[str]:
    power = "needed\npower [dBm]" if budget.least_power else "power\n[dBm]"
    headings = ["from", "to", "distance\n[m]", "line of\nsight", "path loss\n[dB]"]
    headings += ["shadowing\n[dB]"] if shadowed else []
    ratio = "SINR\n[dB]" if budget.one_slot or budget.outside_dbm is not None else "SNR\n[dB]"
    return [*headings, power, ratio, "rate\n[bit/s]", "loss of\na try", "message\n[s]"]


def _list_cells(line: LinkLine, shadowed: bool) -> list[str]:
    seen = "-" if line.line_of_sight is None else ("yes" if line.line_of_sight else "no")
    cells = [str(line.sender), str(line.receiver), _format_known(line.distance_m, ".1f"), seen]
    if not line.there:
        return [*cells, "no path", *["-"] * (4 + shadowed), "never"]
    cells.append(f"{line.path_loss_db:.1f}")
    cells += [_format_known(line.shadowing_db, "+.1f")] if shadowed else []
    return [
        *cells,
        f"{line.power_dbm:.1f}{'*' if line.above_limit else ''}",
        _format_known(line.snr_db, ".1f"),
        f"{line.bit_per_s:,.0f}",
        f"{line.loss:.2g}",
        "never" if math.isinf(line.message_s) else f"{line.message_s:.4g}",
    ]


def _list_notes(budget: LinkBudget) -> Iterable[tuple[str, str]]:
    """Yield label and text of each note on the assumptions of the numbers."""
    if len(budget.lines) < budget.pairs:
        yield (
            "shown",
            f"{len(budget.lines)} of {budget.pairs} links, the nearest of each device; --all shows all",
        )
    if any(line.above_limit for line in budget.lines):
        yield (
            "*",
            f"more than the device has: what follows is at its limit, {budget.limit_dbm:.1f} dBm",
        )
    if budget.away:
        yield (
            "away",
            f"{_name_devices(budget.away)}; messages from and to them wait for their return",
        )
    yield "access", budget.access
    if budget.slot_of is not None and budget.slot_s is not None:
        yield "slots", _describe_slots(budget.slot_of, budget.slot_s)
        if budget.one_slot:
            yield "one slot", _describe_shared_slots(budget.one_slot)
    yield "band", _describe_band(budget)
    yield "limits", f"{budget.limit_dbm:.1f} dBm a device, deadline {budget.deadline_s:g} s"
    whole = len(budget.lines) == budget.pairs
    yield "in range", _describe_range(budget.in_range_MM, whole=whole)
    if budget.relayed:
        named = whole or len(budget.in_range_MM) <= FEW_DEVICES
        yield (
            "relays",
            describe_relay_paths(budget.relayed) if named else _count_relays(budget.relayed),
        )
    islands = "; ".join(map(_name_devices, budget.islands))
    count = len(budget.islands)
    yield "islands", "none: all are connected" if count == 1 else f"{count}: {islands}"
    if budget.missing is not None:
        yield "to join", budget.missing


def _describe_slots(slot_of: Sequence[int], slot_s: float) -> str:
    """Describe the number of slots, their length, and the devices of each."""
    count = 1 + max(slot_of)
    owners = [[i for i, own in enumerate(slot_of) if own == slot] for slot in range(count)]
    length = f"{count} of {1000 * slot_s:g} ms, so a sender waits up to {1000 * slot_s * (count - 1):g} ms"
    return f"{length}; devices in turn: {' | '.join(map(_name_devices, owners))}"


def _describe_shared_slots(pairs: Sequence[tuple[int, int]]) -> str:
    """Name the pairs that share a slot, or count them if they are many."""
    few = ", ".join(f"{i} and {j}" for i, j in pairs)
    named = few if len(pairs) <= FEW_DEVICES else f"{len(pairs)} pairs of devices"
    return f"{named} share one, being out of range at the start: a link between them is served as if they took turns"


def _describe_band(budget: LinkBudget) -> str:
    if math.isinf(budget.bandwidth_hz):
        return "unlimited: nothing depends on its noise"
    band = f"{budget.bandwidth_hz:,.0f} Hz a link, noise floor {_format_known(budget.noise_dbm, '.1f')} dBm"
    if budget.outside_dbm is not None:
        band += f", from outside {budget.outside_dbm:.1f} dBm"
    return band


def _describe_range(near_MM: BoolArray, *, whole: bool) -> str:
    """List the devices in range of each; count them if devices are many and not all are shown."""
    devices = len(near_MM)
    degrees = near_MM.sum(axis=1)
    if bool((degrees == devices - 1).all()):
        return "all devices of each other"
    if devices > FEW_DEVICES and not whole:
        few, mean, many = int(degrees.min()), float(degrees.mean()), int(degrees.max())
        return f"{few} to {many} others of each device, {mean:.1f} on average; --all names them"
    return "; ".join(
        f"{i}: {_name_devices([j for j in range(devices) if near_MM[i, j]])}"
        for i in range(devices)
    )


def describe_relay_paths(paths: Sequence[Sequence[int]]) -> str:
    """Describe the paths of pairs out of range, `0 - 2 by 1`; `->` where the way back differs."""
    known = {tuple(path) for path in paths}
    words = []
    for path in sorted(known):
        both = tuple(reversed(path)) in known
        if both and path[0] > path[-1]:
            continue
        ends = f"{path[0]} {'-' if both else '->'} {path[-1]}"
        words.append(f"{ends} by {', '.join(map(str, path[1:-1]))}")
    return "; ".join(words)


def _count_relays(paths: Sequence[Sequence[int]]) -> str:
    """Count the pairs out of range, and the hops of their longest path."""
    pairs, hops = len({frozenset((path[0], path[-1])) for path in paths}), max(map(len, paths)) - 1
    return f"for {pairs} pairs out of range, up to {hops} hops; --all names them"


def _name_devices(devices: Sequence[int]) -> str:
    """Write sorted ids as ranges: `0-3, 5`."""
    runs: list[list[int]] = []
    for device in devices:
        if runs and runs[-1][-1] == device - 1:
            runs[-1].append(device)
        else:
            runs.append([device])
    return ", ".join(_name_consecutive(run) for run in runs) or "none"


def _name_consecutive(run: Sequence[int]) -> str:
    """Write consecutive ids as one range."""
    return f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run))


def _format_known(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
