"""Where devices meet, how long they wait for one another, and how a missing one is named."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from emulator.core.errors import DeviceFailedError, EmulatorError


@dataclass(frozen=True)
class Address:
    """Where the store of a run listens; `prefix` keeps attempts at one store apart."""

    host: str
    port: int
    prefix: str = "emulator"


@dataclass(frozen=True)
class Timeouts:
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


def silent_peer_error(
    device: int, peer: int, where: str, stall_timeout_s: float
) -> PeerFailedError:
    """A peer said nothing for too long."""
    return PeerFailedError(
        peer,
        f"{where}: device {device} heard nothing from device {peer} "
        f"for {stall_timeout_s:g} s (stall_timeout_s)",
    )


class PeerErrorContext:
    """What torch.distributed says of operations with a peer, in our words: PeerFailedError, naming it.

    A context manager, entered around every frame, so it is no generator.
    """

    def __init__(
        self,
        device: int,
        peer: int,
        where: str,
        stall_timeout_s: float,
        verdict: Callable[[], EmulatorError | None],
    ) -> None:
        """verdict: what is known already of why it fails; it goes before all guesses."""
        self._device = device
        self._peer = peer
        self._where = where
        self._stall_timeout_s = stall_timeout_s
        self._verdict = verdict
        self._began_s = 0.0

    def __enter__(self) -> None:
        self._began_s = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not isinstance(error, RuntimeError):
            return
        if (verdict := self._verdict()) is not None:
            raise verdict from None
        if time.monotonic() - self._began_s >= 0.9 * self._stall_timeout_s:
            raise silent_peer_error(
                self._device, self._peer, self._where, self._stall_timeout_s
            ) from None
        cause = str(error).split("] ", 1)[-1].split(" [", 1)[0]
        raise PeerFailedError(
            self._peer, f"{self._where}: device {self._device} lost device {self._peer} ({cause})"
        ) from None
