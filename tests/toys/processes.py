"""Processes that tests start, and how they end."""

import subprocess
from collections.abc import Sequence


def ended(started: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and last words (of the streams that are piped) of each; none is left."""
    try:
        said = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [
        (process.returncode, "".join(filter(None, words)))
        for process, words in zip(started, said, strict=True)
    ]
