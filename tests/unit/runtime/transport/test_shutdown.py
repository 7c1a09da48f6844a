"""The end of several launched processes: together, after the first has written."""

import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from processes import LIMIT_S

from emulator.core.errors import DeviceFailedError, EmulatorError
from emulator.runtime.transport.peers import Address
from emulator.runtime.transport.shutdown import ShutdownGroup, leave_together
from emulator.runtime.transport.store import StoreHost

PROCESSES = 3
SOON_S = 0.5


@pytest.fixture
def host():
    listener = socket.create_server(("127.0.0.1", 0))
    address = Address(*listener.getsockname())
    with StoreHost(listener, address, PROCESSES) as host:
        yield host, address


def nothing() -> None:
    pass


def left(pool, address, rank, conclude=nothing, timeout_s=LIMIT_S) -> "Future[None]":
    group = ShutdownGroup(rank, PROCESSES, address, timeout_s)
    return pool.submit(leave_together, group, conclude)


def test_none_leaves_before_the_first_has_written(host) -> None:
    may_write, writes = threading.Event(), threading.Event()

    def write() -> None:
        writes.set()
        may_write.wait(LIMIT_S)

    with ThreadPoolExecutor() as pool:
        ends = [left(pool, host[1], rank, write) for rank in range(PROCESSES)]
        assert writes.wait(LIMIT_S)
        with pytest.raises(TimeoutError):
            ends[1].result(SOON_S)
        assert not any(end.done() for end in ends)
        may_write.set()
        assert [end.result(LIMIT_S) for end in ends] == [None] * PROCESSES


def test_where_the_first_cannot_write_all_fail(host) -> None:
    def write() -> None:
        raise EmulatorError("disk full")

    with ThreadPoolExecutor() as pool:
        first, *others = [left(pool, host[1], rank, write) for rank in range(PROCESSES)]
        with pytest.raises(EmulatorError, match="disk full"):
            first.result(LIMIT_S)
        for other in others:
            with pytest.raises(DeviceFailedError, match="process 0 could not write the results"):
                other.result(LIMIT_S)


def test_where_the_first_is_lost_no_process_waits_on(host) -> None:
    with ThreadPoolExecutor() as pool:
        others = [left(pool, host[1], rank) for rank in (1, 2)]
        with pytest.raises(TimeoutError):
            others[0].result(SOON_S)
        host[0].__exit__()
        for other in others:
            with pytest.raises(DeviceFailedError, match="process 0 was lost before the results"):
                other.result(LIMIT_S)


def test_the_wait_for_a_silent_first_process_ends(host) -> None:
    with ThreadPoolExecutor() as pool, pytest.raises(DeviceFailedError, match=r"within 0\.5 s"):
        left(pool, host[1], 1, timeout_s=SOON_S).result(LIMIT_S)
