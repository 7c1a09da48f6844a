"""Requirements of the process: standard streams, a working folder, and enough file descriptors.

Only the standard library is imported here, because torch itself fails without some of them.
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
    """Open the standard streams that are closed.

    Otherwise the next file or connection would get the descriptor of a closed stream, and output would
    go there. Characters that an encoding lacks are written as backslash escapes.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def report_output_errors() -> Iterator[None]:
    """End with one line and exit code 1 where standard output fails; without a line for a closed pipe."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError:
        try:
            os.write(sys.stdout.fileno(), b"\n")  # find out whether standard output failed
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(error, BrokenPipeError):
                sys.stderr.write(f"error: standard output: {error.strerror}\n")
            sys.exit(1)
        raise


def check_working_folder() -> None:
    """Raise ScenarioError where the working folder of this process has been deleted."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ScenarioError(
            ["working directory: got one that was deleted, wanted one that is there (cd)"]
        ) from None


def check_descriptors(devices: int) -> None:
    """Raise the limit of open files to what a run needs. Raises ScenarioError above the hard limit.

    devices: number of devices that this process is connected to. A parent has three pipes and two store
    connections for each device; a device has one connection to each peer and two inherited pipes.
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
