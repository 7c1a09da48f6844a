"""The postings of a child process to its parent over a pipe: JSON headers and raw bytes, no pickle.

One posting is one message of the connection: the header in one line, then the bytes.
"""

import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

from emulator.core.errors import (
    DeviceFailedError,
    EmulatorError,
    LifeFailedError,
    ProtocolError,
    ScenarioError,
)
from emulator.core.failures import cause_of, life_failure
from emulator.runtime.transport.peers import PeerFailedError

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]

NO_ROUND = -1
"""The round of a device that has not finished one."""


@dataclass(frozen=True)
class Failure:
    """Why a child process failed. `peer`: the device that it has lost, None for another cause."""

    kind: str
    text: str
    peer: int | None = None
    trace: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """The failure that an exception describes, with its traceback."""
        trace = "".join(traceback.format_exception(error))
        if isinstance(error, PeerFailedError):
            return cls("peer", str(error), error.peer, trace)
        if isinstance(error, ScenarioError):
            return cls("scenario", str(error), None, trace)
        if isinstance(error, ProtocolError):
            return cls("protocol", str(error), None, trace)
        if isinstance(error, LifeFailedError):
            return cls("life", str(error), None, trace)
        return cls("failed", cause_of(error), None, trace)

    def to_error(self, device: int, round_index: int) -> EmulatorError:
        """Return an exception of one line for the parent; the child's traceback is a note to it."""
        error: EmulatorError
        if self.kind == "scenario":
            error = ScenarioError(self.text.splitlines())
        elif self.kind == "protocol":
            error = ProtocolError(self.text)
        elif self.kind == "life":
            error = LifeFailedError(self.text)
        else:
            error = life_failure(
                device, None if round_index == NO_ROUND else round_index, self.text
            )
        if self.trace:
            error.add_note(f"In the process of device {device}:\n{self.trace}")
        return error


@dataclass(frozen=True)
class PostedMessage:
    """A header and bytes that a device posted, and its round."""

    round_index: int
    header: Mapping[str, Json]
    blob: bytes


@dataclass(frozen=True)
class Done:
    """A child process has succeeded."""


class Outlet:
    """The child's end of the pipe. A write blocks while the parent is busy."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def post_message(self, round_index: int, header: Mapping[str, Json], blob: bytes) -> None:
        """Post a header and bytes, with the device's round."""
        self._post({"message": dict(header), "round": round_index}, blob)

    def post_done(self) -> None:
        """Post that the child has succeeded."""
        self._post({"done": True}, b"")

    def post_failure(self, failure: Failure) -> None:
        """Post why the child has failed."""
        fields: dict[str, Json] = {
            "kind": failure.kind,
            "text": failure.text,
            "peer": failure.peer,
            "trace": failure.trace,
        }
        self._post({"failed": fields}, b"")

    def _post(self, envelope: dict[str, Json], blob: bytes) -> None:
        self._connection.send_bytes(b"\n".join((json.dumps(envelope).encode(), blob)))


def parse_posting(posting: bytes) -> PostedMessage | Done | Failure:
    """Parse one posting. Raises DeviceFailedError for an unknown header."""
    head, _, blob = posting.partition(b"\n")
    envelope: Mapping[str, Json] = json.loads(head)
    match envelope:
        case {"message": dict(header), "round": int(round_index)}:
            return PostedMessage(round_index, header, blob)
        case {"done": True}:
            return Done()
        case {"failed": {"kind": str(kind), "text": str(text), "peer": peer, "trace": str(trace)}}:
            return Failure(kind, text, peer if isinstance(peer, int) else None, trace)
    raise DeviceFailedError(f"a device posted {sorted(envelope)}, wanted message, done or failed")
