"""When a run ends before its last round: all devices find out together that a limit is reached."""

import math
import struct
from collections.abc import Generator

from emulator.core.protocols.method import Own
from emulator.core.types.message import Traffic
from emulator.core.types.steps import Inbox, Step
from emulator.scenario.sections import Stop

SPENT = struct.Struct("<Qdd")
"""Bytes sent, clock [s], energy [J]: what `stop` is judged by."""


def limit_reached(
    own: Own, stop: Stop, sent_bytes: int, energy_j: float
) -> Generator[Step, Inbox, bool]:
    """Tell everybody what was spent; every device comes to the same answer."""
    told = yield from own.introduce(SPENT.pack(sent_bytes, own.now_s, energy_j), Traffic.CONTROL)
    spent = [SPENT.unpack(told[device]) for device in range(own.devices)]
    bytes_M, clocks_M, energies_M = zip(*spent, strict=True)
    return stop.reached(sum(bytes_M), max(clocks_M), math.fsum(energies_M))
