"""Times at which devices are offline."""

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from emulator.core.errors import ScenarioError


class Offline(BaseModel):
    """A span of emulated time in which a device neither sends nor receives.

    A transfer that would start in the span waits until both ends are back, and a broadcast until all
    its receivers are; a transfer that has started continues. The deadline does not wait.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    device: int = Field(ge=0, description="The device that is offline.")
    from_s: FiniteFloat = Field(ge=0, description="Emulated time at which it goes offline [s].")
    to_s: FiniteFloat = Field(gt=0, description="Emulated time at which it is back [s].")

    @model_validator(mode="after")
    def _comes_back_later(self) -> Self:
        if self.to_s <= self.from_s:
            raise ValueError(f"to_s: got {self.to_s:g}, wanted more than from_s = {self.from_s:g}")
        return self


def earliest_presence_s(offline: Sequence[Offline], devices: Sequence[int], time_s: float) -> float:
    """The earliest time from time_s on at which none of the devices is offline [s]."""
    away = sorted((o.from_s, o.to_s) for o in offline if o.device in devices)
    for from_s, to_s in away:
        if from_s <= time_s:
            time_s = max(time_s, to_s)
    return time_s


def check_presence(offline: Sequence[Offline], devices: int) -> None:
    """Raise ScenarioError for an unknown device."""
    unknown = sorted({o.device for o in offline if o.device >= devices})
    if unknown:
        raise ScenarioError(
            [f"channel.offline: got devices {unknown}, wanted some of 0 ... {devices - 1}"]
        )
