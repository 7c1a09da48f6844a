"""What a device is, and how far it is."""

from collections.abc import Mapping
from dataclasses import dataclass

from emulator.core.types.data import Shard
from emulator.core.types.records import SETUP_ROUND


@dataclass(frozen=True)
class DeviceInfo:
    """What a device knows of itself and of the run from the start; it never changes.

    id: 0 ... devices - 1. task_names: all tasks of the run. shard: the device's own task and training
    examples. round_steps: local steps of a round. max_power_w: its transmit power limit [W].
    """

    id: int
    devices: int
    seed: int
    task_names: tuple[str, ...]
    shard: Shard
    round_steps: int
    max_power_w: float


@dataclass
class DeviceProgress:
    """How far a device is, and what it has spent so far; methods only read it.

    round_index: SETUP_ROUND before the rounds, between them and after them. rounds: rounds of the run;
    once a limit of `stop` is reached, those up to the present one. now_s: the device's emulated clock
    [s]. The other members are sums since the start.
    """

    rounds: int
    round_index: int = SETUP_ROUND
    rounds_begun: int = 0
    now_s: float = 0.0
    compute_energy_j: float = 0.0
    train_cpu_s: float = 0.0
    sent_bytes: int = 0
    transmit_energy_j: float = 0.0

    def begin_round(self) -> int:
        """Begin the next round; returns its index."""
        self.round_index = self.rounds_begun
        self.rounds_begun += 1
        return self.round_index

    def state(self) -> dict[str, float]:
        """All members."""
        return dict(vars(self))

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a state."""
        vars(self).update(state)
