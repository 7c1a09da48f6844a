"""Plots of a scenario's channel: the models that it uses, and results of its own draws and codec.

Shapes: D distances, S signal-to-noise ratios, K draws, N coordinates of a mask.
"""

import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from emulator.analysis.channel.link_budget import (
    MeanLinks,
    Occasion,
    find_nearest_links,
    list_links,
)
from emulator.analysis.plotly_page import Curve, Picture, PlotAxis
from emulator.core.protocols.access import BoundAccess
from emulator.core.rng import stream
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import DoubleArray
from emulator.core.types.message import Kind, Message, Traffic, ValueType
from emulator.core.types.transmission import Request
from emulator.core.units import bits_from_bytes, db_from_linear, linear_from_db
from emulator.network.channel.access import bind_access
from emulator.network.channel.cqi import NrCqiRate
from emulator.network.channel.ideal import Ideal
from emulator.network.channel.pathloss_base import ValidityWarning
from emulator.network.channel.rates import ShannonRate
from emulator.network.wire import WireFormat
from emulator.scenario.schema import Scenario

DISTANCES = 241
"""D: points of each path-loss curve."""

SNR_DB = np.arange(-12.0, 36.05, 0.1)
"""S: from below the first CQI to above the last."""

DRAWS = 4000
"""K: exchanges over one link, each with its own fade."""

MASK_SIZE = 1 << 20
"""N: coordinates of a measured mask."""

DENSITIES = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.34, 0.38, 0.42,
    0.5, 0.6, 0.7, 0.8, 0.9, 0.95,
)  # fmt: skip
"""The densities of the measured masks. At density 1 no mask is sent."""


SAME_RATE = 1e-9
"""Tolerance within which two spectral efficiencies [bit/s/Hz] count as equal."""


@dataclass(frozen=True)
class Figures:
    """The plots of a channel, and one line for each plot that is impossible, with the reason."""

    pictures: tuple[Picture, ...]
    left_out: tuple[str, ...]


def draw_channel_figures(scenario: Scenario) -> Figures:
    """Draw all plots of a scenario. Raises ScenarioError for a user's own channel class."""
    links = MeanLinks(scenario, Occasion())
    masks = draw_mask_bits(scenario.wire, scenario.name)
    if isinstance(scenario.channel, Ideal):
        reason = "channel.kind is ideal: nothing is lost over distance, noise or fading"
        return Figures((masks,), tuple(f"{name}: {reason}" for name in DRAWINGS))
    pictures, left_out = [], []
    for name, drawing in DRAWINGS.items():
        drawn = drawing(links)
        if isinstance(drawn, Picture):
            pictures.append(drawn)
        else:
            left_out.append(f"{name}: {drawn}")
    return Figures((*pictures, masks), tuple(left_out))


def draw_path_loss(links: MeanLinks) -> Picture | str:
    """Draw the mean path loss over distance, and each link of the scenario with its shadowing."""
    model, gains = links.model, links.channel.gains
    pairs = [(i, j) for i, j in list_links(links) if i < j]
    paths = gains.pair_losses(pairs, 0.0)
    if paths is None:
        return "gains come from a file, not from distances"
    if model.path_loss.kind == "none":
        return "path_loss.kind is none: no loss over distance"
    loss_db = paths.path_loss_db + paths.shadowing_db
    distance_D = np.geomspace(1.0, max(10.0, 1.3 * float(paths.distance_m.max())), DISTANCES)
    rows: list[tuple[object, ...]] = []
    curves = []
    for name, seen, mean_D in _compute_mean_losses(links, distance_D):
        points = list(zip(distance_D.tolist(), mean_D.tolist(), strict=True))
        curves.append(Curve(name, points))
        rows += [(name, "", "", x, seen, y) for x, y in points]
    for name, state in (("links, line of sight", True), ("links, no line of sight", False)):
        chosen = np.flatnonzero(paths.line_of_sight == state)
        points = [(float(paths.distance_m[i]), float(loss_db[i])) for i in chosen]
        ends = [pairs[i] for i in chosen]
        if points:
            curves.append(Curve(name, points, "dots"))
        rows += [("link", *ends[i], x, int(state), y) for i, (x, y) in enumerate(points)]
    title = f"{links.scenario.name}: path loss, {model.path_loss.kind}"
    head = ("series", "first", "second", "distance_m", "line_of_sight", "path_loss_db")
    axes = PlotAxis("distance [m]", "log"), PlotAxis("path loss [dB]")
    return Picture("path_loss", title, *axes, curves, head, rows)


