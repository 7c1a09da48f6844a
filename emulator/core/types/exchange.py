"""What an exchange of values in a round gives a method. Shapes: N coordinates of the trained vector."""

from dataclasses import dataclass

from emulator.core.types.arrays import FloatArray
from emulator.core.types.message import Received


@dataclass(frozen=True, eq=False)
class Shared:
    """Own and received values of one exchange.

    own_N: the own values as every receiver gets them, rounded to the type of the wire [N] float32.
    received: the newest message of each sender, in order of sender, completed as `wire.lost_coordinates`
    says; empty where no message arrived.
    """

    own_N: FloatArray
    received: list[Received]
