"""Constants and progress of a device."""

from collections.abc import Mapping
from dataclasses import dataclass

from emulator.core.types.data import Shard
from emulator.core.types.records import SETUP_ROUND


@dataclass(frozen=True)
class DeviceInfo:
    """Constants of a device and its run.

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
    """Progress of a device, and its costs so far; methods only read it.

    round_index: SETUP_ROUND before the rounds, between them and after them. rounds: number of rounds of
    the run; when a limit of `stop` is reached, the present round becomes the last. now_s: the device's
    emulated clock [s]. The other members are sums since the start.
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
        """Begin the next round and return its index."""
        self.round_index = self.rounds_begun
        self.rounds_begun += 1
        return self.round_index

    def state(self) -> dict[str, float]:
        """All members."""
        return dict(vars(self))

    def restore(self, state: Mapping[str, float]) -> None:
        """Overwrite all members from a state."""
        vars(self).update(state)
