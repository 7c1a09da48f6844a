"""The address of the store, the timeouts of waits for peers, and the errors that name a lost peer."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from emulator.core.errors import DeviceFailedError, EmulatorError


@dataclass(frozen=True)
class Address:
    """The address of a run's store; `prefix` separates the attempts of a launcher at one store."""

    host: str
    port: int
    prefix: str = "emulator"


@dataclass(frozen=True)
class Timeouts:
    """The longest waits for the store and for peers."""

    connect_timeout_s: float = 300.0
    """Until the store can be reached [s]."""
    stall_timeout_s: float = 1800.0
    """For a peer that sends nothing [s]; it must be longer than the longest local training."""


class PeerFailedError(DeviceFailedError):
    """This device has lost another device, `peer`."""

    def __init__(self, peer: int, text: str) -> None:
        self.peer = peer
        super().__init__(text)


def silent_peer_error(
    device: int, peer: int, where: str, stall_timeout_s: float
) -> PeerFailedError:
    """The error for a peer that has sent nothing for stall_timeout_s."""
    return PeerFailedError(
        peer,
        f"{where}: device {device} received nothing from device {peer} "
        f"for {stall_timeout_s:g} s (stall_timeout_s)",
    )


class PeerErrorContext:
    """Replaces an error of torch.distributed in an operation with a peer by PeerFailedError.

    It is entered around every frame, so it is a plain context manager, cheaper than a generator.
    """

    def __init__(
        self,
        device: int,
        peer: int,
        where: str,
        stall_timeout_s: float,
        verdict: Callable[[], EmulatorError | None],
    ) -> None:
        """verdict: returns the known cause of the failure, if any; it is raised instead."""
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
