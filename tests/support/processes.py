"""Processes that tests start, how they end, and how long that may take."""

import os
import re
import socket
import subprocess
from collections.abc import Sequence

IDLE_S = 60.0
"""What no test waits longer for on an idle machine [s]."""

LIMIT_S = 10 * IDLE_S
"""When a test gives up on what does not come: a loaded machine is slow, only a hang takes so long [s]."""


def free_port_of(ports: range) -> int:
    """One of these ports that nobody listens on, another one in each process that asks.

    Below 30000 no outgoing connection takes it before the test does.
    """
    first = os.getpid() * 37
    for step in range(len(ports)):
        port = ports[(first + step) % len(ports)]
        try:
            socket.create_server(("", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("no port is free")


def without_progress(stderr: str) -> str:
    """What a run without a terminal printed, without the lines that a slow one has every 30 s."""
    line = r"^.* rounds\): \d+ of \d+ rounds done by all\n"
    return re.sub(line, "", stderr, flags=re.MULTILINE)


def ended(started: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and last words (of the streams that are piped) of each; none is left."""
    try:
        said = [process.communicate(timeout=LIMIT_S) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [
        (process.returncode, "".join(filter(None, words)))
        for process, words in zip(started, said, strict=True)
    ]
