"""Data between GPUs by NCCL: all transfers of a device in an exchange form one batch.

The two transfers of a pair would block each other unless they start together, and both ends must know
the length of a transfer. So the headers travel first, over gloo, and then all data at once.
"""

from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

from emulator.core.errors import DeviceFailedError, ScenarioError
from emulator.core.types.transmission import Burst
from emulator.runtime.transport.frames import Header, view_bytes

BACKEND, PLACE = "nccl", "cuda"


class GpuTransfers:
    """Transfers between the GPUs of all devices, one GPU per device."""

    def __init__(self, device: int, devices: int, timeout_s: float) -> None:
        """Connect the GPUs; all devices call it at the same time, after each has chosen its GPU.

        Raises ScenarioError where torch has no NCCL, DeviceFailedError when a GPU is not reached.
        """
        if not dist.is_backend_available(BACKEND):
            raise ScenarioError(["backend: got nccl, wanted gloo here: this torch has no NCCL"])
        self._device = device
        try:
            self._group = dist.new_group(
                range(devices), backend=BACKEND, timeout=timedelta(seconds=timeout_s)
            )
            # The first operation of a group needs all of its members.
            dist.all_reduce(torch.zeros(1, device=PLACE), group=self._group)
        except RuntimeError as error:
            raise self._failed("the start", error) from None

    def exchange(
        self, bursts: Sequence[Burst], headers: Sequence[Header], where: str
    ) -> list[Burst]:
        """Send the data of every burst and return the bursts that the headers announce."""
        incoming = [torch.empty(each.length, dtype=torch.uint8, device=PLACE) for each in headers]
        transfers = [
            dist.P2POp(dist.isend, view_bytes(burst.data).to(PLACE), burst.receiver, self._group)
            for burst in bursts
            if burst.data
        ] + [
            dist.P2POp(dist.irecv, data, header.sender, self._group)
            for header, data in zip(headers, incoming, strict=True)
            if header.length
        ]
        try:
            for work in dist.batch_isend_irecv(transfers) if transfers else ():
                work.wait()
            arrived = [data.cpu().numpy().tobytes() for data in incoming]
        except RuntimeError as error:
            raise self._failed(where, error) from None
        return [
            Burst(head.sender, head.receiver, head.exchange_index, head.arrival_s, data)
            for head, data in zip(headers, arrived, strict=True)
        ]

    def _failed(self, where: str, error: RuntimeError) -> DeviceFailedError:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        return DeviceFailedError(
            f"{where}: device {self._device} could not exchange between GPUs: {cause}"
        )
