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
    the run; when a limit of `stop` is reached, the present round becomes the last (stopped). now_s: the device's
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
    stopped: bool = False

    def begin_round(self) -> int:
        """Begin the next round and return its index."""
        self.round_index = self.rounds_begun
        self.rounds_begun += 1
        return self.round_index

    def stop(self) -> None:
        """Make the present round the last one."""
        self.rounds, self.stopped = self.round_index + 1, True

    def state(self) -> dict[str, float]:
        """All members but `rounds`, which the scenario states."""
        return {name: value for name, value in vars(self).items() if name != "rounds"}

    def restore(self, state: Mapping[str, float]) -> None:
        """Overwrite all members of a state; where a limit ended the rounds before, none follows."""
        vars(self).update(state)
        if self.stopped:
            self.rounds = self.rounds_begun
