"""The emulator's own command line, watched at two doors: torch.distributed's, and the kernel's sockets.

    observed_rank.py FOLDER run SCENARIO ...

counts every message given to torch.distributed, reads what the kernel has counted when all devices are
done and nothing is on its way any more, before the connections close, and writes it to
FOLDER/RANK.json. The product knows nothing of it.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "support"))

from network import INTERFACE
from processes import LIMIT_S
from sockets import connections, interface_counters, listening_ports, tcp_counters

from emulator import __main__ as command_line  # before torch: it sets the number of threads

import torch.distributed as dist  # isort: skip


class Observer:
    """Counts the calls of torch.distributed by tag and peer."""

    def __init__(self, folder: Path, rank: int, world_size: int) -> None:
        self._folder = folder
        self._rank = rank
        self._world_size = world_size
        self._counts = {name: Counter() for name in ("messages", "bytes", "receives")}
        self._really: dict[str, Callable[..., Any]] = {}

    def install(self) -> None:
        """Replace what every transfer ends in, isend and irecv too, and how a process leaves."""
        for name in ("send", "recv"):
            self._really[name] = getattr(dist.ProcessGroup, name)
        self._really["destroy_process_group"] = dist.destroy_process_group
        dist.ProcessGroup.send = lambda group, *order: self.send(group, *order)
        dist.ProcessGroup.recv = lambda group, *order: self.recv(group, *order)
        dist.destroy_process_group = self.destroy_process_group

    def send(self, group: Any, tensors: Any, peer: int, tag: int) -> Any:
        """Count a message, then send it."""
        self._counts["messages"][f"{tag}/{peer}"] += 1
        num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        self._counts["bytes"][f"{tag}/{peer}"] += num_bytes
        return self._really["send"](group, tensors, peer, tag)

    def recv(self, group: Any, tensors: Any, peer: int, tag: int) -> Any:
        """Count a receive, then post it."""
        self._counts["receives"][f"{tag}/{peer}"] += 1
        return self._really["recv"](group, tensors, peer, tag)

    def destroy_process_group(self) -> None:
        """Look at the sockets when all is quiet, then let them close."""
        self._await_all("done")
        deadline_s = time.monotonic() + LIMIT_S
        while any(each.unacknowledged for each in connections()) and time.monotonic() < deadline_s:
            time.sleep(0.005)
        self._await_all("quiet")
        counted = {
            **self._counts,
            "interface": interface_counters(INTERFACE),
            "tcp": tcp_counters(),
            "connections": [each._asdict() for each in connections()],
            "listening": listening_ports(),
        }
        (self._folder / f"{self._rank}.json").write_text(json.dumps(counted, indent=1))
        self._await_all("read")
        self._really["destroy_process_group"]()

    def _await_all(self, what: str) -> None:
        """Wait until all devices are as far, over files: no byte of it is on the network."""
        (self._folder / f"{what}-{self._rank}").touch()
        marks = [self._folder / f"{what}-{rank}" for rank in range(self._world_size)]
        deadline_s = time.monotonic() + LIMIT_S
        while not all(mark.exists() for mark in marks):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"not all devices are {what} after {LIMIT_S:g} s")
            time.sleep(0.005)


if __name__ == "__main__":
    environment = os.environ
    observer = Observer(Path(sys.argv[1]), int(environment["RANK"]), int(environment["WORLD_SIZE"]))
    observer.install()
    sys.argv[1:] = sys.argv[2:]
    command_line.main()
