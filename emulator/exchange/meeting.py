"""Where devices meet, how long they wait for one another, and how a missing one is named."""

from dataclasses import dataclass

from emulator.errors import DeviceFailedError


@dataclass(frozen=True)
class Address:
    """Where the store of a run listens; `prefix` keeps attempts at one store apart."""

    host: str
    port: int
    prefix: str = "emulator"


@dataclass(frozen=True)
class Patience:
    """How long to wait for others."""

    connect_timeout_s: float = 300.0
    """For the store to be reachable."""
    stall_timeout_s: float = 1800.0
    """For a silent peer; longer than the longest local training."""


class PeerFailedError(DeviceFailedError):
    """Another device is gone, as seen from this one."""

    def __init__(self, peer: int, text: str) -> None:
        self.peer = peer
        super().__init__(text)


def lost(device: int, peer: int, where: str, cause: str) -> PeerFailedError:
    """The connection to a peer broke."""
    return PeerFailedError(peer, f"{where}: device {device} lost device {peer} ({cause})")


def silent(device: int, peer: int, where: str, stall_timeout_s: float) -> PeerFailedError:
    """A peer said nothing for too long."""
    return PeerFailedError(
        peer,
        f"{where}: device {device} heard nothing from device {peer} "
        f"for {stall_timeout_s:g} s (stall_timeout_s)",
    )
