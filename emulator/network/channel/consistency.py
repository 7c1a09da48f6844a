"""Consistency of the parts of a channel, checked pair by pair.

Every part states by properties which values it assumes: carrier, surroundings, setting, speed. A
scenario with contradictions is refused, because no real network has both values. Doubts are reported,
and the scenario runs: a part is used outside the conditions that it was made for.
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, get_args

from emulator.network.channel.fading import Fading
from emulator.network.channel.pathloss import PathLoss

if TYPE_CHECKING:
    from emulator.network.channel.model import Wireless

FR2_FROM_GHZ = 24.25
"""Source: 3GPP TS 38.101-2, section 5.1."""

FR1_OVERHEAD = 0.14

SAME = 1e-9
"""Relative difference up to which two numbers count as equal."""

Rule = Callable[["Wireless"], Iterator[str]]


def find_contradictions(model: "Wireless") -> list[str]:
    """Find settings that contradict each other, one line each: path inside the channel, got, wanted."""
    return [line for rule in IMPOSSIBLE for line in rule(model)]


def find_doubts(model: "Wireless", bandwidth_hz: float) -> list[str]:
    """Find parts that do not fit together, one line each with the full path.

    bandwidth_hz: the band of one sender.
    """
    return [line for rule in DOUBTFUL for line in rule(model)] + [*_wide_band(model, bandwidth_hz)]


def find_band_problems(model: "Wireless", bandwidth_hz: float) -> list[str]:
    """Find a band that reaches below 0 Hz around its carrier."""
    carrier = carrier_ghz(model)
    if carrier is None or bandwidth_hz <= 2e9 * carrier or math.isinf(bandwidth_hz):
        return []
    return [
        f"access.bandwidth_hz: got {bandwidth_hz:g} around a carrier of {carrier:g} GHz, wanted at most "
        f"{2e9 * carrier:g} Hz, twice the carrier"
    ]


def carriers_ghz(model: "Wireless") -> dict[str, float]:
    """The carriers that parts of the channel state: path inside the channel, and value [GHz]."""
    stated = {
        "path_loss.fc_ghz": None if model.gain else model.path_loss.carrier_ghz,
        "fading.fc_ghz": model.fading.carrier_ghz,
    }
    return {where: value for where, value in stated.items() if value is not None}


def carrier_ghz(model: "Wireless") -> float | None:
    """The carrier of the channel [GHz]; None if no part states one."""
    return next(iter(carriers_ghz(model).values()), model.fc_ghz)


def spread_carrier(data: Any) -> Any:
    """Copy the `fc_ghz` of a channel to every part that needs a carrier and states none."""
    carrier = data.get("fc_ghz") if isinstance(data, dict) else None
    if not isinstance(carrier, int | float):
        return data
    spread = dict(data)
    for key, kinds in CARRIER_KINDS.items():
        part = data.get(key)
        if isinstance(part, dict) and part.get("kind") in kinds and part.get("fc_ghz") is None:
            if key == "fading" and part.get("speed_mps") is None:
                continue
            spread[key] = {**part, "fc_ghz": carrier}
    return spread


def _kinds_with_carrier(union: Any) -> frozenset[str]:
    """The kinds of a discriminated union that have a field `fc_ghz`."""
    models = get_args(get_args(union)[0])
    return frozenset(m.model_fields["kind"].default for m in models if "fc_ghz" in m.model_fields)


CARRIER_KINDS = {
    "path_loss": _kinds_with_carrier(PathLoss),
    "fading": _kinds_with_carrier(Fading),
}
"""The kinds that get the carrier of the channel, by section."""


# ── contradictions ───────────────────────────────────────────────────────────────────────────────


def _one_carrier(model: "Wireless") -> Iterator[str]:
    carriers = carriers_ghz(model)
    first, *others = carriers or [""]
    for where in others:
        if not math.isclose(carriers[where], carriers[first], rel_tol=SAME):
            yield (
                f"{where}: got {carriers[where]:g} with {first} {carriers[first]:g}, wanted one carrier "
                "(channel.fc_ghz is that of every part which states none)"
            )


def _one_setting(model: "Wireless") -> Iterator[str]:
    """Clutter and heights must agree if path loss and line of sight have the same surroundings."""
    path_loss, line_of_sight = model.path_loss, model.line_of_sight
    if model.gain or path_loss.surroundings != line_of_sight.surroundings:
        return
    theirs = path_loss.setting
    for name, own in line_of_sight.setting.items():
        if name in theirs and theirs[name] != own:
            yield (
                f"line_of_sight.{name}: got {own} with path_loss.{name} {theirs[name]}, wanted the same"
            )


def _enough_power(model: "Wireless") -> Iterator[str]:
    if model.power.kind == "fixed" and model.power.power_w > model.max_power_w:
        yield (
            f"power.power_w: got {model.power.power_w}, "
            f"wanted at most max_power_w = {model.max_power_w}"
        )


def _power_matters(model: "Wireless") -> Iterator[str]:
    if model.power.kind != "least_power":
        return
    if model.rate.kind in ("fixed", "trace"):
        yield (
            f"power.kind: got least_power with rate.kind {model.rate.kind}, "
            "wanted power.kind fixed (the rate does not depend on the power)"
        )
    if model.losses.kind == "logistic":
        yield (
            "power.kind: got least_power with losses.kind logistic, wanted power.kind fixed (the "
            "least power for a rate is that at which most packets of it are lost)"
        )


def _one_fading(model: "Wireless") -> Iterator[str]:
    if model.losses.kind == "outage" and model.fading.kind != "none":
        yield (
            f"losses.kind: got outage with fading.kind {model.fading.kind}, "
            "wanted fading.kind none (outage has its own Rayleigh fading in every try)"
        )


def _one_threshold(model: "Wireless") -> Iterator[str]:
    if model.losses.kind != "logistic":
        return
    given, own = model.losses.threshold_db is not None, model.rate.kind == "nr_cqi"
    if given == own:
        yield (
            f"losses.threshold_db: got {model.losses.threshold_db} with rate.kind "
            f"{model.rate.kind}, wanted " + ("null (every CQI has its own)" if own else "an SNR")
        )


IMPOSSIBLE: tuple[Rule, ...] = (
    _one_carrier,
    _one_setting,
    _enough_power,
    _power_matters,
    _one_fading,
    _one_threshold,
)


# ── doubts ───────────────────────────────────────────────────────────────────────────────────────


def _surroundings(model: "Wireless") -> Iterator[str]:
    path_loss, line_of_sight = model.path_loss, model.line_of_sight
    here, there = path_loss.surroundings, line_of_sight.surroundings
    if model.gain or there is None or here == there:
        return
    law = f"channel.line_of_sight: {line_of_sight.kind} is a law for {there}"
    if here is None:
        yield f"{law}, and channel.path_loss {path_loss.kind} is the same with and without line of sight"
    else:
        yield f"{law}, channel.path_loss {path_loss.kind} is one for {here}: their states differ"


def _unused_carrier(model: "Wireless") -> Iterator[str]:
    carriers = carriers_ghz(model)
    if model.fc_ghz is None or model.fc_ghz in carriers.values():
        return
    others = ", ".join(f"{where} is {value:g}" for where, value in carriers.items())
    yield (
        f"channel.fc_ghz: {model.fc_ghz:g} changes nothing: "
        + (others or "no part of this channel has a carrier")
    )


def _other_carrier(model: "Wireless") -> Iterator[str]:
    made_for, carrier = model.path_loss.measured_at_ghz, carrier_ghz(model)
    if made_for is None or carrier is None or math.isclose(carrier, made_for, rel_tol=SAME):
        return
    yield (
        f"channel.path_loss: {model.path_loss.kind} is valid at {made_for:g} GHz, got a carrier of "
        f"{carrier:g} GHz: its loss stays as it is there"
    )


def _speed(model: "Wireless") -> Iterator[str]:
    """Two devices that each move at up to v change their distance at up to 2 v."""
    fades, moves = model.fading.speed_at_mps(carrier_ghz(model)), model.mobility.speeds_mps
    if fades is None or moves is None or moves[0] <= fades <= 2.0 * moves[1]:
        return
    yield (
        f"channel.fading: one draw holds {model.fading.block_s:.3g} s, as at {fades:.3g} m/s, where "
        f"channel.mobility moves devices at {moves[0]:g} to {moves[1]:g} m/s: wanted a speed_mps of "
        f"{moves[0]:g} to {2.0 * moves[1]:g}"
    )


def _overhead(model: "Wireless") -> Iterator[str]:
    carrier, rate = carrier_ghz(model) or 0.0, model.rate
    if rate.kind == "nr_cqi" and rate.overhead == FR1_OVERHEAD and carrier >= FR2_FROM_GHZ:
        yield (
            f"channel.rate.overhead: {rate.overhead:g} is that of carriers up to 7.125 GHz, and this one "
            f"is {carrier:g} GHz: TS 38.306 takes 0.18 there (sidelink 0.25)"
        )


def _wide_band(model: "Wireless", bandwidth_hz: float) -> Iterator[str]:
    most_hz = math.inf if model.gain else model.path_loss.widest_band_hz
    if most_hz < bandwidth_hz < math.inf:
        yield (
            f"access.bandwidth_hz: got {bandwidth_hz:g}, channel.path_loss {model.path_loss.kind} is valid "
            f"up to {most_hz:g} Hz: its loss is taken all the same"
        )


DOUBTFUL: tuple[Rule, ...] = (_surroundings, _unused_carrier, _other_carrier, _speed, _overhead)
