"""What a signal does to a run, and when."""

import os
import signal
import threading

import pytest

from emulator.interrupting import handled, interruptible, uninterrupted


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """Whoever starts tests in the background has them ignore it."""
    with handled({signal.SIGINT: signal.default_int_handler}):
        yield


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_sigterm_is_ctrl_c() -> None:
    before = handlers()
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    assert handlers() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_being_written_is_written(number: signal.Signals) -> None:
    before, written = handlers(), []
    with interruptible():
        with uninterrupted():
            os.kill(os.getpid(), number)
            written.append("all")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert (written, handlers()) == (["all"], before)


def test_a_thread_that_gets_no_signals_needs_no_handlers() -> None:
    done = []

    def in_a_thread() -> None:
        with interruptible(), uninterrupted():
            done.append("written")

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert done == ["written"]
