"""Who is on the air when, and on which band. Pure: same requests, same grants; powers stay 0."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from emulator.state import Grant, Request


class IdealAccess(BaseModel):
    """Everybody at once on a band without end: nobody waits, nobody shares."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["ideal"] = "ideal"

    @property
    def bandwidth_hz(self) -> float:
        """The band of one sender [Hz]."""
        return math.inf

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """Every request at once, in the order given."""
        return tuple(_grant(request, math.inf) for request in requests)


class OfdmaAccess(BaseModel):
    """Each sender has a band W of its own and splits it equally: W/u for each of u requests.

    The bands of different senders are orthogonal and a device hears all of them while it speaks
    (full duplex), so nobody waits and nobody interferes. Requests of one sender in one exchange
    share its band; a request with several receivers counts once.
    Source: arXiv 2602.20492, system model (W/‖u_i‖ for each neighbour).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["ofdma"] = "ofdma"
    bandwidth_hz: FiniteFloat = Field(gt=0, description="W: the band of each sender [Hz].")

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """One grant for each request, in the order given."""
        sharing = Counter((request.sender, request.exchange_index) for request in requests)
        return tuple(
            _grant(request, self.bandwidth_hz / sharing[request.sender, request.exchange_index])
            for request in requests
        )


def occupied_hz_s(bandwidth_hz: float, airtime_s: float) -> float:
    """Spectrum used: bandwidth times airtime [Hz·s]. The endless band of `ideal` counts as none."""
    return bandwidth_hz * airtime_s if math.isfinite(bandwidth_hz) else 0.0


def _grant(request: Request, bandwidth_hz: float) -> Grant:
    """The air from the moment a request is ready, without interference."""
    return Grant(
        sender=request.sender,
        receivers=request.receivers,
        start_s=request.ready_s,
        bandwidth_hz=bandwidth_hz,
        tx_power_w=0.0,
        interference_w=0.0,
        exchange_index=request.exchange_index,
    )
