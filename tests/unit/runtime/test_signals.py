"""What a signal does to a run, and when."""

import os
import signal
import threading

import pytest

from emulator.runtime.signals import accept_interrupts, ignore_interrupts, set_handlers


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """Whoever starts tests in the background, or under nohup, has them ignore it."""
    with set_handlers({signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}):
        yield


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_process_is_ctrl_c(number: signal.Signals) -> None:
    before = handlers()
    with pytest.raises(KeyboardInterrupt), accept_interrupts():
        os.kill(os.getpid(), number)
    assert handlers() == before


def test_a_hangup_that_is_ignored_stays_so() -> None:
    """As nohup leaves it."""
    done = []
    with set_handlers({signal.SIGHUP: signal.SIG_IGN}), accept_interrupts():
        os.kill(os.getpid(), signal.SIGHUP)
        done.append("went on")
        with ignore_interrupts():
            pass
        os.kill(os.getpid(), signal.SIGHUP)
        done.append("to the end")
    assert done == ["went on", "to the end"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_being_written_is_written(number: signal.Signals) -> None:
    before, written = handlers(), []
    with accept_interrupts():
        with ignore_interrupts():
            os.kill(os.getpid(), number)
            written.append("all")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert (written, handlers()) == (["all"], before)


def test_a_thread_that_gets_no_signals_needs_no_handlers() -> None:
    done = []

    def in_a_thread() -> None:
        with accept_interrupts(), ignore_interrupts():
            done.append("written")

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert done == ["written"]
