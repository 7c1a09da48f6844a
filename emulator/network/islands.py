"""Islands of devices out of each other's range: the best link that is missing, and what would connect all.

Another power, deadline or band changes which devices are in range of each other, so that an access
scheme may assign its slots differently. Therefore every proposed value has been tried: the network that
it makes is connected. This module uses the protocols of channels and access schemes only, so it holds for
a user's own classes too.
Shapes: M devices.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel

from emulator.core.errors import ScenarioError
from emulator.core.protocols.access import Access, BoundAccess
from emulator.core.protocols.channel import BoundChannel, Snapshot
from emulator.core.types.arrays import BoolArray, DoubleArray
from emulator.core.units import bits_from_bytes, db_from_linear
from emulator.network.channel.snapshot import IN_RANGE_BYTES
from emulator.network.topology.graphs import islands

MOST_DOUBLINGS = 100
"""The search for a value ends after this number of doublings, because a larger value is not enough either."""

MOST_NETWORKS = 100
"""The search raises a value at most this number of times because slots were assigned differently."""

SAME_DEADLINE = 1e-9
"""A deadline must still be enough when it is shorter by this share, because rounding may shorten it."""

BAND_STEP = 10.0**0.05
"""Ratio of two neighbouring bands of the grid on which bands are tried."""

BAND_STEPS = 240
"""Bands tried in each direction: twelve decades."""

NOTHING_HELPS = "no deadline, band or power alone connects all: wanted devices in other places"


@dataclass(frozen=True)
class Setting:
    """Changed settings: the least power of every device [W], a factor of the deadline, and the band of
    the access scheme [Hz] (None: unchanged)."""

    power_w: float = 0.0
    longer: float = 1.0
    band_hz: float | None = None


@dataclass(frozen=True, eq=False)
class Reach:
    """Which devices reach each other at a time, under the scenario's settings or under others.

    access: `scheme`, bound for this run under seed.
    """

    channel: BoundChannel
    access: BoundAccess
    scheme: Access
    seed: int
    time_s: float = 0.0

    @functools.cached_property
    def near(self) -> BoolArray:
        """Whether i reaches j [M, M] under the scenario's settings."""
        return self._now.in_range(*self._planned)

    def describe_missing_link(self) -> str:
        """A description of the link between two islands that lacks the least power, and of all settings
        that would connect all devices."""
        (band_hz, share), has_M = self._planned, self.channel.max_power_w
        gain_MM = np.where(self._apart, self._now.mean_gain, -1.0)
        needed_MM = self._now.required_power_w(IN_RANGE_BYTES, band_hz, share)
        within_MM = self._apart & np.isfinite(needed_MM)
        if within_MM.any():
            best = int(np.argmin(np.where(within_MM, needed_MM, np.inf)))
        else:
            best = int(np.argmax(gain_MM))
        i, j = divmod(best, len(has_M))
        link, has_w = f"the best link between them, {i} -> {j},", float(has_M[i])
        if gain_MM[i, j] <= 0.0:
            return f"{link} has no path at all (gain 0)"

        def in_time(longer: float) -> bool:
            needed = self._now.required_power_w(IN_RANGE_BYTES, band_hz, share * longer)
            return bool(needed[i, j] <= has_w)

        longer = _least_above(1.0, in_time)
        wanted = bits_from_bytes(IN_RANGE_BYTES) / (self.channel.deadline_s * share)
        carries = "nothing" if longer is None else f"{wanted / longer:.3g} bit/s"
        band = "" if math.isinf(band_hz) else f" on {band_hz:g} Hz"
        cures = ", or ".join(self._cures())
        advice = f"to connect all, set {cures}" if cures else NOTHING_HELPS
        return (
            f"{link} carries {carries} with {has_w:.3g} W{band}, and {IN_RANGE_BYTES} bytes within "
            f"channel.deadline_s = {self.channel.deadline_s:g} need {wanted:.3g} bit/s; {advice}"
        )

    def _cures(self) -> list[str]:
        """Every single setting that connects all devices, by its key in the scenario."""
        deadline_s = self.channel.deadline_s
        most_w = float(self.channel.max_power_w.max())
        cures = []

        def by_deadline(value_s: float) -> Setting:
            return Setting(longer=value_s / deadline_s * (1.0 - SAME_DEADLINE))

        def by_power(power_w: float) -> Setting:
            return Setting(power_w=power_w)

        if (value_s := self._enough(deadline_s, by_deadline)) is not None:
            more = self._or_more(by_deadline(value_s))
            cures.append(f"channel.deadline_s to {value_s:.3g}{more}")
        if (other_hz := self._other_band()) is not None:
            narrower = other_hz < self.scheme.bandwidth_hz
            why = "a narrower band has less noise" if narrower else "a wider one carries more"
            cures.append(f"access.bandwidth_hz to {other_hz:g} ({why})")
        if (power_w := self._enough(most_w, by_power)) is not None:
            more, lacks_db = self._or_more(by_power(power_w)), db_from_linear(power_w / most_w)
            keys = _power_keys(self.channel, power_w)
            cures.append(f"{keys} to {power_w:.3g}{more} ({lacks_db:.1f} dB more)")
        return cures

    def _enough(self, present: float, setting_of: Callable[[float], Setting]) -> float | None:
        """A value of three digits, above the present one, that connects all devices; None: there is none.

        The search takes the least value for the present slots, then the least one for the slots that
        this value leads to, and so on, until a value connects all devices with its own slots. Each step
        leaves less time for each device, so the search ends.
        """
        planned, value = self._planned, present
        for _ in range(MOST_NETWORKS):
            enough = functools.partial(self._connected_with, planned, setting_of)
            if (least := _least_above(value, enough)) is None:
                return None
            value = float(_rounded_up(least))
            renewed = self._planned_with(setting_of(value))
            if renewed is None:
                return None
            if self._connected(setting_of(value), renewed):
                return value
            planned = renewed
        return None

    def _other_band(self) -> float | None:
        """The band of the grid nearest to the present one that connects all devices; None: none does."""
        fields = type(self.scheme).model_fields if isinstance(self.scheme, BaseModel) else {}
        present_hz = self.scheme.bandwidth_hz
        if "bandwidth_hz" not in fields or math.isinf(present_hz):
            return None
        for step in range(1, BAND_STEPS + 1):
            for factor in (BAND_STEP**step, BAND_STEP**-step):
                setting = Setting(band_hz=float(f"{present_hz * factor:.2g}"))
                if self._connects(setting):
                    return setting.band_hz
        return None

    def _connects(self, setting: Setting) -> bool:
        """Whether the network under a setting is connected."""
        if not self._connected(setting, (self._band_hz(setting), 1.0)):
            return False  # not even if every device had all the time
        planned = self._planned_with(setting)
        return planned is not None and self._connected(setting, planned)

    def _or_more(self, setting: Setting) -> str:
        """` or more` if devices have as little time under a setting as if all were in range."""
        all_MM = ~np.eye(len(self._apart), dtype=np.bool_)
        least = self._shared_out(all_MM.tobytes(), self._band_hz(setting))
        return " or more" if self._planned_with(setting) == least else ""

    def _connected_with(
        self,
        planned: tuple[float, float],
        setting_of: Callable[[float], Setting],
        value: float,
    ) -> bool:
        return self._connected(setting_of(value), planned)

    def _connected(self, setting: Setting, planned: tuple[float, float]) -> bool:
        """Whether all devices are connected on a band in a share of the time, also when the run begins."""
        return all(
            len(islands(self._near(snapshot, setting, planned))) <= 1 for snapshot in self._moments
        )

    def _near(
        self, snapshot: Snapshot, setting: Setting, planned: tuple[float, float]
    ) -> BoolArray:
        """Whether i reaches j [M, M] on a band in a share of the time."""
        band_hz, share = planned
        needed_MM = snapshot.required_power_w(IN_RANGE_BYTES, band_hz, share * setting.longer)
        has_M: DoubleArray = np.maximum(self.channel.max_power_w, setting.power_w)
        near_MM = np.asarray(needed_MM <= has_M[:, None])
        np.fill_diagonal(near_MM, val=False)
        return near_MM

    def _planned_with(self, setting: Setting) -> tuple[float, float] | None:
        """Band and share of the time under a setting; None where the scheme refuses it."""
        band_hz = self._band_hz(setting)
        return self._shared_out(self._near(self._start, setting, (band_hz, 1.0)).tobytes(), band_hz)

    def _band_hz(self, setting: Setting) -> float:
        return self.scheme.bandwidth_hz if setting.band_hz is None else setting.band_hz

    @functools.cached_property
    def _shared_out(self) -> Callable[[bytes, float], tuple[float, float] | None]:
        """shared_out(in_range_MM as bytes, band_hz): band and share of the time of one neighbour.

        Results are cached, because the assignment of slots takes long.
        """

        @functools.cache
        def shared_out(in_range: bytes, band_hz: float) -> tuple[float, float] | None:
            scheme, devices = self.scheme, len(self.channel.max_power_w)
            if band_hz != scheme.bandwidth_hz and isinstance(scheme, BaseModel):
                scheme = scheme.model_copy(update={"bandwidth_hz": band_hz})
            in_range_MM = np.frombuffer(in_range, dtype=np.bool_).reshape(devices, devices)
            try:
                return scheme.bind(in_range_MM, self.seed).share(1)
            except ScenarioError:
                return None

        return shared_out

    @property
    def _planned(self) -> tuple[float, float]:
        """Band and share of the time under the scenario's settings."""
        return self.access.share(1)

    @functools.cached_property
    def islands(self) -> list[list[int]]:
        """Groups of connected devices, each sorted; a single group if all are connected."""
        return islands(self.near)

    @functools.cached_property
    def _apart(self) -> BoolArray:
        """Whether i and j are on different islands [M, M]."""
        island_M = np.zeros(len(self.near), dtype=np.int64)
        for index, island in enumerate(self.islands):
            island_M[island] = index
        return np.asarray(island_M[:, None] != island_M)

    @functools.cached_property
    def _start(self) -> Snapshot:
        """The network when the scheme is bound."""
        return self.channel.at(0.0)

    @functools.cached_property
    def _now(self) -> Snapshot:
        """The network at time_s."""
        return self._start if self.time_s == 0.0 else self.channel.at(self.time_s)

    @property
    def _moments(self) -> Sequence[Snapshot]:
        """The moments at which a setting must connect all devices."""
        return [self._now] if self._now is self._start else [self._now, self._start]


def require_connected(reach: Reach) -> BoolArray:
    """Whether i reaches j [M, M]. Raises ScenarioError unless all devices are connected."""
    if len(reach.islands) > 1:
        named = "; ".join(map(str, reach.islands))
        raise ScenarioError(
            [
                f"channel: got {len(reach.islands)} islands of devices out of each other's range ({named}), "
                f"wanted a connected network; {reach.describe_missing_link()}"
            ]
        )
    return reach.near


def _power_keys(channel: BoundChannel, power_w: float) -> str:
    """The scenario keys to raise so that every device has a power [W], if the channel names them."""
    power_keys: Callable[[float], Sequence[str]] | None = getattr(channel, "power_keys", None)
    return " and ".join(power_keys(power_w)) if power_keys else "the power of each device"


def _least_above(value: float, enough: Callable[[float], bool]) -> float | None:
    """The least value above `value` that is enough, to a thousandth; None: there is none."""
    high = next((v for k in range(MOST_DOUBLINGS) if enough(v := value * 2.0**k)), None)
    if high is None:
        return None
    low = high / 2.0
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _rounded_up(value: float) -> str:
    """The value in three digits, rounded up."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / unit) * unit:.3g}"
