"""The environment variables of a launcher: rank, number of processes, and the rendezvous address.

torchrun, srun, Kubernetes and compose all set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; only this
file reads them. It does not import torch, so that an error is reported before anything is loaded.
"""

import os

from emulator.core.errors import ScenarioError
from emulator.runtime.transport.peers import Address


def read_launcher_world() -> tuple[int, int] | None:
    """Read (process_rank, world_size) as a launcher set them; None when there is no launcher.

    Raises ScenarioError when only one is set or a value is out of range.
    """
    rank, world = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None and world is None:
        return None
    process_rank, world_size = _read_number("RANK"), _read_number("WORLD_SIZE")
    if not 0 <= process_rank < world_size:
        raise ScenarioError(
            [f"RANK: got {process_rank}, wanted 0 <= RANK < WORLD_SIZE = {world_size}"]
        )
    return process_rank, world_size


def find_local_devices(
    place: tuple[int, int] | None, devices: int, devices_per_host: int | None
) -> range:
    """Find the devices that this process or its children emulate.

    place: (process_rank, world_size), None without a launcher. Raises ScenarioError when the counts of
    processes and devices do not fit.
    """
    if place is None:
        if devices_per_host is not None:
            raise ScenarioError(
                [
                    f"--devices-per-host: got {devices_per_host} without a launcher, wanted RANK and "
                    "WORLD_SIZE of this host among hosts, MASTER_ADDR and MASTER_PORT"
                ]
            )
        return range(devices)
    rank, processes = place
    per_process = devices_per_host or 1
    wanted = -(-devices // per_process)
    if processes == wanted:
        return range(rank * per_process, min((rank + 1) * per_process, devices))
    if devices_per_host is not None:
        problem = (
            f"WORLD_SIZE: got {processes} hosts, wanted {wanted}: {devices} devices, "
            f"--devices-per-host {devices_per_host}"
        )
    elif processes == 1:  # a run has two devices or more
        problem = (
            f"WORLD_SIZE: got 1 process, wanted {devices}: one per device (or --devices-per-host "
            f"{devices} where it is the only host, or no RANK and WORLD_SIZE without a launcher)"
        )
    else:
        problem = (
            f"WORLD_SIZE: got {processes} processes, wanted {devices}: one per device (or "
            f"--set devices={processes}, or --devices-per-host where a process is a host)"
        )
    raise ScenarioError([problem])


def read_rendezvous_address() -> Address:
    """Read the address of the store. Raises ScenarioError for a wrong MASTER_ADDR or MASTER_PORT."""
    host = os.environ.get("MASTER_ADDR")
    if not host:
        raise ScenarioError(["MASTER_ADDR: not set, wanted the host of device 0"])
    port = _read_number("MASTER_PORT")
    if not 1 <= port <= 65535:
        raise ScenarioError([f"MASTER_PORT: got {port}, wanted a port (1 to 65535)"])
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Address(host, port, f"emulator/{attempt}")


def has_restarted() -> bool:
    """Whether a launcher has started this run before: torchrun (--max-restarts) or Slurm (--requeue)."""
    counts = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return any(os.environ.get(name, "0") not in ("", "0") for name in counts)


def serves_store(process_rank: int) -> bool:
    """Whether this process serves the store, rather than the launcher or another process."""
    return process_rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)


def _read_number(name: str) -> int:
    text = os.environ.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ScenarioError([f"{name}: got {text!r}, wanted a number"])
    return int(text)