def _compute_mean_losses(
    links: MeanLinks, distance_D: DoubleArray
) -> list[tuple[str, int | str, DoubleArray]]:
    """Return name, line of sight (1, 0 or empty) and mean loss [D] of each law that links may follow."""
    law = links.model.path_loss.model_copy()
    share_D = links.model.line_of_sight.probability(distance_D)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ValidityWarning
        )  # the curve goes beyond the range of validity on purpose
        los_D, nlos_D = (
            law.path_loss_db(distance_D, np.full(distance_D.shape, seen)) for seen in (True, False)
        )
    if np.array_equal(los_D, nlos_D):
        return [("mean", "", los_D)]
    laws: list[tuple[str, int | str, DoubleArray]] = []
    if bool((share_D > 0.0).any()):
        laws.append(("mean, line of sight", 1, los_D))
    if bool((share_D < 1.0).any()):
        laws.append(("mean, no line of sight", 0, nlos_D))
    return laws


def draw_spectral_efficiency(links: MeanLinks) -> Picture | str:
    """Draw bits per second and hertz over SNR: Shannon, with its gap and cap, and the steps of the CQI table."""
    rate = links.model.rate
    if not rate.depends_on_snr:
        return f"rate.kind is {rate.kind}: the rate does not depend on the SNR"
    stairs = rate if rate.kind == "nr_cqi" else NrCqiRate()
    laws = {law.label: law.bit_per_s for law in (ShannonRate(), rate, stairs)}
    points = {
        name: [(float(db), law(linear_from_db(float(db)), 1.0)) for db in SNR_DB]
        for name, law in laws.items()
    }
    own = "NR CQI" if rate.kind == "nr_cqi" else rate.label
    title = f"{links.scenario.name}: spectral efficiency (here: {own})"
    axes = PlotAxis("SNR [dB]"), PlotAxis("bit/s/Hz")
    curves = [Curve(name, line) for name, line in points.items()]
    rows = [(name, round(x, 1), y) for name, line in points.items() for x, y in line]
    head = ("series", "snr_db", "bit_per_s_hz")
    return Picture("spectral_efficiency", title, *axes, curves, head, rows)


