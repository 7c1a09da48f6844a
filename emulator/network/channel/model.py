"""The wireless channel as a scenario describes it: one object of each component.

`bind(devices, seed)` places the devices and returns the channel of one run (`wireless_channel.py`).
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from emulator.network.channel.availability import Offline, check_presence
from emulator.network.channel.consistency import find_contradictions, find_doubts, spread_carrier
from emulator.network.channel.energy import LeastPower, Power
from emulator.network.channel.fading import Fading, RayleighFading
from emulator.network.channel.gains import FileGain
from emulator.network.channel.geometry import Geometry
from emulator.network.channel.line_of_sight import AlwaysLineOfSight, LineOfSight
from emulator.network.channel.losses import Losses, Lossless
from emulator.network.channel.mobility import Mobility, Static
from emulator.network.channel.pathloss import PathLoss, PowerLawPathLoss
from emulator.network.channel.placement import DiscPlacement, Placement
from emulator.network.channel.rates import Rate, ShannonRate
from emulator.network.channel.shadowing import NoShadowing, Shadowing
from emulator.network.channel.signal import Gains
from emulator.network.channel.wireless_channel import WirelessChannel


class Wireless(BaseModel):
    """Geometry, fading, noise, a rate law, losses and a power policy. Defaults are those of the paper.

    One default differs: the blocks of the fading follow emulated time (the preset `paper` draws per
    exchange).

    Source: arXiv 2602.20492, system model and simulation setup.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["wireless"] = "wireless"
    fc_ghz: FiniteFloat | None = Field(
        default=None,
        gt=0,
        description="Carrier frequency [GHz] of every part that needs one and states none.",
    )
    placement: Placement = Field(
        default_factory=DiscPlacement, description="Positions of the devices."
    )
    mobility: Mobility = Field(default_factory=Static, description="How the devices move.")
    path_loss: PathLoss = Field(
        default_factory=PowerLawPathLoss, description="Mean gain over distance."
    )
    line_of_sight: LineOfSight = Field(
        default_factory=AlwaysLineOfSight, description="Which pairs have line of sight."
    )
    shadowing: Shadowing = Field(default_factory=NoShadowing, description="Large-scale fading.")
    gain: FileGain | None = Field(
        default=None, description="Mean gains from a file instead of the geometry; none if absent."
    )
    fading: Fading = Field(default_factory=RayleighFading, description="Small-scale fading.")
    rate: Rate = Field(default_factory=ShannonRate, description="Bits per second over SNR.")
    losses: Losses = Field(default_factory=Lossless, description="Packet losses.")
    power: Power = Field(default_factory=LeastPower, description="Transmit power policy.")
    max_power_w: FiniteFloat = Field(
        default=0.2, gt=0, description="p_max: transmit power limit of a device [W]."
    )
    circuit_power_w: FiniteFloat = Field(
        default=0.0,
        ge=0,
        description="Power of the transmitter's circuits during transmission [W].",
    )
    noise_figure_db: FiniteFloat = Field(
        default=0.0, ge=0, description="Receiver noise figure over -174 dBm/Hz [dB]."
    )
    interference_w: FiniteFloat = Field(
        default=0.0,
        ge=0,
        description="Power from outside the network in the band of each link, however narrow [W].",
    )
    offline: tuple[Offline, ...] = Field(
        default=(), description="When devices are offline; transfers wait for both ends."
    )
    deadline_s: FiniteFloat = Field(
        default=1.0, gt=0, description="Γ: time a transfer may take, from its start [s]."
    )
    late: Literal["wait", "lose"] = Field(
        default="wait",
        description="Whether unreliable packets arrive late after the deadline (wait), or are lost.",
    )
    max_wait_s: FiniteFloat | None = Field(
        default=60.0,
        gt=0,
        description="How long a transfer waits without interruption for a rate above 0 in the sender's "
        "own time [s]; then its unreliable packets are lost, and the run ends if reliable ones are left. "
        "null: without limit.",
    )
    arq_max_tries: int = Field(
        default=1, ge=1, le=1000, description="Tries of an unreliable packet before it is lost."
    )
    acks: Literal["charged", "free"] = Field(
        default="charged",
        description="Whether acknowledgements cost airtime, energy and a round trip for each "
        "repetition, or bytes only.",
    )
    ack_turnaround_s: FiniteFloat = Field(
        default=0.001,
        ge=0,
        description="Time from the end of a reception to the start of its acknowledgement [s]: 16 µs in "
        "Wi-Fi (SIFS), two or three slots in NR sidelink.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_carrier(cls, data: Any) -> Any:
        return spread_carrier(data)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Raise one ValueError that names all settings that contradict each other."""
        problems = find_contradictions(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def needs_band(self) -> bool:
        """Whether rate or losses depend on the noise of the band, which must then be finite."""
        return self.rate.kind in ("shannon", "nr_cqi") or self.losses.kind in ("outage", "logistic")

    def doubts(self, bandwidth_hz: float) -> list[str]:
        """Notes on parts that do not fit together, one line each. bandwidth_hz: the band of one sender."""
        return find_doubts(self, bandwidth_hz)

    def bind(self, devices: int, seed: int) -> "WirelessChannel":
        """The channel of one run: positions and mean gains depend on (devices, seed, time) only."""
        check_presence(self.offline, devices)
        trajectories = self.mobility.bind(self.placement, devices, seed)
        gains: Gains
        if self.gain is not None:
            gains = self.gain.bind(devices)
        else:
            line_of_sight = self.line_of_sight.bind(seed)
            shadows = self.shadowing.bind(self.path_loss, seed)
            gains = Geometry(trajectories, line_of_sight, self.path_loss, shadows)
        return WirelessChannel(self, seed, trajectories, gains, gains.mean_gain(0.0))
