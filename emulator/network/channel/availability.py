"""When devices are there at all."""

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from emulator.core.errors import ScenarioError


class Offline(BaseModel):
    """A device neither sends nor receives from one emulated time to another.

    What would start in that time waits until both ends are back, a broadcast until all its receivers
    are; a transfer that has started goes on. The deadline does not wait.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    device: int = Field(ge=0, description="Who is away.")
    from_s: FiniteFloat = Field(ge=0, description="Emulated time of leaving [s].")
    to_s: FiniteFloat = Field(gt=0, description="Emulated time of coming back [s].")

    @model_validator(mode="after")
    def _comes_back_later(self) -> Self:
        if self.to_s <= self.from_s:
            raise ValueError(f"to_s: got {self.to_s:g}, wanted more than from_s = {self.from_s:g}")
        return self


def earliest_presence_s(offline: Sequence[Offline], devices: Sequence[int], time_s: float) -> float:
    """The earliest time from time_s on at which none of the devices is away [s]."""
    away = sorted((o.from_s, o.to_s) for o in offline if o.device in devices)
    for from_s, to_s in away:
        if from_s <= time_s:
            time_s = max(time_s, to_s)
    return time_s


def check_presence(offline: Sequence[Offline], devices: int) -> None:
    """Raises ScenarioError for somebody who is no device."""
    strangers = sorted({o.device for o in offline if o.device >= devices})
    if strangers:
        raise ScenarioError(
            [f"channel.offline: got devices {strangers}, wanted some of 0 ... {devices - 1}"]
        )
