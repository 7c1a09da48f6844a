"""What the emulator needs of the process that it runs in: streams, a working folder, descriptors.

Imports nothing but the standard library: torch itself fails without some of it.
"""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emulator.core.errors import ScenarioError

_DESCRIPTORS_OF_ONE = 40
_DESCRIPTORS_OF_A_DEVICE = 5
"""See `check_descriptors`."""


def open_standard_streams() -> None:
    """Have all three standard streams, whatever the process was started with.

    A descriptor of theirs that is closed would else be the next file's or connection's, and what is
    written to the stream would go there. Characters that an encoding does not have are written as
    backslash escapes.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def report_output_errors() -> Iterator[None]:
    """Standard output that cannot be written is one line and exit code 1; without a reader, no line."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError:
        try:
            os.write(sys.stdout.fileno(), b"\n")  # whether it was this that failed
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(error, BrokenPipeError):
                sys.stderr.write(f"error: standard output: {error.strerror}\n")
            sys.exit(1)
        raise


def check_working_folder() -> None:
    """Raise ScenarioError where the folder that this process stands in has been deleted."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ScenarioError(
            ["working directory: got one that was deleted, wanted one that is there (cd)"]
        ) from None


def check_descriptors(devices: int) -> None:
    """Raise the limit of open files as far as the system lets anybody; refuse where it stays too low.

    devices: with how many this process shares connections: a parent has three pipes and two connections
    to the store for each, a device a connection to every other it meets and two inherited pipes.
    """
    needed = _DESCRIPTORS_OF_ONE + _DESCRIPTORS_OF_A_DEVICE * devices
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= needed:
        return
    if hard != unlimited and hard < needed:
        raise ScenarioError(
            [f"open files: got a limit of {hard}, wanted {needed} for this run (ulimit -Hn)"]
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
