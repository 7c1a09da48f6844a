"""What goes wrong ends at once, in one line, and leaves no process behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from processes import LIMIT_S
from toy_lives import GRAPHS, Graph, ToyAir, child_main, complete, live, reference, ring

from emulator.core.errors import DeviceFailedError, EmulatorError, ProtocolError, ScenarioError
from emulator.runtime.drivers import many_processes
from emulator.runtime.processes import ChildMain, Post, assign_all_devices, run_forked
from emulator.runtime.transport.gloo import Transport
from emulator.runtime.transport.peers import Address, Timeouts
from emulator.runtime.transport.store import StoreHost, open_store

TOYS = Path(__file__).parents[1] / "support"

DEVICES = 4


def run_toys(
    main: ChildMain, devices: int = DEVICES, stall_timeout_s: float = 2 * LIMIT_S
) -> list[int]:
    """Run and give back the process ids of the children, which must be gone by then."""
    pids: list[int] = []
    try:
        run_forked(
            assign_all_devices(devices),
            main,
            lambda _, header, blob: pids.append(header["pid"]) if "pid" in header else None,
            Timeouts(stall_timeout_s=stall_timeout_s),
        )
    finally:
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
    return pids


def failing(at_device: int, at_exchange: int, fail: Callable[[], None]) -> ChildMain:
    """A ring of which one device fails before an exchange."""

    def main(transport: Transport, post: Post) -> None:
        graph = ring(DEVICES)
        air = ToyAir(transport.device, DEVICES, graph)
        life = live(transport.device, graph, 60)

        class Fails:
            def emit(self, send, exchange_index):
                if (transport.device, exchange_index) == (at_device, at_exchange):
                    fail()
                return air.emit(send, exchange_index)

            def collect(self, send, bursts):
                return air.collect(send, bursts)

        many_processes.run_life(
            life,
            Fails(),
            transport,
            lambda _, commit, records: post(commit.round_index, {}, b""),
        )

    return main


def raise_value_error() -> None:
    raise ValueError("the dog\nate it")


def raise_scenario_error() -> None:
    raise ScenarioError(["a.yaml: x: got 1, wanted 2", "a.yaml: y: missing"])


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exit_silently() -> None:
    os._exit(0)


@pytest.mark.parametrize(
    ("fail", "cause"),
    [
        (raise_value_error, "ValueError: the dog ate it"),
        (kill_self, "its process ended unexpectedly (killed by SIGKILL)"),
        (exit_silently, "its process ended unexpectedly (exit code 0)"),
    ],
)
def test_a_failing_device_is_named_in_one_line(fail: Callable[[], None], cause: str) -> None:
    began_s = time.perf_counter()
    with pytest.raises(DeviceFailedError) as caught:
        run_toys(failing(2, 20, fail))
    assert str(caught.value).startswith(f"device 2 failed (after round 5): {cause}")
    assert time.perf_counter() - began_s < LIMIT_S  # not after the stall timeout


def test_a_failure_before_the_first_exchange_is_named() -> None:
    with pytest.raises(DeviceFailedError, match=r"^device 0 failed \(no round done\): Val"):
        run_toys(failing(0, 0, raise_value_error))


def test_the_traceback_of_the_child_is_a_note() -> None:
    with pytest.raises(DeviceFailedError) as caught:
        run_toys(failing(1, 3, raise_value_error))
    assert "raise_value_error" in "".join(caught.value.__notes__)


def test_wrong_input_stays_wrong_input() -> None:
    with pytest.raises(ScenarioError) as caught:
        run_toys(failing(1, 3, raise_scenario_error))
    assert caught.value.problems == ("a.yaml: x: got 1, wanted 2", "a.yaml: y: missing")


def test_a_failing_message_handler_ends_the_run() -> None:
    def main(transport: Transport, post: Post) -> None:
        post(0, {}, b"")
        time.sleep(60)

    def on_message(device: int, header: object, blob: bytes) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_forked(assign_all_devices(2), main, on_message, Timeouts())
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_no_descriptor_is_left() -> None:
    before = psutil.Process().num_fds()
    run_toys(child_main(complete(3), 3), 3)
    with pytest.raises(DeviceFailedError):
        run_toys(failing(2, 2, kill_self))
    assert psutil.Process().num_fds() == before


def test_a_silent_peer_is_named_after_the_stall_timeout() -> None:
    def main(transport: Transport, post: Post) -> None:
        air = ToyAir(transport.device, 2, ring(2))
        many_processes.run_life(live(transport.device, ring(2), 1), air, transport, lambda *_: None)
        if transport.device == 1:
            time.sleep(60)

    with pytest.raises(DeviceFailedError, match=r"received nothing from device 1 for 4 s"):
        run_toys(main, 2, stall_timeout_s=4.0)


# ── devices that disagree ────────────────────────────────────────────────────────────────────────


def nobody_hears(graph: Graph, deaf: int, index: int) -> Graph:
    """The graph, but one device waits for nobody in one exchange."""
    return lambda device, k: () if (device, k) == (deaf, index) else graph(device, k)


def disagreeing(heard: Graph, said: Graph) -> ChildMain:
    def main(transport: Transport, post: Post) -> None:
        air = ToyAir(transport.device, DEVICES, said)
        many_processes.run_life(live(transport.device, heard), air, transport, lambda *_: None)

    return main


@pytest.mark.parametrize("index", [0, 12])
@pytest.mark.parametrize("name", ["complete", "one_way"])
def test_a_wait_for_nothing_is_a_protocol_error(name: str, index: int) -> None:
    heard = GRAPHS[name](DEVICES)
    said = nobody_hears(heard, 2, index)
    with pytest.raises(
        ProtocolError, match=rf"exchange {index}: device 2 waits for device \d, which"
    ):
        run_toys(disagreeing(heard, said))


@pytest.mark.parametrize("index", [0, 12, 23])
def test_an_unwanted_burst_is_a_protocol_error(index: int) -> None:
    said = complete(DEVICES)
    heard = nobody_hears(said, 2, index)
    with pytest.raises(ProtocolError, match=r"exchange \d+.* device 2"):
        run_toys(disagreeing(heard, said))


def test_a_life_that_ends_early_is_a_protocol_error() -> None:
    def main(transport: Transport, post: Post) -> None:
        air = ToyAir(transport.device, DEVICES, complete(DEVICES))
        exchanges = 5 if transport.device == 1 else 9
        life = live(transport.device, complete(DEVICES), exchanges)
        many_processes.run_life(life, air, transport, lambda *_: None)

    with pytest.raises(ProtocolError, match=r"exchange 5: device \d .* device 1"):
        run_toys(main)


def test_a_slow_device_is_waited_for() -> None:
    def main(transport: Transport, post: Post) -> None:
        if transport.device == 1:
            time.sleep(3.5)
        child_main(ring(DEVICES), 3)(transport, post)

    run_toys(main)


# ── interrupts and orphans ───────────────────────────────────────────────────────────────────────


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(pids: list[int]) -> bool:
    deadline_s = time.monotonic() + LIMIT_S
    while not all(gone(pid) for pid in pids) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return all(gone(pid) for pid in pids)


@pytest.fixture
def endless_run():
    command = [sys.executable, str(TOYS / "toy_run.py")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == DEVICES
    yield parent, pids
    if parent.poll() is None:
        parent.kill()
        parent.wait()
    parent.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all(endless_run, number: int) -> None:
    parent, pids = endless_run
    parent.send_signal(number)
    assert parent.wait(LIMIT_S) == 130
    assert parent.stdout.read() == "interrupted, handler restored: True\n"
    assert wait_until_gone(pids)


def test_an_interrupt_of_the_whole_terminal_ends_all(endless_run) -> None:
    parent, pids = endless_run
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(LIMIT_S) == 130
    assert wait_until_gone(pids)


def test_children_ignore_sigint(endless_run) -> None:
    parent, pids = endless_run
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    time.sleep(0.3)
    assert parent.poll() is None
    assert not any(gone(pid) for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_no_orphans(endless_run) -> None:
    parent, pids = endless_run
    parent.kill()
    assert wait_until_gone(pids)


# ── a launcher's environment ─────────────────────────────────────────────────────────────────────


LATE_ORDER = """
import os, signal
from toy_lives import child_main, ring
from emulator.runtime.transport.peers import Timeouts
from emulator.runtime.launchers import run_launched
run_launched(child_main(ring(2)), lambda device, header, blob: None, Timeouts())
os.kill(os.getpid(), signal.SIGTERM)
print("written")
"""


HOST_ORDER = """
import os, signal, sys
from pathlib import Path
from rich.console import Console
from emulator.runtime import run as running
from emulator.runtime.folder_claim import Claim
from emulator.scenario.schema import Scenario
put = Claim.put
def write(claim, files):
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    put(claim, files)
Claim.put = write
tasks = {"kind": "synthetic", "names": ["sort"], "train_samples": 4, "test_samples": 1}
scenario = Scenario(
    name="host", devices=2, rounds=1, tasks=tasks, method={"kind": "local"}, local={"steps": 1}
)
request = running.RunRequest(scenario, "many_processes", Path(sys.argv[1]), False, devices_per_host=1)
running.run_scenario(request, Console(quiet=True))
"""


def launch(device: int, devices: int, port: int, graph: str) -> subprocess.Popen[str]:
    return start(device, devices, port, [str(TOYS / "toy_lives.py"), graph, str(devices)])


def start(device: int, devices: int, port: int, arguments: list[str]) -> subprocess.Popen[str]:
    env = {
        **os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RANK": str(device), "WORLD_SIZE": str(devices),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    command = [sys.executable, *arguments]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_device_0_hosts_the_store_without_a_launcher(free_port: int) -> None:
    processes = [launch(device, 3, free_port, "ring") for device in range(3)]
    outputs = [process.communicate(timeout=LIMIT_S) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    found = dict(enumerate(out.split()[2] for out, _ in outputs))
    assert found == reference(3, GRAPHS["ring"](3))


def test_launched_devices_that_disagree_all_end(free_port: int) -> None:
    graphs = ["complete", "complete", "one_way"]
    processes = [launch(device, 3, free_port, graph) for device, graph in enumerate(graphs)]
    outputs = [process.communicate(timeout=LIMIT_S) for process in processes]
    assert [process.returncode for process in processes] == [1, 1, 1]
    assert any("ProtocolError: exchange 0: device " in text for _, text in outputs)


def test_a_launcher_that_ends_all_when_the_first_has_ended_loses_no_results(free_port: int) -> None:
    processes = [start(device, 2, free_port, ["-c", LATE_ORDER]) for device in range(2)]
    outputs = [process.communicate(timeout=LIMIT_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs == ["written\n", "written\n"]


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        _, text = launch(0, 2, port, "ring").communicate(timeout=LIMIT_S)
    assert f"EmulatorError: store at 127.0.0.1:{port}: already in use (MASTER_PORT)" in text


def test_an_unreachable_store_is_named(free_port: int) -> None:
    with pytest.raises(
        EmulatorError, match=rf"^store at 127\.0\.0\.1:{free_port}: not reachable within 1 s"
    ):
        Transport(1, 2, Address("127.0.0.1", free_port), Timeouts(connect_timeout_s=1.0))


def test_the_wait_for_a_store_obeys_its_timeout_and_prints_nothing(free_port: int, capfd) -> None:
    began_s = time.monotonic()
    with pytest.raises(EmulatorError):
        open_store(Address("127.0.0.1", free_port), 2.0)
    assert 1.0 < time.monotonic() - began_s < LIMIT_S
    assert capfd.readouterr() == ("", "")


def test_a_store_may_come_late(free_port: int) -> None:
    address = Address("127.0.0.1", free_port)
    with ThreadPoolExecutor() as pool:
        opening = pool.submit(open_store, address, LIMIT_S)
        time.sleep(0.5)
        with StoreHost(socket.create_server(("127.0.0.1", free_port)), address, 1):
            opening.result().set("here", "")


def test_a_host_ignores_sigterm_while_it_writes(free_port: int, tmp_path: Path) -> None:
    order = ["-c", HOST_ORDER, str(tmp_path / "run")]
    processes = [start(host, 2, free_port, order) for host in range(2)]
    outputs = [process.communicate(timeout=LIMIT_S) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert (tmp_path / "run" / "summary.json").is_file()
