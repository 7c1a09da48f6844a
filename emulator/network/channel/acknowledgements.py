"""Acknowledgements: which packets have them, and what they cost.

Every packet that may be repeated is acknowledged. After each round of tries every receiver says with
one bit for each of these packets what it has; who lacks something gets it in the next round. An
acknowledgement goes back over the same link: at the power of the data, in their band and in the
sender's time, and at the rate at which the last of them was sent (the link is reciprocal). Several
receivers answer one after the other. Acknowledgements are never lost.

Before each repetition the sender waits for a round trip. These waits are added up after the tries, so
the tries meet the fades that they would meet without them; the last acknowledgement is not waited for.
Shapes: P packets of a transfer.
"""

from dataclasses import dataclass

import numpy as np

from emulator.core.types.arrays import BoolArray, IndexArray
from emulator.core.types.packet import ack_bytes
from emulator.core.types.transmission import Acks, Grant
from emulator.core.units import bits_from_bytes
from emulator.network.channel.energy import transmit_energy_j


@dataclass(frozen=True, eq=False)
class Acking:
    """How a grant is acknowledged. acked_P: the packets that are; turnaround_s: None where it is free."""

    grant: Grant
    acked_P: BoolArray
    turnaround_s: float | None = None
    circuit_power_w: float = 0.0

    def round_trips_s(self, attempts_P: IndexArray, bit_per_s: float) -> float:
        """How long the sender waits for acknowledgements before it repeats something [s]."""
        if self.turnaround_s is None:
            return 0.0
        repetitions = max(self._rounds(attempts_P) - 1, 0)
        answers_s = len(self.grant.receivers) * self._airtime_s(bit_per_s)
        return repetitions * (2.0 * self.turnaround_s + answers_s)

    def acks(self, attempts_P: IndexArray, bit_per_s: float) -> Acks:
        """What one receiver sends."""
        rounds, packets = self._rounds(attempts_P), int(self.acked_P.sum())
        airtime_s = 0.0 if self.turnaround_s is None else rounds * self._airtime_s(bit_per_s)
        energy_j = transmit_energy_j(self.grant.tx_power_w, self.circuit_power_w, airtime_s)
        return Acks(packets, rounds * ack_bytes(packets), airtime_s, energy_j)

    def _rounds(self, attempts_P: IndexArray) -> int:
        """Most tries of a packet that is acknowledged; 0 where there was none."""
        return int(np.max(attempts_P[self.acked_P], initial=0))

    def _airtime_s(self, bit_per_s: float) -> float:
        """Of one acknowledgement [s]; 0 where no bit was sent, so that nothing is acknowledged."""
        bits = bits_from_bytes(ack_bytes(int(self.acked_P.sum())))
        return bits / bit_per_s if bit_per_s > 0.0 else 0.0
