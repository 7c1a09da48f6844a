"""Acknowledgements: which packets have them, and what they cost.

Every packet that may be repeated is acknowledged. After each round of tries every receiver reports with
one bit for each of these packets whether it has it; missing packets are sent again in the next round. An
acknowledgement is sent over the same link: with the power and in the band of the data, in the sender's
time, and at the rate of the last data bit (the link is reciprocal). Several receivers answer one after
the other. Acknowledgements are never lost.

Before each repetition the sender waits for a round trip. The waits are added after all tries, so the
tries meet the same fading blocks as without waits. The sender does not wait for the last acknowledgement.
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
    """The acknowledgements of a grant. acked_P: which packets are acknowledged; turnaround_s: None if
    acknowledgements cost no time and no energy."""

    grant: Grant
    acked_P: BoolArray
    turnaround_s: float | None = None
    circuit_power_w: float = 0.0

    def round_trips_s(self, attempts_P: IndexArray, bit_per_s: float) -> float:
        """How long the sender waits for acknowledgements before its repetitions [s]."""
        if self.turnaround_s is None:
            return 0.0
        repetitions = max(self._rounds(attempts_P) - 1, 0)
        answers_s = len(self.grant.receivers) * self._airtime_s(bit_per_s)
        return repetitions * (2.0 * self.turnaround_s + answers_s)

    def acks(self, attempts_P: IndexArray, bit_per_s: float) -> Acks:
        """All acknowledgements of one receiver."""
        rounds, packets = self._rounds(attempts_P), int(self.acked_P.sum())
        airtime_s = 0.0 if self.turnaround_s is None else rounds * self._airtime_s(bit_per_s)
        energy_j = transmit_energy_j(self.grant.tx_power_w, self.circuit_power_w, airtime_s)
        return Acks(packets, rounds * ack_bytes(packets), airtime_s, energy_j)

    def _rounds(self, attempts_P: IndexArray) -> int:
        """Largest number of tries of an acknowledged packet; 0 if there is none."""
        return int(np.max(attempts_P[self.acked_P], initial=0))

    def _airtime_s(self, bit_per_s: float) -> float:
        """Airtime of one acknowledgement [s]; 0 if no bit was sent, so that nothing is acknowledged."""
        bits = bits_from_bytes(ack_bytes(int(self.acked_P.sum())))
        return bits / bit_per_s if bit_per_s > 0.0 else 0.0
