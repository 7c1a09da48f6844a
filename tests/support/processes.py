"""Processes that tests start, how they end, and how long that may take."""

import os
import re
import socket
import subprocess
from collections.abc import Sequence

IDLE_S = 60.0
"""The longest wait on an idle machine [s]."""

LIMIT_S = 10 * IDLE_S
"""The longest wait of a test [s]: a loaded machine is slow, but only a hang takes so long."""


def free_port_of(ports: range) -> int:
    """One of these ports without a listener, another one in each process.

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
    """Return exit code and output (of piped streams) of each process; all are ended."""
    try:
        printed = [process.communicate(timeout=LIMIT_S) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [
        (process.returncode, "".join(filter(None, words)))
        for process, words in zip(started, printed, strict=True)
    ]
