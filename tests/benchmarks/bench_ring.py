"""The peers' job, whole process: a ring of 16, 1 M parameters, 4 MB to each neighbour, 10 rounds.

Everything of ours is in it but training: messages through the wire's codec, an ideal channel and the
account, over gloo. Time is from the start of the interpreter to its end; memory the largest sum over all
processes, shared pages counted once (PSS), looked at five times a second. The peers' figures were taken
on another run of the same kind of machine (2 cores): decentralizepy 38.8 s and 3.6 GB, Flower 28.7 s and
1.7 GB. The bare script exchanges the same floats as one gloo message each, from forked processes.
"""

import subprocess
import sys
import time
from contextlib import suppress

import psutil

DEVICES, PARAMETERS, ROUNDS = 16, 1_000_000, 10
LOOK_S = 0.2
PEERS = {"decentralizepy": (38.8, 3600.0), "Flower": (28.7, 1700.0)}


def neighbours(device: int) -> tuple[int, ...]:
    """Both, sorted."""
    return tuple(sorted({(device - 1) % DEVICES, (device + 1) % DEVICES}))


def ours() -> None:
    """The job through the emulator's own parts."""
    import numpy as np

    from emulator.core.types.adapter import AdapterLayout, Mask
    from emulator.core.types.message import Kind, Known, Message, Traffic, ValueType
    from emulator.core.types.steps import Send
    from emulator.network.channel.access import IdealAccess
    from emulator.network.channel.ideal import Ideal
    from emulator.network.shim import Shim
    from emulator.network.wire import WireFormat
    from emulator.runtime.drivers import many_processes
    from emulator.runtime.processes import assign_all_devices, run_forked
    from emulator.runtime.transport.peers import Timeouts

    layout = AdapterLayout(("all",), ((PARAMETERS,),))
    mask, channel = Mask.full(PARAMETERS), Ideal().bind(DEVICES, 1)

    def life(device: int):
        values_N = np.full(PARAMETERS, device, dtype=np.float32)
        others, now_s = neighbours(device), 0.0
        for round_index in range(ROUNDS):
            message = Message(
                kind=Kind.VALUES, traffic=Traffic.IN_CLUSTER, source=device, origin=device,
                round_index=round_index, receivers=others, layout=layout, mask=mask, values=values_N,
                value_type=ValueType.FLOAT32, mask_known=True, reliable=False,
            )  # fmt: skip
            inbox = yield Send(now_s, (message,), others, Known.of(mask, layout))
            received_values = [received.values for received in inbox.received]
            values_N = (values_N + received_values[0] + received_values[1]) / np.float32(3)
        return float(values_N.mean())

    def child(transport, post) -> None:
        air = Shim(transport.device, WireFormat(), IdealAccess(), channel)
        outcome = many_processes.run_life(life(transport.device), air, transport, lambda *_: None)
        post(ROUNDS, {"mean": outcome.result}, b"")

    means = {}
    run_forked(
        assign_all_devices(DEVICES),
        child,
        lambda d, head, _: means.update({d: head["mean"]}),
        Timeouts(),
    )
    assert abs(sum(means.values()) / DEVICES - (DEVICES - 1) / 2) < 1e-3


def bare() -> None:
    """The same floats without us: forked processes, one gloo message to each neighbour."""
    import os
    import tempfile

    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    os.environ["TORCH_GLOO_LAZY_INIT"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for device in range(DEVICES):
            children.append(os.fork())
            if children[-1]:
                continue
            store = dist.FileStore(f"{folder}/store", DEVICES)
            dist.init_process_group("gloo", store=store, rank=device, world_size=DEVICES)
            values_N = torch.full((PARAMETERS,), float(device))
            into_of = {other: torch.empty(PARAMETERS) for other in neighbours(device)}
            for _ in range(ROUNDS):
                works = [dist.irecv(into, other) for other, into in into_of.items()]
                works += [dist.isend(values_N.clone(), other) for other in into_of]
                for work in works:
                    work.wait()
                values_N = (values_N + sum(into_of.values())) / 3
            dist.barrier()
            os._exit(0)
        assert all(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 for pid in children)


def pss_mb(process: psutil.Process) -> float:
    """Memory of a process and its children; what several share is counted once."""
    total_bytes = 0
    for each in (process, *process.children()):
        with suppress(psutil.NoSuchProcess):  # ended meanwhile
            total_bytes += each.memory_full_info().pss
    return total_bytes / 1e6


def watched(job: str) -> tuple[float, float]:
    """Wall seconds of a process of its own, and the most memory that it and its children held."""
    most_mb, began_s = 0.0, time.monotonic()
    with subprocess.Popen([sys.executable, __file__, "--job", job]) as process:
        while process.poll() is None:
            most_mb = max(most_mb, pss_mb(psutil.Process(process.pid)))
            time.sleep(LOOK_S)
    assert process.returncode == 0
    return time.monotonic() - began_s, most_mb


def figures():
    """Ours, the peers', and a bare script's."""
    from figures import Figure

    wall_s, memory_mb = watched("ours")
    yield Figure("whole job", wall_s, "s", at_most=min(s for s, _ in PEERS.values()))
    yield Figure(
        "memory, all processes", memory_mb, "MB", at_most=min(m for _, m in PEERS.values())
    )
    for peer, (peer_s, peer_mb) in PEERS.items():
        yield Figure(f"{peer}'s time against ours", peer_s / wall_s)
        yield Figure(f"{peer}'s memory against ours", peer_mb / memory_mb)
    bare_s, bare_mb = watched("bare")
    yield Figure("bare torch.distributed, the same floats", bare_s, "s")
    yield Figure("bare torch.distributed: memory", bare_mb, "MB")


if __name__ == "__main__":
    if "--job" in sys.argv:
        {"ours": ours, "bare": bare}[sys.argv[-1]]()
    else:
        from figures import print_figures

        print_figures(f"Ring of {DEVICES}, {PARAMETERS:,d} parameters, {ROUNDS} rounds", figures())
