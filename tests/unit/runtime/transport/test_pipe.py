import json
import multiprocessing
import re
import threading
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.core.errors import DeviceFailedError, ProtocolError, ScenarioError
from emulator.runtime.transport.peers import PeerFailedError
from emulator.runtime.transport.pipe import (
    NO_ROUND,
    Done,
    Failure,
    Outlet,
    PostedMessage,
    parse_posting,
)


def posted(write) -> list[PostedMessage | Done | Failure]:
    """What arrives at the other end."""
    here, there = multiprocessing.Pipe(duplex=False)
    writer = threading.Thread(target=lambda: (write(Outlet(there)), there.close()))
    writer.start()
    arrived = []
    with here, suppress(EOFError):
        while True:
            arrived.append(parse_posting(here.recv_bytes()))
    writer.join()
    return arrived


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.text(max_size=9), st.binary(max_size=99)), max_size=4)
)
def test_pipes_arrive_whole_and_in_order(messages: list[tuple[int, str, bytes]]) -> None:
    def write(outlet: Outlet) -> None:
        for round_index, text, blob in messages:
            outlet.post_message(round_index, {"text": text, "list": [1, None, 2.5]}, blob)
        outlet.post_done()

    wanted = [PostedMessage(r, {"text": t, "list": [1, None, 2.5]}, b) for r, t, b in messages]
    assert posted(write) == [*wanted, Done()]


def test_a_posting_larger_than_the_pipe_arrives() -> None:
    blob = bytes(range(256)) * 8192
    assert posted(lambda outlet: outlet.post_message(3, {}, blob)) == [PostedMessage(3, {}, blob)]


def test_failures_keep_their_kind_and_lose_no_line() -> None:
    failures = [
        Failure.of(ValueError("a\nb")),
        Failure.of(ProtocolError("x")),
        Failure.of(ScenarioError(["one", "two"])),
        Failure.of(PeerFailedError(4, "exchange 2: device 1 lost device 4 (closed)")),
    ]
    arrived = posted(lambda outlet: [outlet.post_failure(failure) for failure in failures])
    assert arrived == failures
    errors = [failure.to_error(3, 5) for failure in failures]
    assert str(errors[0]) == "device 3 failed (after round 5): ValueError: a b"
    assert isinstance(errors[1], ProtocolError)
    assert isinstance(errors[2], ScenarioError)
    assert errors[2].problems == ("one", "two")
    assert str(errors[3]) == (
        "device 3 failed (after round 5): exchange 2: device 1 lost device 4 (closed)"
    )
    assert failures[3].peer == 4


def test_an_exception_of_a_users_own_code_names_the_line() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        failure = Failure.of(error)
    where = r"test_pipe.py:\d+ in test_an_exception\w+"
    assert re.fullmatch(rf"JSONDecodeError: Expecting .*, {where}", failure.text)


def test_a_failure_without_a_round_states_it() -> None:
    error = Failure("failed", "why").to_error(0, NO_ROUND)
    assert isinstance(error, DeviceFailedError)
    assert str(error) == "device 0 failed (no round done): why"
