"""The result of an exchange of values in a round. Shapes: N coordinates of the trained vector."""

from dataclasses import dataclass

from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Received


@dataclass(frozen=True, eq=False)
class Shared:
    """Own and received values of one exchange.

    own_N: the device's own values as every receiver gets them, rounded to the type in which they are
    sent [N] float32. received: the newest message of each sender, sorted by sender, its lost coordinates
    completed under the policy `wire.lost_coordinates`; empty if no message arrived.
    """

    own_N: FloatArray
    received: list[Received]
