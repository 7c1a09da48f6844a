"""The metrics of one device, in the order in which they were measured."""

from collections.abc import Callable, Sequence

from emulator.core.types.arrays import DoubleArray
from emulator.core.types.records import SETUP_ROUND, MetricRecord


class MetricLog:
    """Records of one device; `take` returns the records since its last call."""

    def __init__(self, device_id: int, module_names: Callable[[], Sequence[str]]) -> None:
        """module_names: returns the names of the adapted modules, once the backbone is adapted."""
        self._device_id = device_id
        self._module_names = module_names
        self._records: list[MetricRecord] = []

    def metric(self, name: str, value: float, round_index: int, task: str = "") -> None:
        """Record one value."""
        self._records.append(MetricRecord(self._device_id, round_index, task, name, value))

    def per_module(self, name: str, values_L: DoubleArray) -> None:
        """Record one value of the setup for each adapted module, as NAME/MODULE."""
        for module, value in zip(self._module_names(), values_L, strict=True):
            self.metric(f"{name}/{module}", float(value), SETUP_ROUND)

    def take(self) -> tuple[MetricRecord, ...]:
        """Return all records since the last call, and forget them."""
        records, self._records = tuple(self._records), []
        return records