def draw_rate_cdf(links: MeanLinks) -> Picture | str:
    """Draw the distribution of the rate of the link with the median SNR, over DRAWS exchanges.

    Each exchange has an independent fade, at constant power. Without interferers the closed form is
    P(|h|² < x / mean SNR), where x is the smallest SNR that supports the rate.
    """
    model, rate = links.model, links.model.rate
    if not rate.depends_on_snr:
        return f"rate.kind is {rate.kind}: the rate does not depend on the SNR"
    if model.fading.kind == "none":
        return "fading.kind is none: the rate of a link is constant"
    pairs = list_links(links)
    grants = links.plan_grants(pairs)
    order = sorted(range(len(grants)), key=lambda index: links.snr(grants[index]))
    middle = order[len(order) // 2]
    grant, mean_snr, band_hz = (
        grants[middle],
        links.snr(grants[middle]),
        grants[middle].bandwidth_hz,
    )
    if mean_snr == 0.0:
        return "half of the links and more have no path"
    anew = model.fading.model_copy(update={"blocks": "per_exchange", "correlation": "none"})
    air = model.model_copy(update={"fading": anew})
    fading = air.bind(links.scenario.devices, links.scenario.seed)
    exchanges = (replace(grant, exchange_index=exchange) for exchange in range(DRAWS))
    snr_K = [float(fading.signal.snr(exchange, 0)[0]) for exchange in exchanges]
    rate_K = sorted(rate.bit_per_s(snr, band_hz) / band_hz for snr in snr_K)
    shares = [(k + 1) / DRAWS for k in range(DRAWS)]
    curves = [Curve(f"{DRAWS} draws", list(zip(rate_K, shares, strict=True)))]
    closed: list[float] | list[str] = [""] * DRAWS
    if not grant.interferers:
        closed = [_closed_form(links, r, mean_snr, band_hz) for r in rate_K]
        grid = np.linspace(0.0, max(rate_K), 600)
        smooth = [(float(r), _closed_form(links, float(r), mean_snr, band_hz)) for r in grid]
        curves.append(Curve("closed form", smooth, "dashes"))
    mean_db = db_from_linear(mean_snr)
    first, second = pairs[middle]
    title = (
        f"{links.scenario.name}: rate of link {first} to {second}, mean SNR {mean_db:.1f} dB, "
        f"{model.fading.kind.capitalize()} fading"
    )
    head = ("bit_per_s_hz", "share_of_draws", "closed_form", "mean_snr_db")
    rows = [(r, s, c, mean_db) for r, s, c in zip(rate_K, shares, closed, strict=True)]
    axes = PlotAxis("rate [bit/s/Hz]"), PlotAxis("share of exchanges at or below")
    return Picture("rate_cdf", title, *axes, curves, head, rows)


def _closed_form(links: MeanLinks, efficiency: float, mean_snr: float, band_hz: float) -> float:
    """P(rate <= efficiency·B) of a link without interferers."""
    just_above = (efficiency * (1.0 + SAME_RATE) + SAME_RATE) * band_hz
    log_ratio = links.model.rate.log_snr(just_above, band_hz) - math.log(mean_snr)
    power = math.exp(log_ratio) if log_ratio < 700.0 else math.inf
    if steady := links.model.fading.steady_ratio:
        return float(stats.ncx2.cdf(2.0 * (steady + 1.0) * power, 2, 2.0 * steady))
    return -math.expm1(-power)


def draw_cast_airtime(links: MeanLinks) -> Picture | str:
    """Draw the airtime in which every device sends a message to its nearest neighbours, in two ways.

    Unicast takes one transmission for each neighbour; broadcast takes one for all, at the rate of the
    weakest. Mean gains, every packet sent once, only neighbours in range; over the share of all links
    that are used.
    """
    scheme, devices = links.scenario.access, links.scenario.devices
    casts = getattr(scheme, "casts", ())
    if len(casts) < 2:
        return f"access.kind is {scheme.kind}: every receiver is served separately"
    in_range_MM = links.channel.at(0.0).in_range(*links.access.share(1))
    curves, rows = [], []
    for cast in casts:
        cast_so = scheme.model_copy(update={"cast": cast})
        access = bind_access(cast_so, links.channel, links.scenario.seed)
        points = []
        for most in range(1, devices):
            reached = [(i, j) for i, j in find_nearest_links(links, most) if in_range_MM[i, j]]
            airtime_s = sum(
                _airtime_s(links, access, i, tuple(j for _, j in links_of_i))
                for i, links_of_i in itertools.groupby(reached, key=lambda link: link[0])
            )
            points.append((len(reached) / (devices * (devices - 1)), airtime_s))
        curves.append(Curve(cast, points))
        rows += [(cast, neighbours, *point) for neighbours, point in enumerate(points, start=1)]
    title = f"{links.scenario.name}: airtime of {links.occasion.message_bytes:,} bytes from every device"
    axes = PlotAxis("links in use / all links"), PlotAxis("airtime [s]", "log")
    head = ("cast", "neighbours_at_most", "density", "airtime_s")
    return Picture("cast_airtime", title, *axes, curves, head, rows)


def _airtime_s(
    links: MeanLinks, access: BoundAccess, sender: int, receivers: tuple[int, ...]
) -> float:
    """Airtime [s] in which one sender sends a message to all receivers, in its casting mode."""
    targets = [receivers] if access.cast == "broadcast" else [(receiver,) for receiver in receivers]
    message_bytes = links.occasion.message_bytes
    requests = [Request(sender, to, message_bytes, links.occasion.at_s, 0) for to in targets]
    grants = links.channel.set_powers(access.plan(requests), requests)
    return sum(bits_from_bytes(message_bytes) / links.bit_per_s(grant) for grant in grants)


def draw_mask_bits(wire: WireFormat, name: str) -> Picture:
    """Draw the bits for each coordinate that the codec spends on random masks, and their entropy."""
    rows = []
    for index, density in enumerate(DENSITIES):
        kept = stream(0, "mask_bits", index).permutation(MASK_SIZE)[: round(density * MASK_SIZE)]
        mask = Mask(MASK_SIZE, np.sort(kept).astype(np.int64))
        packets = wire.encode(_make_mask_message(mask))
        bits = 8 * sum(packet.mask_bytes for packet in packets) / MASK_SIZE
        rows.append((mask.density, bits, entropy_bits(mask.density)))
    curves = [
        Curve(
            f"measured, {wire.mask_codec}", [(density, bits) for density, bits, _ in rows], "dots"
        ),
        Curve(
            "entropy", [(float(p), entropy_bits(float(p))) for p in np.geomspace(1e-3, 0.96, 300)]
        ),
    ]
    axes = PlotAxis("density of the mask", "log"), PlotAxis("bits for each coordinate", "log")
    head = ("density", "measured_bits", "entropy_bits")
    title = f"{name}: masks of {MASK_SIZE:,} coordinates on the wire"
    return Picture("mask_bits", title, *axes, curves, head, rows)


def entropy_bits(density: float) -> float:
    """H(p) = -p lg p - (1-p) lg (1-p), in bits."""
    return -sum(share * math.log2(share) for share in (density, 1.0 - density) if share > 0.0)


def _make_mask_message(mask: Mask) -> Message:
    """A message with a mask that no receiver knows."""
    return Message(
        kind=Kind.MASK,
        traffic=Traffic.SETUP,
        source=0,
        origin=0,
        round_index=0,
        receivers=(1,),
        layout=AdapterLayout(("mask",), ((mask.size,),)),
        mask=mask,
        values=None,
        value_type=ValueType.BFLOAT16,
        mask_known=False,
        reliable=True,
    )


DRAWINGS: dict[str, Callable[[MeanLinks], Picture | str]] = {
    "path_loss": draw_path_loss,
    "spectral_efficiency": draw_spectral_efficiency,
    "rate_cdf": draw_rate_cdf,
    "cast_airtime": draw_cast_airtime,
}
"""The plots by file name. Each function returns a picture, or the reason why it is impossible."""
